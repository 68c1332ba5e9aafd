"""What each layer means, in plain NumPy, short enough to read aloud.

Every function takes x as (batch, channels, *spatial), weights as in the public interface, padding as (before, after)
per axis with zeros (for a maximum: minus infinity) implied, and the output's spatial size. The rank is a length.

Each is a loop over the kernel's taps: one tap multiplies a strided view of the padded input. ``pad_with`` holds the
other padding modes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from polyconv.geometry import Axis, product
from polyconv.run.problem import Array, Layout, Pads

_NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def conv(
    x: Array,
    weight: Array,
    *,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    padding: Pads,
    out_size: tuple[int, ...],
) -> Array:
    """y[n, o, p] = sum over c, k of weight[o, c, k] * x[n, c, p * stride - before + k * dilation]."""
    batch, out = x.shape[0], weight.shape[0]
    by_group = weight.reshape(groups, out // groups, *weight.shape[1:])
    padded = _padded(x, padding, 0)
    padded = padded.reshape(batch, groups, weight.shape[1], *padded.shape[2:])
    y = np.zeros((batch, groups, out // groups, *out_size), x.dtype)
    for tap, view in _taps(weight.shape[2:], stride, dilation, out_size):
        _accumulate(y, by_group[tap], padded[view])
    return y.reshape(batch, out, *out_size)


def _accumulate(y: Array, weight: Array, x: Array) -> None:
    """Y += weight @ x for (groups, out, in) and (batch, groups, in, *spatial)."""
    if weight.shape[1:] == (1, 1):
        y += weight.reshape(-1, *(1,) * (y.ndim - 2)) * x
        return
    columns = x.reshape(*x.shape[:3], product(x.shape[3:]))
    y += np.matmul(weight, columns).reshape(y.shape)


def conv_transpose(
    x: Array,
    weight: Array,
    *,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    padding: Pads,
    out_size: tuple[int, ...],
) -> Array:
    """The adjoint of ``conv``: input p adds weight * x[n, c, p] to y[n, o, p * stride - before + k * dilation].

    Outputs that fall outside ``out_size`` after the crop are dropped.
    """
    batch, spatial = x.shape[0], x.shape[2:]
    channels = weight.shape[0] // groups
    by_group = weight.reshape(groups, channels, *weight.shape[1:])
    out = groups * weight.shape[1]
    grown = tuple(
        max(Axis(k, s, d).transposed_size(size), before + count)
        for size, s, d, k, (before, _), count in zip(
            spatial, stride, dilation, weight.shape[2:], padding, out_size, strict=True
        )
    )
    y = np.zeros((batch, groups, weight.shape[1], *grown), x.dtype)
    grouped = x.reshape(batch, groups, channels, *spatial)
    for tap, view in _taps(weight.shape[2:], stride, dilation, spatial):
        _accumulate(y[view], by_group[tap].swapaxes(1, 2), grouped)
    crop: Any = (..., *(slice(before, before + count) for (before, _), count in zip(padding, out_size, strict=True)))
    kept: Array = y[crop]
    return kept.reshape(batch, out, *out_size)


def max_pool(
    x: Array,
    kernel_size: tuple[int, ...],
    *,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: Pads,
    out_size: tuple[int, ...],
) -> Array:
    """y[n, c, p] = max over k of x[n, c, p * stride - before + k * dilation]; padding never wins; NaN always does."""
    padded = _padded(x, _reaching(x.shape[2:], kernel_size, stride, dilation, padding, out_size), -np.inf)
    y = np.full((*x.shape[:2], *out_size), -np.inf, x.dtype)
    for _, view in _taps(kernel_size, stride, dilation, out_size):
        np.maximum(y, padded[view], out=y)
    return y


def avg_pool(
    x: Array,
    kernel_size: tuple[int, ...],
    *,
    stride: tuple[int, ...],
    padding: Pads,
    out_size: tuple[int, ...],
    count_include_pad: bool,
) -> Array:
    """The mean over each window: of all its positions inside the padded input, or of those on data only."""
    ones = (1,) * len(kernel_size)
    reaching = _reaching(x.shape[2:], kernel_size, stride, ones, padding, out_size)
    padded = _padded(x, reaching, 0)
    inside = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if count_include_pad:
        inside = _padded(inside, padding, 1)
        reaching = tuple((0, more - after) for (_, more), (_, after) in zip(reaching, padding, strict=True))
    inside = _padded(inside, reaching, 0)
    total = np.zeros((*x.shape[:2], *out_size), x.dtype)
    count = np.zeros((1, 1, *out_size), x.dtype)
    for _, view in _taps(kernel_size, stride, ones, out_size):
        total += padded[view]
        count += inside[view]
    return total / count


def global_pool(x: Array, kind: str, axes: tuple[int, ...]) -> Array:
    """The mean, or the largest value, over all positions."""
    found: Array = x.mean(axes, keepdims=True) if kind == "avg" else x.max(axes, keepdims=True)
    return found


def upsample(x: Array, scales: tuple[int, ...]) -> Array:
    """Each position repeated ``scales`` times along each axis."""
    for axis, scale in enumerate(scales):
        x = x.repeat(scale, axis=axis + 2)
    return x


def pad_with(x: Array, padding: Pads, mode: str, layout: Layout = "channels_first") -> Array:
    """X with its spatial axes padded by reflection, replication or wrapping round."""
    how: Any = _NUMPY_MODES[mode]
    none = (0, 0)
    pads = (none, none, *padding) if layout == "channels_first" else (none, *padding, none)
    return np.pad(x, pads, mode=how)


def _erf(x: Array) -> Array:
    """The error function; NumPy has none, and the standard library's is for one number."""
    from math import erf

    return np.asarray(np.frompyfunc(erf, 1, 1)(x.astype(np.float64)), dtype=x.dtype)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x < 0, x * x.dtype.type(0.01), x),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x * ((1 + _erf(x * x.dtype.type(0.5**0.5))) / 2),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def _taps(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], windows: tuple[int, ...]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Each tap of the kernel as an index, with that of the part of a padded input it meets over all windows."""
    for tap in itertools.product(*map(range, kernel)):
        starts = [k * d for k, d in zip(tap, dilation, strict=True)]
        yield (
            (..., *tap),
            (
                ...,
                *(
                    slice(start, start + (count - 1) * s + 1 if count else start, s)
                    for start, s, count in zip(starts, stride, windows, strict=True)
                ),
            ),
        )


def _reaching(
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: Pads,
    out_size: tuple[int, ...],
) -> Pads:
    """The padding, with as much more after as the last window of each axis reaches (ceil_mode)."""
    return tuple(
        (before, max(after, Axis(k, s, d, before).reads(0, count)[1] - size))
        for size, k, s, d, (before, after), count in zip(
            spatial, kernel, stride, dilation, padding, out_size, strict=True
        )
    )


def _padded(x: Array, padding: Pads, value: Any) -> Array:
    if not any(map(any, padding)):
        return x
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=value)
