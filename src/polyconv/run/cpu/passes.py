"""One pass over memory between the layers: a function over independent items, for arrays of one shape.

How many threads it takes and whether the interpreter lock is kept follow from the bytes that it reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from polyconv.run.cpu import buffers, machine, pool
from polyconv.run.cpu.target import Target
from polyconv.run.plan import APART_SECONDS, GRABS, HOLD_GIL_SECONDS
from polyconv.run.problem import Array

BLOCK = 4096  # elements of an item, about
BYTES_PER_SECOND = 30e9  # that a thread reads and writes
TOLERANCE = 1e-5


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
        self.plainly, self._what, self._over = plainly, what, over
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
                return self.plainly(*arrays)
        out = self._allocate() if self._over is None else arrays[self._over]
        self._call(*arrays, out)
        return out

    def __str__(self) -> str:
        """What runs."""
        return f"{self._what}, {self.threads} thread(s) (compiled for this machine)"


def proven(
    recipe: str,
    emit: Callable[[], str],
    target: Target,
    what: str,
    trial: Callable[[machine.Function], Pass],
    *shapes: tuple[int, ...],
    dtype: str,
) -> machine.Function:
    """The function of a pass; new code is compared with NumPy on a few numbers before it is kept or used.

    Args:
        recipe: see `polyconv.run.cpu.machine.load_recipe`, as ``emit``, ``target`` and ``what``.
        emit: writes the module, whose function is run0.
        target: the machine.
        what: it is for.
        trial: the pass with a function, for arrays of ``shapes``.
        shapes: of some small arrays.
        dtype: of these arrays.

    Raises:
        RuntimeError: the code could not be made, or computes something else (`machine.WrongCode`).
    """

    def check(link: Callable[[Sequence[str]], dict[str, machine.Function]]) -> None:
        run = trial(link(("run0",))["run0"])
        arrays = [
            ((np.arange(prod(shape)) * 37 % (97 + 2 * n) - 48) / 8).astype(dtype).reshape(shape)
            for n, shape in enumerate(shapes)
        ]
        expected = run.plainly(*arrays)
        run._allocate = lambda: np.full_like(expected, np.nan)  # what is not written shows
        found = run(*arrays)
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            message = f"machine code for {what} gives wrong results on this machine and is not used; please report it"
            raise machine.WrongCode(what, message)

    return machine.load_recipe(recipe, emit, ("run0",), target, what, check)["run0"]
