"""Which output positions share their taps: one set for a convolution, one for each output phase of a transposed one.

A convolution reads input ``o * stride + tap * dilation - padding`` for output o: one set of positions, every tap. A
transposed convolution adds input i into output ``i * stride + tap * dilation - padding``; read backwards, outputs
``o = q * stride + r`` of one phase r read input ``q + shift`` of those taps for which ``r + padding - tap * dilation``
is a multiple of the stride. Each phase is thus a convolution of stride 1 with some of the taps; nothing is inserted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polyconv.run.problem import Array, Pads, Problem


@dataclass(frozen=True, slots=True, eq=False)
class OutputPhases:
    """All phases of one problem and padding, whatever the sizes.

    ``first`` (phases, ndim): the first output position of each phase. ``starts`` (phases + 1): where its taps lie in
    ``numbers`` (which tap of the kernel, row-major) and ``shifts`` (taps, ndim): input position = grid position *
    ``in_step`` + shift; output position = grid position * ``out_step`` + first.
    """

    first: Array
    starts: Array
    numbers: Array
    shifts: Array
    in_step: tuple[int, ...]
    out_step: tuple[int, ...]

    def grids(self, out_size: tuple[int, ...]) -> Array:
        """Number of output positions of each phase along each axis: (phases, ndim)."""
        grids: Array = np.maximum(-((self.first - np.array(out_size)) // np.array(self.out_step)), 0)
        return grids


def phases_of(problem: Problem, padding: Pads) -> OutputPhases:
    """The phases of a problem (a handful of recent ones are remembered)."""
    before = tuple(low for low, _ in padding)
    transposed = problem.op == "conv_transpose"
    return _phases(transposed, problem.kernel_size, problem.stride, problem.dilation, before)


@lru_cache(maxsize=256)
def _phases(
    transposed: bool,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    before: tuple[int, ...],
) -> OutputPhases:
    ndim = len(kernel)
    grid = np.indices(kernel).reshape(ndim, -1).T  # (taps, ndim), row-major
    reach = grid * np.array(dilation)
    if not transposed:
        first, whole = np.zeros((1, ndim), np.int64), np.array([0, len(grid)])
        return OutputPhases(first, whole, np.arange(len(grid)), reach - before, stride, (1,) * ndim)
    first = np.indices(stride).reshape(ndim, -1).T
    numbers, shifts, starts = [], [], [0]
    for phase in first:
        distance = phase + before - reach
        taken = np.flatnonzero((distance % stride == 0).all(axis=1))
        numbers.append(taken)
        shifts.append(distance[taken] // stride)
        starts.append(starts[-1] + len(taken))
    return OutputPhases(first, np.array(starts), np.concatenate(numbers), np.concatenate(shifts), (1,) * ndim, stride)
