"""What every operator means, in plain Python loops: slow, and independent of the package.

Nothing is imported from polyconv and nothing is shared with it, not even padding. NumPy only holds the arrays; every
term of every sum is one Python multiplication, so the loops also say how many there were and which inputs were read.

Shapes follow the public interface: x is (batch, channels, *spatial), or (batch, *spatial, channels) with
``layout="channels_last"``; weights are (out, in / groups, *kernel), transposed (in, out / groups, *kernel).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

Position = tuple[int, ...]


class NoOutputError(Exception):
    """The window does not fit: the definition gives no output at all."""


@dataclass
class Answer:
    """An output, and how it came about."""

    y: np.ndarray
    multiplications: int = 0  # every term of the defining sum, padding (or cropped output) included
    on_data: int = 0  # the terms whose input is real data and whose output is kept
    reads: dict[Position, set[Position]] = field(default_factory=dict)  # output position -> input positions

    @property
    def padding(self) -> int:
        """Terms which touch padding (or, transposed, whose output is cropped away)."""
        return self.multiplications - self.on_data


# -- activations -----------------------------------------------------------------------------------------------------


def _sigmoid(v: float) -> float:
    if v >= 0:
        return 1.0 / (1.0 + math.exp(-v))
    return math.exp(v) / (1.0 + math.exp(v))


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "relu": lambda v: 0.0 if v <= 0 else v,  # a NaN stays
    "relu6": lambda v: min(max(v, 0.0), 6.0),
    "leaky_relu": lambda v: v if v > 0 else 0.01 * v,
    "silu": lambda v: v * _sigmoid(v),
    "gelu": lambda v: 0.5 * v * (1.0 + math.erf(v / math.sqrt(2.0))),
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "hardswish": lambda v: v * min(max(v + 3.0, 0.0), 6.0) / 6.0,
}

EXACT_ACTIVATIONS = (None, "relu", "relu6")  # integers stay integers


# -- one axis --------------------------------------------------------------------------------------------------------


def per_axis(value: object, ndim: int) -> list[int]:
    """One number for all axes, or one per axis."""
    if isinstance(value, int):
        return [value] * ndim
    numbers = [int(v) for v in value]  # type: ignore[attr-defined]
    assert len(numbers) == ndim
    return numbers


def reach(kernel: int, dilation: int) -> int:
    """How many neighbouring positions one window covers, counted one tap at a time."""
    return max(tap * dilation for tap in range(kernel)) + 1


def conv_padding(
    padding: object, sizes: Sequence[int], reaches: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) per axis of a convolution or pooling window."""
    ndim = len(sizes)
    if padding == "valid":
        return [(0, 0)] * ndim
    if padding == "full":
        return [(r - 1, r - 1) for r in reaches]
    if padding == "causal":
        assert ndim == 1
        return [(reaches[0] - 1, 0)]
    if padding == "same":
        pairs = []
        for size, r, s in zip(sizes, reaches, strides, strict=True):
            outputs = -(-size // s)
            missing = max(0, (outputs - 1) * s + r - size) if outputs else 0
            pairs.append((missing // 2, missing - missing // 2))
        return pairs
    if isinstance(padding, int):
        return [(padding, padding)] * ndim
    assert isinstance(padding, Sequence)
    assert len(padding) == ndim
    return [(p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in padding]


def window_starts(size: int, pads: tuple[int, int], window: int, stride: int, ceil_mode: bool = False) -> list[int]:
    """Where each window starts, in input positions (negative: in the padding), found by sliding it."""
    before, after = pads
    starts = []
    for start in range(-before, size + after + 1, stride):
        overhang = start + window - (size + after)  # how far the window reaches beyond the padded input
        if (overhang < stride and start < size) if ceil_mode else overhang <= 0:
            starts.append(start)
    return starts


def source(position: int, size: int, mode: str) -> int | None:
    """The input position that a (possibly padded) position shows; None is a zero of the padding."""
    if 0 <= position < size:
        return position
    if mode == "zeros":
        return None
    if mode == "replicate":
        return 0 if position < 0 else size - 1
    if mode == "circular":
        return position % size
    assert mode == "reflect"
    assert size > 1
    while not 0 <= position < size:
        position = -position if position < 0 else 2 * (size - 1) - position
    return position


# -- arrays ----------------------------------------------------------------------------------------------------------


def _split(x: np.ndarray, layout: str) -> tuple[int, int, list[int], Callable[[int, int, Position], float]]:
    """Batch, channels, spatial sizes, and a reader of single elements."""
    if layout == "channels_first":
        values = {index: float(v) for index, v in np.ndenumerate(x)}
        return x.shape[0], x.shape[1], list(x.shape[2:]), lambda n, c, at: values[(n, c, *at)]
    assert layout == "channels_last"
    values = {index: float(v) for index, v in np.ndenumerate(x)}
    return x.shape[0], x.shape[-1], list(x.shape[1:-1]), lambda n, c, at: values[(n, *at, c)]


def _empty(batch: int, channels: int, sizes: Sequence[int], layout: str, dtype: np.dtype) -> np.ndarray:
    shape = (batch, channels, *sizes) if layout == "channels_first" else (batch, *sizes, channels)
    return np.full(shape, np.nan, dtype)


def _at(n: int, c: int, position: Position, layout: str) -> Position:
    return (n, c, *position) if layout == "channels_first" else (n, *position, c)


def _positions(sizes: Iterable[int]) -> Iterable[Position]:
    return itertools.product(*(range(s) for s in sizes))


# -- operators -------------------------------------------------------------------------------------------------------


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "channels_first",
) -> Answer:
    """Correlate x with weight."""
    batch, channels, sizes, read = _split(x, layout)
    out_channels, per_group, *kernel = weight.shape
    assert channels == per_group * groups
    assert out_channels % groups == 0
    ndim = len(kernel)
    strides, dilations = per_axis(stride, ndim), per_axis(dilation, ndim)
    reaches = [reach(k, d) for k, d in zip(kernel, dilations, strict=True)]
    pads = conv_padding(padding, sizes, reaches, strides)
    starts = [window_starts(*axis) for axis in zip(sizes, pads, reaches, strides, strict=True)]
    if padding == "same":
        starts = [s[: -(-size // step)] for s, size, step in zip(starts, sizes, strides, strict=True)]
    elif not all(starts):
        raise NoOutputError(f"window {reaches} does not fit {sizes} with padding {pads}")
    act = ACTIVATIONS[activation] if activation else None
    answer = Answer(_empty(batch, out_channels, [len(s) for s in starts], layout, x.dtype))
    weights = {index: float(v) for index, v in np.ndenumerate(weight)}
    for out_position in _positions(len(s) for s in starts):
        taps: list[tuple[Position, Position | None]] = []
        for tap in _positions(kernel):
            where = [
                source(starts[a][out_position[a]] + tap[a] * dilations[a], sizes[a], padding_mode) for a in range(ndim)
            ]
            taps.append((tap, None if None in where else tuple(where)))  # type: ignore[arg-type]
        answer.reads[out_position] = {at for _, at in taps if at is not None}
        for n, o in itertools.product(range(batch), range(out_channels)):
            first_channel = (o // (out_channels // groups)) * per_group
            total = 0.0
            for c, (tap, at) in itertools.product(range(per_group), taps):
                value = 0.0 if at is None else read(n, first_channel + c, at)
                total += value * weights[(o, c, *tap)]
                answer.multiplications += 1
                answer.on_data += at is not None
            if bias is not None:
                total += float(bias[o])
            answer.y[_at(n, o, out_position, layout)] = act(total) if act else total
    return answer


def transpose_crop(padding: object, reaches: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """How much of the full transposed output is cut off (before, after) per axis; negative extends it."""
    ndim = len(reaches)
    if padding == "same":  # output = input * stride, cropped as Keras does
        crops = []
        for r, s in zip(reaches, strides, strict=True):
            before = (r - s) // 2 if r > s else 0
            crops.append((before, r - s - before))
        return crops
    if padding == "causal":
        assert ndim == 1
        return [(0, reaches[0] - strides[0])]  # output = input * stride: a short window is extended
    return conv_padding(padding, [0] * ndim, reaches, strides)


def conv_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: object = 1,
    padding: object = 0,
    output_padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "channels_first",
) -> Answer:
    """Stamp weight onto the output once per input position: the adjoint of conv."""
    batch, channels, sizes, read = _split(x, layout)
    in_channels, out_per_group, *kernel = weight.shape
    assert channels == in_channels
    assert in_channels % groups == 0
    ndim = len(kernel)
    strides, dilations = per_axis(stride, ndim), per_axis(dilation, ndim)
    extra = per_axis(output_padding, ndim)
    reaches = [reach(k, d) for k, d in zip(kernel, dilations, strict=True)]
    crops = transpose_crop(padding, reaches, strides)
    full = [(size - 1) * s + r for size, s, r in zip(sizes, strides, reaches, strict=True)]
    out = [f - before - after + e for f, (before, after), e in zip(full, crops, extra, strict=True)]
    out = [o if size else 0 for o, size in zip(out, sizes, strict=True)]  # nothing is stamped nowhere
    if any(o < 1 and size for o, size in zip(out, sizes, strict=True)):
        raise NoOutputError(f"{sizes} gives {out}")
    out_channels = out_per_group * groups
    act = ACTIVATIONS[activation] if activation else None
    answer = Answer(_empty(batch, out_channels, out, layout, x.dtype))
    answer.reads = {position: set() for position in _positions(out)}
    sums = {
        (n, o, *position): 0.0 if bias is None else float(bias[o])
        for n, o, position in itertools.product(range(batch), range(out_channels), answer.reads)
    }
    for at, tap in itertools.product(_positions(sizes), list(_positions(kernel))):
        position = tuple(at[a] * strides[a] + tap[a] * dilations[a] - crops[a][0] for a in range(ndim))
        kept = position in answer.reads
        if kept:
            answer.reads[position].add(at)
        for n, c, j in itertools.product(range(batch), range(in_channels), range(out_per_group)):
            answer.multiplications += 1
            if kept:
                answer.on_data += 1
                o = (c // (in_channels // groups)) * out_per_group + j
                sums[(n, o, *position)] += read(n, c, at) * float(weight[(c, j, *tap)])
    for (n, o, *position), total in sums.items():
        answer.y[_at(n, o, tuple(position), layout)] = act(total) if act else total
    return answer


def _pool(
    x: np.ndarray,
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool,
    layout: str,
    combine: Callable[[list[float | None]], float],
) -> Answer:
    """Slide a window; ``combine`` gets its values, None for a padding position inside the padded input."""
    batch, channels, sizes, read = _split(x, layout)
    if 0 in sizes:
        raise NoOutputError("a pooling window needs something to pool")
    ndim = len(sizes)
    kernel = per_axis(kernel_size, ndim)
    strides, dilations = per_axis(kernel if stride is None else stride, ndim), per_axis(dilation, ndim)
    reaches = [reach(k, d) for k, d in zip(kernel, dilations, strict=True)]
    pads = conv_padding(padding, sizes, reaches, strides)
    starts = [window_starts(*axis, ceil_mode) for axis in zip(sizes, pads, reaches, strides, strict=True)]
    if padding == "same":
        starts = [s[: -(-size // step)] for s, size, step in zip(starts, sizes, strides, strict=True)]
    elif not all(starts):
        raise NoOutputError(f"window {reaches} does not fit {sizes} with padding {pads}")
    answer = Answer(_empty(batch, channels, [len(s) for s in starts], layout, x.dtype))
    for out_position in _positions(len(s) for s in starts):
        window: list[Position | None] = []
        for tap in _positions(kernel):
            at = tuple(starts[a][out_position[a]] + tap[a] * dilations[a] for a in range(ndim))
            if all(-pads[a][0] <= at[a] < sizes[a] + pads[a][1] for a in range(ndim)):  # beyond: ceil_mode's overhang
                window.append(at if all(0 <= at[a] < sizes[a] for a in range(ndim)) else None)
        answer.reads[out_position] = {at for at in window if at is not None}
        for n, c in itertools.product(range(batch), range(channels)):
            values = [None if at is None else read(n, c, at) for at in window]
            answer.y[_at(n, c, out_position, layout)] = combine(values)
    return answer


def max_pool(
    x: np.ndarray,
    kernel_size: object,
    *,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> Answer:
    """Largest real value of each window; padding is minus infinity; a NaN wins."""

    def combine(values: list[float | None]) -> float:
        largest = -math.inf
        for v in values:
            if v is not None and (v > largest or v != v):
                largest = v
                if v != v:
                    break
        return largest

    return _pool(x, kernel_size, stride, padding, dilation, ceil_mode, layout, combine)


def avg_pool(
    x: np.ndarray,
    kernel_size: object,
    *,
    stride: object = None,
    padding: object = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str = "channels_first",
) -> Answer:
    """Mean of each window; the divisor counts padding unless told otherwise, never the overhang of ceil_mode."""

    def combine(values: list[float | None]) -> float:
        real = [v for v in values if v is not None]
        count = len(values) if count_include_pad else len(real)
        return sum(real) / count if count else math.nan

    return _pool(x, kernel_size, stride, padding, 1, ceil_mode, layout, combine)


# -- several layers --------------------------------------------------------------------------------------------------


def activate(x: np.ndarray, name: str) -> np.ndarray:
    """An activation on its own."""
    return np.array([ACTIVATIONS[name](float(v)) for v in x.ravel()], x.dtype).reshape(x.shape)


def compose(
    first: dict[Position, set[Position]], second: dict[Position, set[Position]]
) -> dict[Position, set[Position]]:
    """Which inputs of the first layer each output of the second reads."""
    return {out: set().union(*(first[middle] for middle in middles)) for out, middles in second.items()}
