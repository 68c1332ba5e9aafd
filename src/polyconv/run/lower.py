"""From a layer and its input's shape to what an engine is asked to run."""

from __future__ import annotations

from typing import Any, Literal, cast

from polyconv.layers import Conv, ConvTranspose, Layer, Pool, Sizes
from polyconv.run.problem import Layout, Pads, Problem

Windowed = Conv | ConvTranspose | Pool


def problem_of(layer: Windowed, in_channels: int, ndim: int, dtype: str, layout: Layout) -> Problem:
    """The engine's problem for a windowed layer over ``ndim`` axes; ValueError where channels do not fit."""
    out_channels = layer.out_channels_for(in_channels)
    op: Any
    if isinstance(layer, Conv):
        op, groups = "conv", layer.groups_for(in_channels)
    elif isinstance(layer, ConvTranspose):
        op, groups = "conv_transpose", layer.groups
    else:
        op, groups = f"{layer.kind}_pool", in_channels
    return Problem(
        op=op,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=layer.kernel_for(ndim),
        stride=layer.strides_for(ndim),
        dilation=layer.dilations_for(ndim),
        groups=groups,
        bias=not isinstance(layer, Pool) and layer.bias,
        activation=None if isinstance(layer, Pool) else layer.activation,
        dtype=cast(Literal["float32", "float64"], dtype),
        layout=layout,
        count_include_pad=not isinstance(layer, Pool) or layer.count_include_pad,
    )


def sizes_of(layer: Layer, spatial: Sizes) -> tuple[Pads, Sizes]:
    """Padding (for a transposed layer: crop) as numbers, and the output's spatial size."""
    axes = cast(Windowed, layer).axes(spatial)
    return tuple((axis.before, axis.after) for axis in axes), layer.out_size(spatial)


def spatial_of(shape: Sizes, layout: Layout) -> Sizes:
    """The spatial part of an array's shape."""
    return shape[2:] if layout == "channels_first" else shape[1:-1]


def channels_of(shape: Sizes, layout: Layout) -> int:
    """The channels of an array's shape."""
    return shape[1] if layout == "channels_first" else shape[-1]
