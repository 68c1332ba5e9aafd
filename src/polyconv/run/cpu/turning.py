"""From one layout to the other, for whole arrays: the input and the result of a network that runs in another layout.

An array (batch, rows, columns) becomes (batch, columns, rows): planes of channels are rows, or pixels are. Square tiles
of one vector a side are transposed in registers. The last tile of a row or column overlaps the one before, so that
there are no masks but for fewer rows or columns than a vector has lanes. Items follow the rows of the result: a thread
writes whole ones, so that threads meet in few lines even where rows are not whole lines.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from polyconv.run.cpu import machine
from polyconv.run.cpu.emit import Kernel
from polyconv.run.cpu.passes import Pass, proven
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Array, Layout

TILES = (4, 2)  # of a vector, down and across, are an item


def emit(rows: int, columns: int, dtype: str, target: Target) -> str:
    """The module. ``rows`` and ``columns`` are given where they are fewer than the lanes, else 0: any number."""
    k = Kernel("run0", target, dtype)
    x, out, height, width, down, across = k.words("x: ptr", "out: ptr", "rows", "columns", "down", "across")
    (long, side), tall, wide = (n * k.lanes for n in TILES), rows or k.lanes, columns or k.lanes
    with k.loop(k.first, k.last) as item:
        picture, place = item // (down * across), item % (down * across)
        top, left = (place % down) * long, (place // down) * side
        source, sink = (k.at(one, picture * height * width) for one in (x, out))
        with k.loop(left, k.minimum(left + side, width), k.lanes) as a, \
             k.loop(top, k.minimum(top + long, height), k.lanes) as b:  # fmt: skip
            column = k.integer(0) if columns else k.minimum(a, width - k.lanes)
            row = k.integer(0) if rows else k.minimum(b, height - k.lanes)
            at = k.at(source, row * width + column)
            tile = [k.load_vector(k.at(at, width * n), count=wide) if n < tall else k.zero() for n in range(k.lanes)]
            to = k.at(sink, column * height + row)
            for n, vector in enumerate(k.transpose(tile)[:wide]):
                k.store_vector(vector, k.at(to, height * n), count=tall)
    return k.module()


def turned(shape: tuple[int, ...], dtype: np.dtype[Any], to: Layout) -> Pass:
    """What turns arrays of one shape from a layout to the other.

    Args:
        shape: of the array, as it is given.
        dtype: float32 or float64.
        to: the layout it is turned to.

    Raises:
        RuntimeError: the code could not be made.
    """
    lanes, (rows, columns) = host().lanes(dtype.name), _sides(shape, to)
    function = _function(rows if rows < lanes else 0, columns if columns < lanes else 0, dtype.name)
    return _turned(function, shape, dtype, to)


def _sides(shape: tuple[int, ...], to: Layout) -> tuple[int, int]:
    """Rows and columns of each picture."""
    return (shape[1], prod(shape[2:])) if to == "channels_last" else (prod(shape[1:-1]), shape[-1])


def _turned(function: machine.Function, shape: tuple[int, ...], dtype: np.dtype[Any], to: Layout) -> Pass:
    last, nbytes, (rows, columns) = to == "channels_last", prod(shape) * dtype.itemsize, _sides(shape, to)
    out_shape = (shape[0], *shape[2:], shape[1]) if last else (shape[0], shape[-1], *shape[1:-1])
    axes = (1, -1) if last else (-1, 1)
    lanes = host().lanes(dtype.name)
    down, across = (-(-length // (tiles * lanes)) for tiles, length in zip(TILES, (rows, columns), strict=True))

    def plainly(x: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(x, *axes))

    words, items = [rows, columns, down, across], shape[0] * down * across
    what = f"turned {'to' if last else 'from'} channels_last, {nbytes / 1024:.0f} KiB"
    return Pass(function, 1, out_shape, dtype, items, words, 2 * nbytes, plainly, what)


@lru_cache(maxsize=256)
def _function(rows: int, columns: int, dtype: str) -> machine.Function:
    target = host()
    recipe, shape = f"turning\n{rows}\n{columns}\n{dtype}", (2, rows or 2 * TILES[0] * 16 + 5, columns or 37)

    def trial(function: machine.Function) -> Pass:
        return _turned(function, shape, np.dtype(dtype), "channels_last")

    emitted = partial(emit, rows, columns, dtype, target)
    return proven(recipe, emitted, target, "turning a layout", trial, shape, dtype=dtype)
