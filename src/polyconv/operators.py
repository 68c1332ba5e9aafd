"""The public functions on arrays.

``x`` is (batch, channels, *spatial), or (batch, *spatial, channels) with ``layout="channels_last"``. Convolution
weights are (out_channels, in_channels / groups, *kernel); transposed ones (in_channels, out_channels / groups,
*kernel). Everything is checked before any work; inputs are never written.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np

from polyconv._checks import choice, flag, per_axis, whole
from polyconv.layers import ACTIVATIONS, Conv, ConvTranspose, Pool, Sizes, Spatial
from polyconv.run.arrays import as_array, as_kind_of, same_dtype
from polyconv.run.engines import run_once
from polyconv.run.lower import Request, Windowed, channels_of, lowered, problem_of, request_of, spatial_of
from polyconv.run.model import LAYOUTS
from polyconv.run.problem import Array, Layout, Problem

PaddingLike = str | int | Sequence[int] | Sequence[tuple[int, int]]
SizeLike = int | Sequence[int]


def conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: SizeLike = 1,
    padding: PaddingLike = 0,
    dilation: SizeLike = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "channels_first",
) -> Any:
    """Convolve: standard, dilated, grouped or depthwise, in any number of spatial axes.

    Args:
        x: (batch, in_channels, *spatial), or (batch, *spatial, in_channels) with layout "channels_last".
        weight: (out_channels, in_channels / groups, *kernel); correlated, not flipped.
        bias: (out_channels,), or None.
        stride: one number or one per axis.
        padding: an int, one per axis, (before, after) per axis, or "valid", "same", "full", "causal" (1-D).
        dilation: one number or one per axis; 1 is none.
        groups: groups of channels; in_channels for a depthwise convolution.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        activation: None, or one of ``polyconv.ACTIVATIONS``, applied to the result.
        layout: "channels_first" or "channels_last", of x and of the result.

    Returns:
        (batch, out_channels, *out) in x's layout, dtype and kind of array.

    Raises:
        ValueError: shapes or options that do not fit.
        TypeError: dtypes other than float32 and float64, or mixed.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.conv(np.ones((1, 3, 8, 8)), np.ones((5, 3, 3, 3)), padding="same", stride=2).shape
        (1, 5, 4, 4)
    """
    arrays = _arrays(x, weight, bias, layout)
    _check_weight(arrays[1], arrays[0])
    whole(groups, "groups")
    out_channels = arrays[1].shape[0]
    kernel = arrays[1].shape[2:]
    layer = _layer(
        Conv, kernel, stride, padding, dilation, groups, out_channels, padding_mode, activation, bias is None
    )
    return _run(x, layer, *arrays, layout)


def pointwise_conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: SizeLike = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "channels_first",
) -> Any:
    """A 1x1 convolution: mixes channels at each position.

    Args:
        x: as for ``conv``.
        weight: (out_channels, in_channels / groups), or with a 1 for each axis behind it.
        bias: (out_channels,), or None.
        stride: one number or one per axis.
        groups: groups of channels.
        activation: as for ``conv``.
        layout: as for ``conv``.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.pointwise_conv(np.ones((1, 3, 8, 8)), np.ones((5, 3))).shape
        (1, 5, 8, 8)
    """
    data, kernel, added = _arrays(x, weight, bias, layout)
    _check_pointwise(kernel, data)
    _check_channels(whole(groups, "groups"), data, kernel, layout)
    kernel = kernel.reshape(*kernel.shape[:2], *(1,) * (data.ndim - 2))
    return as_kind_of(x, conv(data, kernel, added, stride=stride, groups=groups, activation=activation, layout=layout))


def depthwise_conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: SizeLike = 1,
    padding: PaddingLike = 0,
    dilation: SizeLike = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "channels_first",
) -> Any:
    """Filter each channel by itself, with ``multiplier`` filters for each.

    Args:
        x: as for ``conv``.
        weight: (in_channels * multiplier, 1, *kernel); output channel c * multiplier + m comes from channel c.
        bias: (in_channels * multiplier,), or None.
        stride: as for ``conv``.
        padding: as for ``conv``.
        dilation: as for ``conv``.
        padding_mode: as for ``conv``.
        activation: as for ``conv``.
        layout: as for ``conv``.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.depthwise_conv(np.ones((1, 3, 8, 8)), np.ones((6, 1, 3, 3)), padding="same").shape
        (1, 6, 8, 8)
    """
    data, kernel, added = _arrays(x, weight, bias, layout)
    _check_weight(kernel, data)
    channels = channels_of(data.shape, cast(Layout, choice(layout, LAYOUTS, "layout")))
    if kernel.shape[1] != 1 or channels == 0 or kernel.shape[0] % channels:
        raise ValueError(
            f"a depthwise weight is (in_channels * multiplier, 1, *kernel); x of shape {data.shape} has {channels} "
            f"channels, weight has shape {kernel.shape}"
        )
    return as_kind_of(
        x,
        conv(
            data,
            kernel,
            added,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=channels,
            padding_mode=padding_mode,
            activation=activation,
            layout=layout,
        ),
    )


def separable_conv(
    x: Any,
    depthwise_weight: Any,
    pointwise_weight: Any,
    bias: Any = None,
    *,
    depthwise_bias: Any = None,
    stride: SizeLike = 1,
    padding: PaddingLike = 0,
    dilation: SizeLike = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "channels_first",
) -> Any:
    """A depthwise separable convolution: ``depthwise_conv``, then ``pointwise_conv`` with the activation.

    Args:
        x: as for ``conv``.
        depthwise_weight: (in_channels * multiplier, 1, *kernel).
        pointwise_weight: (out_channels, in_channels * multiplier), or with a 1 for each axis behind it.
        bias: (out_channels,), or None.
        depthwise_bias: (in_channels * multiplier,), or None.
        stride: of the depthwise part.
        padding: of the depthwise part.
        dilation: of the depthwise part.
        padding_mode: of the depthwise part.
        activation: after the pointwise part.
        layout: as for ``conv``.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.separable_conv(np.ones((1, 3, 8, 8)), np.ones((3, 1, 3, 3)), np.ones((5, 3))).shape
        (1, 5, 6, 6)
    """
    data, filters, before = _arrays(x, depthwise_weight, depthwise_bias, layout, "depthwise_weight", "depthwise_bias")
    _, mixing, added = _arrays(x, pointwise_weight, bias, layout, "pointwise_weight")
    if mixing.ndim < 2 or filters.ndim < 3 or mixing.shape[1] != filters.shape[0]:
        raise ValueError(
            "pointwise_weight is (out_channels, in_channels * multiplier) and depthwise_weight "
            f"(in_channels * multiplier, 1, *kernel); got {mixing.shape} and {filters.shape}"
        )
    _check_pointwise(mixing, data, "pointwise_weight")
    _check_bias(before, filters.shape[0], "depthwise_bias")
    _check_bias(added, mixing.shape[0])
    _check_activation(activation)
    middle = depthwise_conv(
        data,
        filters,
        before,
        stride=stride,
        padding=padding,
        dilation=dilation,
        padding_mode=padding_mode,
        layout=layout,
    )
    return as_kind_of(x, pointwise_conv(middle, mixing, added, activation=activation, layout=layout))


def spatially_separable_conv(
    x: Any,
    weights: Sequence[Any],
    biases: Sequence[Any] | None = None,
    *,
    stride: SizeLike = 1,
    padding: PaddingLike = 0,
    dilation: SizeLike = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "channels_first",
) -> Any:
    """A spatially separable convolution: kx1, then 1xk (one convolution for each axis), the activation last.

    Args:
        x: as for ``conv``.
        weights: for each axis in order, (out_channels, in_channels, 1, ..., kernel, ..., 1) with the kernel on it.
        biases: for each axis, (out_channels,) or None; or None.
        stride: applied on each axis by its own convolution.
        padding: likewise.
        dilation: likewise.
        padding_mode: as for ``conv``.
        activation: after the last.
        layout: as for ``conv``.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> column, row = np.ones((4, 3, 3, 1)), np.ones((4, 4, 1, 3))
        >>> pc.spatially_separable_conv(np.ones((1, 3, 8, 8)), [column, row], padding=1, stride=2).shape
        (1, 4, 4, 4)
    """
    data = as_array(x, "x")
    _check_layout(data, layout)
    ndim = data.ndim - 2
    given = _listed(weights, "weights")
    kernels = [as_array(weight, f"weights[{axis}]") for axis, weight in enumerate(given)]
    added = [None] * ndim if biases is None else _listed(biases, "biases")
    if len(kernels) != ndim or len(added) != ndim:
        raise ValueError(
            f"x of shape {data.shape} has {ndim} spatial axes: pass {ndim} weights and as many biases, "
            f"got {len(kernels)} and {len(added)}"
        )
    for axis, kernel in enumerate(kernels):
        if kernel.ndim != data.ndim or any(size != 1 for n, size in enumerate(kernel.shape[2:]) if n != axis):
            raise ValueError(f"weights[{axis}] must have its kernel on axis {axis} only, got shape {kernel.shape}")
        if axis and kernel.shape[1] != kernels[axis - 1].shape[0]:
            raise ValueError(
                f"weights[{axis}] of shape {kernel.shape} reads {kernel.shape[1]} channels, "
                f"weights[{axis - 1}] of shape {kernels[axis - 1].shape} gives {kernels[axis - 1].shape[0]}"
            )
        extra = None if added[axis] is None else as_array(added[axis], f"biases[{axis}]")
        names = ("x", f"weights[{axis}]", f"biases[{axis}]")
        same_dtype(
            dict(zip(names, (data, kernel, extra), strict=True)),
            dict(zip(names, (x, given[axis], added[axis]), strict=True)),
        )
        _check_bias(extra, kernel.shape[0], f"biases[{axis}]")
    _check_channels(1, data, kernels[0], layout, "weights[0]")
    _check_activation(activation)
    whole_layer = Conv(
        kernel_size=tuple(kernel.shape[2 + axis] for axis, kernel in enumerate(kernels)),
        out_channels=1,
        stride=stride,  # type: ignore[arg-type]
        padding=padding,
        dilation=dilation,  # type: ignore[arg-type]
        padding_mode=padding_mode,
    )
    whole_layer.out_size(spatial_of(data.shape, cast(Layout, layout)))
    result: Any = data
    for axis, (_, part) in enumerate(Spatial(whole_layer).parts()):
        part = cast(Conv, part)
        result = conv(
            result,
            kernels[axis],
            added[axis],
            stride=cast(Sizes, part.stride),
            padding=part.padding,
            dilation=cast(Sizes, part.dilation),
            padding_mode=padding_mode,
            activation=activation if axis == ndim - 1 else None,
            layout=layout,
        )
    return as_kind_of(x, result)


def conv_transpose(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: SizeLike = 1,
    padding: PaddingLike = 0,
    output_padding: SizeLike = 0,
    dilation: SizeLike = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "channels_first",
) -> Any:
    """Transposed (fractionally strided) convolution: the adjoint of ``conv`` with the same window.

    Args:
        x: (batch, in_channels, *spatial), or (batch, *spatial, in_channels).
        weight: (in_channels, out_channels / groups, *kernel).
        bias: (out_channels,), or None.
        stride: one number or one per axis.
        padding: crops the output, as in PyTorch; or a word: "same" gives input * stride, cropped as Keras does.
        output_padding: computed outputs added at the end; smaller than stride or dilation.
        dilation: one number or one per axis; 1 is none.
        groups: groups of channels.
        activation: as for ``conv``.
        layout: as for ``conv``.

    Returns:
        (batch, out_channels, *out) in x's layout, out = (in - 1) * stride + span - padding + output_padding.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.conv_transpose(np.ones((1, 1, 2)), np.ones((1, 1, 3)), stride=2)
        array([[[1., 1., 2., 1., 1.]]])
    """
    arrays = _arrays(x, weight, bias, layout)
    _check_weight(arrays[1], arrays[0])
    whole(groups, "groups")
    layer = _layer(
        ConvTranspose,
        arrays[1].shape[2:],
        stride,
        padding,
        dilation,
        groups,
        arrays[1].shape[1] * groups,
        output_padding,
        activation,
        bias is None,
    )
    return _run(x, layer, *arrays, layout)


def max_pool(
    x: Any,
    kernel_size: SizeLike,
    *,
    stride: SizeLike | None = None,
    padding: PaddingLike = 0,
    dilation: SizeLike = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> Any:
    """The largest value in each window; padding never wins.

    Args:
        x: (batch, channels, *spatial), or (batch, *spatial, channels).
        kernel_size: one number or one per axis.
        stride: likewise; None for the kernel's size.
        padding: as for ``conv``, smaller than the window.
        dilation: as for ``conv``.
        ceil_mode: round the output size up.
        layout: as for ``conv``.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.max_pool(np.arange(6.0).reshape(1, 1, 6), 2)
        array([[[1., 3., 5.]]])
    """
    return _pool(x, "max", kernel_size, stride, padding, dilation, ceil_mode, True, layout)


def avg_pool(
    x: Any,
    kernel_size: SizeLike,
    *,
    stride: SizeLike | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str = "channels_first",
) -> Any:
    """The mean of each window.

    Args:
        x: (batch, channels, *spatial), or (batch, *spatial, channels).
        kernel_size: one number or one per axis.
        stride: likewise; None for the kernel's size.
        padding: as for ``conv``, smaller than the window.
        ceil_mode: round the output size up.
        count_include_pad: whether padding counts in the divisor (PyTorch's default; TensorFlow's is False).
        layout: as for ``conv``.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> pc.avg_pool(np.arange(6.0).reshape(1, 1, 6), 2)
        array([[[0.5, 2.5, 4.5]]])
    """
    return _pool(x, "avg", kernel_size, stride, padding, 1, ceil_mode, count_include_pad, layout)


def _pool(
    x: Any,
    kind: Any,
    kernel_size: SizeLike,
    stride: SizeLike | None,
    padding: PaddingLike,
    dilation: SizeLike,
    ceil_mode: bool,
    count_include_pad: bool,
    layout: str,
) -> Any:
    data = as_array(x, "x")
    _check_layout(data, layout)
    layer = Pool(
        kind=kind,
        kernel_size=per_axis(kernel_size, data.ndim - 2, "kernel_size"),
        stride=stride,  # type: ignore[arg-type]
        padding=padding,
        dilation=dilation,  # type: ignore[arg-type]
        ceil_mode=flag(ceil_mode, "ceil_mode"),
        count_include_pad=flag(count_include_pad, "count_include_pad"),
    )
    return _run(x, layer, data, None, None, layout)


def _arrays(
    x: Any, weight: Any, bias: Any, layout: str, weight_name: str = "weight", bias_name: str = "bias"
) -> tuple[Array, Array, Array | None]:
    """The three arrays, of one dtype."""
    data, kernel = as_array(x, "x"), as_array(weight, weight_name)
    added = None if bias is None else as_array(bias, bias_name)
    same_dtype({"x": data, weight_name: kernel, bias_name: added}, {"x": x, weight_name: weight, bias_name: bias})
    _check_layout(data, layout)
    return data, kernel, added


def _check_layout(x: Array, layout: str) -> None:
    choice(layout, LAYOUTS, "layout")
    if x.ndim < 3:
        wanted = "(batch, channels, *spatial)" if layout == "channels_first" else "(batch, *spatial, channels)"
        raise ValueError(f"x must be {wanted} with at least one spatial axis, got shape {x.shape}")


def _check_weight(weight: Array, x: Array) -> None:
    if weight.ndim != x.ndim:
        raise ValueError(
            f"x of shape {x.shape} has {x.ndim - 2} spatial axes, weight of shape {weight.shape} has "
            f"{weight.ndim - 2} kernel axes. They must be equal"
        )
    _check_not_empty(weight, "weight")


def _check_not_empty(weight: Array, name: str) -> None:
    if 0 in weight.shape:
        raise ValueError(f"{name} has shape {weight.shape}: every size must be at least 1")


def _check_pointwise(weight: Array, x: Array, name: str = "weight") -> None:
    if weight.ndim < 2 or weight.shape[2:] not in ((), (1,) * (x.ndim - 2)):
        raise ValueError(
            f"a pointwise weight is (out_channels, in_channels / groups), or that with a 1 for each of the "
            f"{x.ndim - 2} spatial axes of x={x.shape}; got {name}={weight.shape}"
        )
    _check_not_empty(weight, name)


def _check_bias(bias: Array | None, out_channels: int, name: str = "bias") -> None:
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"{name} must have shape ({out_channels},), a value for each output channel; got {bias.shape}")


def _listed(values: Any, name: str) -> list[Any]:
    """One array for each axis, as a list."""
    try:
        return list(values)
    except TypeError:
        raise ValueError(f"{name} must be a sequence with one array for each spatial axis, got {values!r}") from None


def _check_activation(activation: str | None) -> None:
    if activation is not None:
        choice(activation, ACTIVATIONS, "activation")


def _hashable(value: Any) -> Any:
    """Options as a value that a cache can look up; what has no hash as its text, which no option takes."""
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return tuple(map(_hashable, value))
    return value if isinstance(value, Hashable) else repr(value)


def _layer(kind: Any, *fields: Any) -> Any:
    return _cached_layer(kind, *map(_hashable, fields))


@lru_cache(maxsize=1024, typed=True)
def _cached_layer(
    kind: Any,
    kernel: Sizes,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    out_channels: int,
    mode_or_extra: Any,
    activation: str | None,
    no_bias: bool,
) -> Any:
    own = {"padding_mode": mode_or_extra} if kind is Conv else {"output_padding": mode_or_extra}
    return kind(
        kernel_size=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        out_channels=out_channels,
        activation=activation,
        bias=not no_bias,
        **own,
    )


def _run(x: Any, layer: Windowed, data: Array, weight: Array | None, bias: Array | None, layout: str) -> Any:
    """Check channels and sizes, then run one layer."""
    order = cast(Layout, layout)
    channels = channels_of(data.shape, order)
    if weight is not None:
        if isinstance(layer, Conv):
            _check_channels(layer.groups or 1, data, weight, layout)
        else:
            _check_transposed_channels(data, weight, layout)
        _check_bias(bias, layer.out_channels_for(channels))
    weight = lowered(layer, weight)[1]
    asked, problem = _asked(layer, data.shape, data.dtype.name, order)
    return as_kind_of(x, run_once(problem, weight, bias, asked.source(data), asked.padding, asked.out_size))


@lru_cache(maxsize=1024)
def _asked(layer: Windowed, shape: Sizes, dtype: str, layout: Layout) -> tuple[Request, Problem]:
    asked = request_of(layer, shape, layout)
    return asked, problem_of(lowered(layer)[0], channels_of(shape, layout), len(shape) - 2, dtype, layout)


def _check_channels(groups: int, x: Array, weight: Array, layout: str, name: str = "weight") -> None:
    channels, wanted = channels_of(x.shape, cast(Layout, layout)), weight.shape[1] * groups
    if channels != wanted:
        raise ValueError(
            f"x has {channels} channels, {name} expects {weight.shape[1]} x groups={groups} = {wanted}; got "
            f"x={x.shape} with layout={layout!r}, {name}={weight.shape}. Change groups, the second size of {name} "
            "or the layout"
        )


def _check_transposed_channels(x: Array, weight: Array, layout: str) -> None:
    channels = channels_of(x.shape, cast(Layout, layout))
    if channels != weight.shape[0]:
        raise ValueError(
            f"x has {channels} channels, weight expects {weight.shape[0]}; got x={x.shape} with layout={layout!r}, "
            f"weight={weight.shape}. A transposed weight is (in_channels, out_channels / groups, *kernel)"
        )
