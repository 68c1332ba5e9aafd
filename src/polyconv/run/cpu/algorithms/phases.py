"""Which output positions share their taps: one set for a convolution, one for each output phase of a transposed one.

A convolution reads input ``o * stride + tap * dilation - padding`` for output o: one set of positions, every tap. A
transposed convolution adds input i into output ``i * stride + tap * dilation - padding``; read backwards, outputs
``o = q * stride + r`` of one phase r read input ``q + shift`` of those taps for which ``r + padding - tap * dilation``
is a multiple of the stride. Each phase is thus a convolution of stride 1 with some of the taps; nothing is inserted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import numpy as np

from polyconv.run.problem import Pads, Problem

Row = tuple[int, ...]


class OutputPhases:
    """All phases of one problem and padding, whatever the sizes.

    ``first`` (phases, ndim): the first output position of each phase. ``starts`` (phases + 1): where its taps lie in
    ``numbers`` (which tap of the kernel, row-major) and in ``shifts`` (ndim, taps): input position = grid position *
    ``in_step`` + shift; output position = grid position * ``out_step`` + first.
    """

    def __init__(
        self, first: tuple[Row, ...], starts: Row, numbers: Row, shifts: tuple[Row, ...], in_step: Row, out_step: Row
    ) -> None:
        self.first, self.starts, self.numbers, self.shifts = first, starts, numbers, shifts
        self.in_step, self.out_step = in_step, out_step

    def grids(self, out_size: tuple[int, ...]) -> list[Row]:
        """Number of output positions of each phase along each axis: (phases, ndim)."""
        each = [
            [max(-((first - size) // step), 0) for first in range(step)]
            for size, step in zip(out_size, self.out_step, strict=True)
        ]
        return list(itertools.product(*each))

    def offsets(self, strides: Sequence[int]) -> list[int]:
        """How far each tap's input lies from its position's base: (taps,), in the unit of the strides."""
        return combined(self.shifts, strides)

    def out_offsets(self, strides: Sequence[int]) -> list[int]:
        """How far each phase's first output lies from the output's start: (phases,)."""
        return combined(list(zip(*self.first, strict=True)), strides)

    @cached_property
    def counts(self) -> Row:
        """Taps of each phase."""
        return tuple(after - before for before, after in itertools.pairwise(self.starts))

    @cached_property
    def least(self) -> tuple[Row, ...]:
        """The least shift of each phase along each axis (ndim, phases); 0 where it has no taps."""
        return self._each_phase(min)

    @cached_property
    def most(self) -> tuple[Row, ...]:
        """The largest."""
        return self._each_phase(max)

    @cached_property
    def columns(self) -> Row:
        """The shifts along the last axis, each once, in order."""
        return tuple(sorted(set(self.shifts[-1])))

    @cached_property
    def spans(self) -> Row:
        """From the least shift of all to the largest, along each axis."""
        return tuple(max(axis) - min(axis) if axis else 0 for axis in self.shifts)

    def _each_phase(self, function: Callable[[Row], int]) -> tuple[Row, ...]:
        spans = list(itertools.pairwise(self.starts))
        return tuple(
            tuple(function(axis[low:high]) if low < high else 0 for low, high in spans) for axis in self.shifts
        )

    @cached_property
    def goes_on(self) -> tuple[bool, ...]:
        """Does a tap have the number that follows the one's before it, in the same phase: (taps,)."""
        opens = set(self.starts)
        return tuple(
            at not in opens and self.numbers[at] == self.numbers[at - 1] + 1 for at in range(len(self.numbers))
        )


def combined(columns: Sequence[Sequence[int]], factors: Sequence[int]) -> list[int]:
    """The sum of columns, each times its factor."""
    found = [value * factors[0] for value in columns[0]]
    for column, factor in zip(columns[1:], factors[1:], strict=True):
        found = [total + value * factor for total, value in zip(found, column, strict=True)]
    return found


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
        shifts = tuple(map(tuple, (reach - before).T.tolist()))
        return OutputPhases(((0,) * ndim,), (0, len(grid)), tuple(range(len(grid))), shifts, stride, (1,) * ndim)
    numbers, columns, starts = [], [], [0]
    every = list(itertools.product(*map(range, stride)))
    for phase in every:
        distance = np.array(phase) + before - reach
        taken = np.flatnonzero((distance % stride == 0).all(axis=1))
        numbers += taken.tolist()
        columns.append((distance[taken] // stride).T)
        starts.append(len(numbers))
    shifts = tuple(map(tuple, np.concatenate(columns, axis=1).tolist()))
    return OutputPhases(tuple(every), tuple(starts), tuple(numbers), shifts, (1,) * ndim, stride)
