"""The one place where cases are drawn: layers and data that cannot hide a bug.

Ranks 1 to 3, both layouts, unequal and prime sizes, sizes 0 and 1, stride != dilation, different padding before and
after, windows larger than the input, batch 0 to 3, groups up to depthwise with a multiplier. Data is integer-valued,
so that equal means equal, and lies in memory in every way NumPy allows: reversed, strided, permuted, misaligned,
read-only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import oracle

SIZES = {1: [0, 1, 2, 3, 5, 7, 11, 13], 2: [0, 1, 2, 3, 5, 7], 3: [0, 1, 2, 3, 5]}
KERNELS = {1: [1, 2, 3, 4, 5, 7], 2: [1, 2, 3, 4], 3: [1, 2, 3]}
LAYOUTS = ["channels_first", "channels_last"]
DTYPES = ["float32", "float64"]
MODES = ["zeros", "reflect", "replicate", "circular"]
ACTIVATIONS = [None, *oracle.ACTIVATIONS]


@dataclass(frozen=True)
class Case:
    """One call of an operator: ``operator(*arrays, **options)``."""

    arrays: tuple[np.ndarray | None, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def x(self) -> np.ndarray:
        x = self.arrays[0]
        assert x is not None
        return x

    @property
    def ndim(self) -> int:
        return self.x.ndim - 2

    def __repr__(self) -> str:
        shapes = [None if a is None else f"{a.dtype}{list(a.shape)} strides {a.strides}" for a in self.arrays]
        return f"Case({shapes}, {self.options}, data {[None if a is None else a.tolist() for a in self.arrays]})"


# -- arrays ----------------------------------------------------------------------------------------------------------


def integers(shape: Sequence[int], dtype: str, seed: int, low: int = -4, high: int = 4) -> np.ndarray:
    """Integer-valued floats; no symmetry to speak of, so a flip or a transposition shows."""
    return np.random.default_rng(seed).integers(low, high + 1, tuple(shape)).astype(dtype)


def _reversed(a: np.ndarray) -> np.ndarray:
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def _strided(a: np.ndarray) -> np.ndarray:
    room = np.full([2 * s + 1 for s in a.shape], np.nan, a.dtype)  # a value read from between the elements is a NaN
    view = room[tuple(slice(1, 1 + 2 * s, 2) for s in a.shape)]
    view[...] = a
    return view


def _permuted(a: np.ndarray) -> np.ndarray:
    order = [*range(1, a.ndim), 0]
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


def _misaligned(a: np.ndarray) -> np.ndarray:
    room = np.empty(a.nbytes + 1, np.uint8)
    view = room[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _readonly(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def _broadcast(a: np.ndarray) -> np.ndarray:
    """Stride 0 along the first axis (this one changes the values)."""
    return np.broadcast_to(a[:1], a.shape) if a.shape[0] else a


MEMORY = {
    "plain": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "reversed": _reversed,
    "strided": _strided,
    "permuted": _permuted,
    "misaligned": _misaligned,
    "readonly": _readonly,
    "broadcast": _broadcast,
}


@st.composite
def arrays(draw: st.DrawFn, shape: Sequence[int], dtype: str) -> np.ndarray:
    """An integer-valued array of this shape, lying in memory in some way."""
    a = integers(shape, dtype, draw(st.integers(0, 2**16)))
    return MEMORY[draw(st.sampled_from(list(MEMORY)))](a)


def arrange(batch: int, channels: int, sizes: Sequence[int], layout: str) -> tuple[int, ...]:
    """The shape of an input in this layout."""
    return (batch, channels, *sizes) if layout == "channels_first" else (batch, *sizes, channels)


# -- geometry --------------------------------------------------------------------------------------------------------


def one_or_per_axis(ndim: int, numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """A number for all axes, or one for each."""
    return st.one_of(numbers, st.tuples(*[numbers] * ndim))


@st.composite
def paddings(draw: st.DrawFn, ndim: int, limits: Sequence[int], words: Sequence[str]) -> Any:
    """Every way of writing a padding; the amount on each side of an axis is at most its limit."""
    form = draw(st.sampled_from(["number", "per axis", "pairs", "pairs", "word", "word"]))
    if form == "word" and words:
        return draw(st.sampled_from(words))
    if form == "number":
        return draw(st.integers(0, min(limits)))
    if form == "per axis":
        return tuple(draw(st.integers(0, limit)) for limit in limits)
    return tuple((draw(st.integers(0, limit)), draw(st.integers(0, limit))) for limit in limits)


@dataclass(frozen=True)
class Window:
    """The geometry of one drawn layer."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: Any
    dilation: Any

    @property
    def ndim(self) -> int:
        return len(self.sizes)

    @property
    def strides(self) -> list[int]:
        return oracle.per_axis(self.stride, self.ndim)

    @property
    def reaches(self) -> list[int]:
        dilations = oracle.per_axis(self.dilation, self.ndim)
        return [oracle.reach(k, d) for k, d in zip(self.kernel, dilations, strict=True)]


