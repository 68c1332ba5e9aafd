"""From a layer and its input's shape to what an engine is asked to run."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Literal, NamedTuple, cast

from polyconv import reference
from polyconv.layers import Conv, ConvTranspose, Layer, Pool, Sizes, windows_over
from polyconv.run.problem import Array, Layout, Pads, Prepared, Problem
from polyconv.run.weights import adjoint

Windowed = Conv | ConvTranspose | Pool
WINDOWED = (Conv, ConvTranspose, Pool)


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


def lowered(layer: Any, weight: Array | None = None) -> tuple[Any, Array | None]:
    """The layer that an engine runs in place of this one, with its weights: a convolution, for a stride of 1."""
    if not isinstance(layer, ConvTranspose) or layer.as_conv is None:
        return layer, weight
    return layer.as_conv, None if weight is None else adjoint(weight, layer.groups)


def sizes_of(layer: Layer, spatial: Sizes) -> tuple[Pads, Sizes]:
    """Padding (for a transposed layer: crop) as numbers, and the output's spatial size."""
    return windows_over(cast(Windowed, layer), spatial)


class Request(NamedTuple):
    """What an engine is asked for one shape of a layer's input (all shapes in the layer's layout).

    Engines imply zeros around their input. Any other padding is a copy of the input, made before: then ``in_shape`` is
    the copy's, ``padding`` is nothing, and ``mode`` and ``copied`` say what is put around.
    """

    in_shape: Sizes
    padding: Pads
    out_size: Sizes
    layout: Layout
    mode: str = "zeros"
    copied: Pads | None = None

    def source(self, x: Array) -> Array:
        """The engine's input, for the layer's."""
        return x if self.copied is None else reference.pad_with(x, self.copied, self.mode, self.layout)

    def step(self, prepared: Prepared) -> Callable[[Array], Array]:
        """The layer, for inputs of this shape."""
        run = prepared.at(self.in_shape, self.padding, self.out_size)
        return run if self.copied is None else lambda x: run(self.source(x))

    def explain(self, prepared: Prepared, dtype: Any) -> str:
        """What runs: algorithm, tile, threads, workspace, and why."""
        said = prepared.explain(self.in_shape, self.padding, self.out_size)
        if self.copied is None:
            return said
        copy = f"a copy of the input padded ({self.mode}) to {self.in_shape}"
        return f"{said}; on {copy}, {prod(self.in_shape) * dtype.itemsize / 1024:.0f} KiB more of workspace"


def request_of(layer: Windowed, in_shape: Sizes, layout: Layout) -> Request:
    """What an engine is asked for an input of this shape; ValueError where the layer does not fit it."""
    return requested(layer, in_shape[0], channels_of(in_shape, layout), spatial_of(in_shape, layout), layout)


def requested(layer: Windowed, batch: int, channels: int, spatial: Sizes, layout: Layout) -> Request:
    """As ``request_of``, for the parts of the input's shape."""
    padding, out_size = windows_over(layer, spatial)
    plain = lowered(layer)[0]
    if plain is not layer and 0 not in spatial:  # of nothing nothing is computed, and a convolution refuses it
        padding, _ = windows_over(plain, spatial)
    mode = layer.padding_mode if isinstance(layer, Conv) else "zeros"
    if mode == "zeros" or not any(map(any, padding)):
        return Request(shaped(batch, channels, spatial, layout), padding, out_size, layout)
    around = tuple(size + before + after for size, (before, after) in zip(spatial, padding, strict=True))
    return Request(shaped(batch, channels, around, layout), ((0, 0),) * len(padding), out_size, layout, mode, padding)


def shaped(batch: int, channels: int, spatial: Sizes, layout: Layout) -> Sizes:
    """The shape of an array in a layout."""
    return (batch, channels, *spatial) if layout == "channels_first" else (batch, *spatial, channels)


def spatial_of(shape: Sizes, layout: Layout) -> Sizes:
    """The spatial part of an array's shape."""
    return shape[2:] if layout == "channels_first" else shape[1:-1]


def channels_of(shape: Sizes, layout: Layout) -> int:
    """The channels of an array's shape."""
    return shape[1] if layout == "channels_first" else shape[-1]
