"""Expressions in machine code: one pass over memory, on all threads, the result over an input that nobody needs again.

Sums, products and shifts are rounded one by one, as NumPy does it: only activations differ, by an ulp or two.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from polyconv.run.between import Expression
from polyconv.run.cpu import machine
from polyconv.run.cpu.activations import LONG, activate
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.passes import BLOCK, Pass, proven
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Array, Layout

UNROLL = 4  # vectors
TRIED: dict[Layout, tuple[int, ...]] = {"channels_first": (2, 5, 7, 11), "channels_last": (2, 7, 11, 5)}


def emit(expression: Expression, dtype: str, layout: Layout, target: Target) -> str:
    """The module: items are ``each`` rows of ``row`` elements, of ``size`` elements in all.

    Where channels have scales a row is a plane (channels first) or a pixel, else it is a block.
    """
    k = Kernel("run0", target, dtype)
    *sources, out, scale, shift, channels, row, each, size = k.words(
        *(f"x{number}: ptr" for number in range(expression.count)),
        *("out: ptr", "scale: ptr", "shift: ptr", "channels", "row", "each", "size"),
    )
    planes = layout == "channels_first"
    with k.loop(k.first, k.last) as item:
        first = item * each
        with k.loop(first, k.minimum(first + each, (size + (row - 1)) // row)) as number:
            start = number * row
            beside: list[Value] = []
            if expression.scaled and planes:
                beside = [k.broadcast(k.load(k.at(one, number % channels), k.scalar)) for one in (scale, shift)]

            def finish(value: Value, place: Value, mask: Value | None, beside: Sequence[Value] = beside) -> Value:
                if expression.scaled:
                    both = beside or [k.load_vector(k.at(one, place), mask=mask) for one in (scale, shift)]
                    value = value * both[0] + both[1]
                return activate(k, expression.activation, value, apart=LONG)

            _row(k, [k.at(one, start) for one in sources], k.at(out, start), k.minimum(row, size - start), finish)
    return k.module()


def _row(
    k: Kernel,
    sources: Sequence[Value],
    sink: Value,
    length: Value,
    finish: Callable[[Value, Value, Value | None], Value],
) -> None:
    """The elements of a row: whole vectors, several at once, then what is left by masks."""

    def step(place: Value, mask: Value | None) -> None:
        total = k.load_vector(k.at(sources[0], place), mask=mask)
        for one in sources[1:]:
            total = total + k.load_vector(k.at(one, place), mask=mask)
        k.store_vector(finish(total, place, mask), k.at(sink, place), mask=mask)

    along(k, length, step)


def along(k: Kernel, length: Value, step: Callable[[Value, Value | None], None]) -> None:
    """``step(place, mask)`` along a row: four vectors a turn, then one, and what is left with a mask."""
    four, one = (length // size * size for size in (UNROLL * k.lanes, k.lanes))
    with k.loop(0, four, UNROLL * k.lanes) as place:
        for number in range(UNROLL):
            step(place + number * k.lanes, None)
    with k.loop(four, one, k.lanes) as place:
        step(place, None)
    with k.when(one < length):
        step(one, k.mask(length - one))


def made(
    function: machine.Function,
    count: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rows: tuple[int, int],
    plainly: Callable[..., Array],
    beside: Sequence[Array] = (),
    over: int | None = None,
) -> Pass:
    """The function for arrays of one shape; see `polyconv.run.between.step_for`."""
    size, (channels, row) = prod(shape), rows
    each = max(1, BLOCK // max(row, 1))
    items = -(-size // (row * each)) if size else 0
    what = "one pass over memory" if over is None else "one pass over memory, written over an input"
    words, moved = [*(beside or (0, 0)), channels, row, each, size], (count + 1) * size * dtype.itemsize
    return Pass(function, count, shape, dtype, items, words, moved, plainly, what, over)


def compiled(
    expression: Expression,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    layout: Layout,
    plainly: Callable[..., Array],
    scale: Array | None = None,
    shift: Array | None = None,
    over: int | None = None,
) -> Pass | None:
    """The expression in machine code; None where that cannot be made here, or is wrong (said once, as a warning)."""
    function = _function(expression, dtype.name, layout)
    if function is None:
        return None
    beside = [np.array(one, dtype, order="C") for one in (scale, shift) if one is not None]
    return made(function, expression.count, shape, dtype, _rows(expression, shape, layout), plainly, beside, over)


def _rows(expression: Expression, shape: tuple[int, ...], layout: Layout) -> tuple[int, int]:
    """Channels, and elements of a row."""
    last = layout == "channels_last"
    channels = shape[-1] if last else shape[1]
    return channels, BLOCK if not expression.scaled else channels if last else prod(shape[2:])


@lru_cache(maxsize=256)
def _function(expression: Expression, dtype: str, layout: Layout) -> machine.Function | None:
    target = host()
    try:
        return proven(
            f"elementwise\n{expression!r}\n{dtype}\n{layout}",
            lambda: emit(expression, dtype, layout, target),
            target,
            f"an elementwise stage ({expression})",
            partial(_trial, expression, dtype, layout),
            *[TRIED[layout]] * expression.count,
            dtype=dtype,
        )
    except (RuntimeError, OSError, MemoryError) as error:
        warnings.warn(f"{expression} runs in NumPy: {error}", RuntimeWarning, stacklevel=2)
        return None


def _trial(expression: Expression, dtype: str, layout: Layout, function: machine.Function) -> Pass:
    """The expression with new code, for arrays of the shape ``TRIED``."""
    beside = [np.arange(1, 6).astype(dtype) * part for part in (0.25, -0.5)] if expression.scaled else []
    along = [one if layout == "channels_last" else one.reshape(-1, 1, 1) for one in beside]
    shape = TRIED[layout]
    rows = _rows(expression, shape, layout)
    return made(
        function,
        expression.count,
        shape,
        np.dtype(dtype),
        rows,
        lambda *arrays: expression.evaluate(list(arrays), *along),
        beside,
    )