@st.composite
def windows(draw: st.DrawFn, ndims: Sequence[int] = (1, 2, 3), dilated: bool = True, smallest: int = 0) -> Window:
    """Input sizes, kernel, stride and dilation."""
    ndim = draw(st.sampled_from(list(ndims)))
    sizes = tuple(draw(st.sampled_from([s for s in SIZES[ndim] if s >= smallest])) for _ in range(ndim))
    kernel = tuple(draw(st.sampled_from(KERNELS[ndim])) for _ in range(ndim))
    stride = draw(one_or_per_axis(ndim, st.integers(1, 3)))
    dilation = draw(one_or_per_axis(ndim, st.integers(1, 3))) if dilated else 1
    return Window(sizes, kernel, stride, dilation)


@st.composite
def connections(draw: st.DrawFn) -> tuple[int, int, int]:
    """(groups, in channels per group, out channels per group), depthwise with a multiplier included."""
    kind = draw(st.sampled_from(["one", "standard", "grouped", "depthwise"]))
    if kind == "one":
        return 1, 1, 1
    if kind == "standard":
        return 1, draw(st.integers(1, 3)), draw(st.integers(1, 3))
    if kind == "grouped":
        return draw(st.integers(2, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return draw(st.integers(2, 5)), 1, draw(st.integers(1, 3))


def words_for(ndim: int) -> list[str]:
    return ["valid", "same", "full", *(["causal"] if ndim == 1 else [])]


def fits_mode(window: Window, padding: Any, mode: str) -> bool:
    """Whether there is enough input to pad from."""
    pads = oracle.conv_padding(padding, window.sizes, window.reaches, window.strides)
    spare = {"zeros": math.inf, "reflect": -1, "circular": 0, "replicate": math.inf}[mode]
    return all(
        max(pair) <= size + spare and (mode == "zeros" or size > 0 or max(pair) == 0)
        for pair, size in zip(pads, window.sizes, strict=True)
    )


# -- operators -------------------------------------------------------------------------------------------------------


@st.composite
def convs(
    draw: st.DrawFn,
    ndims: Sequence[int] = (1, 2, 3),
    dtypes: Sequence[str] = DTYPES,
    activations: Sequence[str | None] = oracle.EXACT_ACTIVATIONS,
    modes: Sequence[str] = MODES,
    layouts: Sequence[str] = LAYOUTS,
    smallest: int = 0,
) -> Case:
    """A call of ``conv``. Some windows do not fit: then the oracle raises NoOutputError."""
    window = draw(windows(ndims, smallest=smallest))
    mode = draw(st.sampled_from(list(modes)))
    padding = draw(paddings(window.ndim, [r + 1 for r in window.reaches], words_for(window.ndim)))
    if not fits_mode(window, padding, mode):
        mode = "zeros"
    groups, per_in, per_out = draw(connections())
    dtype, layout = draw(st.sampled_from(list(dtypes))), draw(st.sampled_from(list(layouts)))
    x = draw(arrays(arrange(draw(st.sampled_from([2, 1, 3, 0])), groups * per_in, window.sizes, layout), dtype))
    weight = draw(arrays((groups * per_out, per_in, *window.kernel), dtype))
    bias = draw(st.none() | arrays((groups * per_out,), dtype))
    options = {
        "stride": window.stride,
        "padding": padding,
        "dilation": window.dilation,
        "groups": groups,
        "padding_mode": mode,
        "activation": draw(st.sampled_from(list(activations))),
        "layout": layout,
    }
    return Case((x, weight, bias), options)


@st.composite
def conv_transposes(
    draw: st.DrawFn,
    ndims: Sequence[int] = (1, 2, 3),
    dtypes: Sequence[str] = DTYPES,
    activations: Sequence[str | None] = oracle.EXACT_ACTIVATIONS,
    layouts: Sequence[str] = LAYOUTS,
    words: bool = True,
    smallest: int = 0,
) -> Case:
    """A call of ``conv_transpose``. Some crops leave nothing: then the oracle raises NoOutputError."""
    window = draw(windows(ndims, smallest=smallest))
    ndim = window.ndim
    padding = draw(paddings(ndim, [r + 1 for r in window.reaches], words_for(ndim) if words else []))
    dilations = oracle.per_axis(window.dilation, ndim)
    most = [max(s, d) - 1 for s, d in zip(window.strides, dilations, strict=True)]
    extra: Any = 0
    if padding == "valid" or not isinstance(padding, str):
        extra = draw(st.one_of(st.integers(0, min(most)), st.tuples(*(st.integers(0, m) for m in most))))
    groups, per_in, per_out = draw(connections())
    dtype, layout = draw(st.sampled_from(list(dtypes))), draw(st.sampled_from(list(layouts)))
    x = draw(arrays(arrange(draw(st.sampled_from([2, 1, 3, 0])), groups * per_in, window.sizes, layout), dtype))
    weight = draw(arrays((groups * per_in, per_out, *window.kernel), dtype))
    bias = draw(st.none() | arrays((groups * per_out,), dtype))
    options = {
        "stride": window.stride,
        "padding": padding,
        "output_padding": extra,
        "dilation": window.dilation,
        "groups": groups,
        "activation": draw(st.sampled_from(list(activations))),
        "layout": layout,
    }
    return Case((x, weight, bias), options)


@st.composite
def pools(draw: st.DrawFn, average: bool, ndims: Sequence[int] = (1, 2, 3), words: bool = True) -> Case:
    """A call of ``max_pool`` or ``avg_pool``; options carry ``kernel_size``."""
    window = draw(windows(ndims, dilated=not average))
    ndim = window.ndim
    layout = draw(st.sampled_from(LAYOUTS))
    shape = arrange(draw(st.sampled_from([2, 1, 3, 0])), draw(st.integers(1, 3)), window.sizes, layout)
    x = draw(arrays(shape, draw(st.sampled_from(DTYPES))))
    ceil_mode = draw(st.booleans())
    allowed = words_for(ndim) if words and not ceil_mode else []
    kernel_size = window.kernel[0] if len(set(window.kernel)) == 1 else window.kernel
    options: dict[str, Any] = {
        "kernel_size": kernel_size,
        "stride": draw(st.sampled_from([None, window.stride])),
        # At most half a kernel, as the frameworks have it: every window then sees real data.
        "padding": draw(paddings(ndim, [k // 2 for k in window.kernel], allowed)),
        "ceil_mode": ceil_mode,
        "layout": layout,
    }
    if average:
        options["count_include_pad"] = draw(st.booleans())
    else:
        options["dilation"] = window.dilation
    return Case((x,), options)
