"""One pass over memory between the layers: a function over independent items, for arrays of one shape.

How many threads it takes and whether the interpreter lock is kept follow from the bytes that it reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from polyconv.run.cpu import buffers, machine, pool
from polyconv.run.plan import APART_SECONDS, GRABS, HOLD_GIL_SECONDS
from polyconv.run.problem import Array

BLOCK = 4096  # elements of an item, about
BYTES_PER_SECOND = 30e9  # that a thread reads and writes


class Pass:
    """A call of one function on some arrays and its result.

    Args:
        function: takes the arrays, the result, then ``words``.
        count: how many arrays.
        shape: of the result.
        dtype: of the result.
        items: of the function.
        words: its further arguments.
        moved: bytes that it reads and writes.
        plainly: computes the same for arrays that are not contiguous, aligned and writable.
        what: it does, for ``explain``.
        over: the number of the array that the result is written over; a new one if not given.
    """

    def __init__(
        self,
        function: machine.Function,
        count: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        items: int,
        words: Sequence[int | Array],
        moved: int,
        plainly: Callable[..., Array],
        what: str,
        over: int | None = None,
    ) -> None:
        self._plainly, self._what, self._over = plainly, what, over
        seconds = moved / BYTES_PER_SECOND
        self.threads = 1 if seconds < APART_SECONDS else pool.threads()
        self._call = pool.Call(
            [(function.address, items, items // (self.threads * GRABS), self.threads)],
            [*[0] * (count + 1), *words],
            arrays=range(count + 1),
            hold_gil=seconds < HOLD_GIL_SECONDS,
        )
        self._allocate = buffers.allocator(shape, dtype)

    def __call__(self, *arrays: Array) -> Array:
        """The result."""
        for one in arrays:
            if not one.flags.carray:
                return self._plainly(*arrays)
        out = self._allocate() if self._over is None else arrays[self._over]
        self._call(*arrays, out)
        return out

    def __str__(self) -> str:
        """What runs."""
        return f"{self._what}, {self.threads} thread(s) (compiled for this machine)"
