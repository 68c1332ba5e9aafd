"""From one layout to the other, for whole arrays: the input and the result of a network that runs in another layout.

An array (batch, rows, columns) becomes (batch, columns, rows): planes of channels are rows, or pixels are. Square tiles
of one vector a side are transposed in registers. The last tile of a row or column overlaps the one before, so that
there are no masks but for fewer rows or columns than a vector has lanes.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from polyconv.run.cpu import buffers, machine, pool
from polyconv.run.cpu.emit import Kernel
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Array, Layout

TILES = 4  # of a vector, in each direction, are an item
BYTES_PER_SECOND = 22e9  # that a thread reads and writes
ALONE_SECONDS = 2e-6  # work below this stays on one thread
HOLD_GIL_SECONDS = 4e-6  # work below this keeps the interpreter lock: handing it over costs more
GRABS = 4  # each thread takes its share in about this many pieces


def emit(rows: int, columns: int, dtype: str, target: Target) -> str:
    """The module. ``rows`` and ``columns`` are given where they are fewer than the lanes, else 0: any number."""
    k = Kernel("run0", target, dtype)
    x, out, height, width, down, across = k.words("x: ptr", "out: ptr", "rows", "columns", "down", "across")
    side, tall, wide = TILES * k.lanes, rows or k.lanes, columns or k.lanes
    with k.loop(k.first, k.last) as item:
        picture, place = item // (down * across), item % (down * across)
        top, left = (place // across) * side, (place % across) * side
        source, sink = (k.at(one, picture * height * width) for one in (x, out))
        with k.loop(left, k.minimum(left + side, width), k.lanes) as a, \
             k.loop(top, k.minimum(top + side, height), k.lanes) as b:  # fmt: skip
            column = k.integer(0) if columns else k.minimum(a, width - k.lanes)
            row = k.integer(0) if rows else k.minimum(b, height - k.lanes)
            at = k.at(source, row * width + column)
            tile = [k.load_vector(k.at(at, width * n), count=wide) if n < tall else k.zero() for n in range(k.lanes)]
            to = k.at(sink, column * height + row)
            for n, vector in enumerate(k.transpose(tile)[:wide]):
                k.store_vector(vector, k.at(to, height * n), count=tall)
    return k.module()


class Turning:
    """Arrays of one shape from a layout to the other.

    Args:
        shape: of the array, as it is given.
        dtype: float32 or float64.
        to: the layout it is turned to.

    Raises:
        RuntimeError: the code could not be made.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], to: Layout) -> None:
        last = to == "channels_last"
        rows, columns = (shape[1], prod(shape[2:])) if last else (prod(shape[1:-1]), shape[-1])
        self.out_shape = (shape[0], *shape[2:], shape[1]) if last else (shape[0], shape[-1], *shape[1:-1])
        self._axes, self.nbytes = ((1, -1) if last else (-1, 1)), prod(shape) * dtype.itemsize
        target = host()
        lanes = target.lanes(dtype.name)
        down, across = (-(-length // (TILES * lanes)) for length in (rows, columns))
        function = _function(rows if rows < lanes else 0, columns if columns < lanes else 0, dtype.name)
        items, seconds = shape[0] * down * across, 2 * self.nbytes / BYTES_PER_SECOND
        self.threads = 1 if seconds < ALONE_SECONDS else pool.threads()
        call = pool.Call(
            [(function.address, items, items // (self.threads * GRABS), self.threads)],
            [0, 0, rows, columns, down, across],
            arrays=(0, 1),
            hold_gil=seconds < HOLD_GIL_SECONDS,
        )
        self._run = call.into_new(buffers.allocator(self.out_shape, dtype), self._plainly)

    def __call__(self, x: Array) -> Array:
        """A new array in the other layout; of one with other strides than its layout's, NumPy makes it."""
        return self._run(x)

    def _plainly(self, x: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(x, *self._axes))


@lru_cache(maxsize=256)
def _function(rows: int, columns: int, dtype: str) -> machine.Function:
    target = host()
    recipe = f"turning\n{rows}\n{columns}\n{dtype}"
    code = machine.load_recipe(
        recipe, lambda: emit(rows, columns, dtype, target), ("run0",), target, "turning a layout"
    )
    return code["run0"]
