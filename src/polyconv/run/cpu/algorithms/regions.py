"""A picture's positions in regions that meet the same taps: on a dilated layer's border most taps fall on padding.

Along an axis the output positions at which a tap enters or leaves the input cut the axis into segments; a region is
one segment of each axis that is cut. All positions of a region have the same taps on data (along those axes), so a
region is a set of positions with taps of its own, as an output phase of a transposed convolution is: it becomes one.
Tiles keep to their region, and the products that read padding are neither listed nor computed.

An axis is cut where the model of the tiles' time says that it saves: regions of few positions make narrow tiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from polyconv.geometry import Axis
from polyconv.run.cpu.algorithms.phases import OutputPhases, Row, phases_of
from polyconv.run.cpu.algorithms.record import Sizes, ceil_div
from polyconv.run.problem import Problem

FLAT = 2048  # positions up to which tiles run over all of them; longer rows are cut into tiles one by one
NARROWEST = 5  # a tile of fewer positions takes as long as one of so many
FROM_L3 = 32  # the same for weights that come from the L3 and serve one tile
OUTSIDE = 130  # what a tile takes besides its products, in products of one position with one vector pair
WORTH = 0.97  # regions must save this much of the time
TRIED = 0.92  # where more of a convolution's terms read data, cutting was never worth it: not worked out
MOST_REGIONS = 64
FEW_TAPS = 32  # of an axis, up to which asking each takes less time than the closed form


class Grids(NamedTuple):
    """Sets of output positions: their taps, and how many positions each has along each axis."""

    phases: OutputPhases
    sizes: list[Row]


class _Segment(NamedTuple):
    """Part of an axis: first position, how many, and its taps as (number in the axis' list, positions on data)."""

    start: int
    length: int
    taps: tuple[tuple[int, int], ...]


def is_flat(positions: int, row: int, tile: int) -> bool:
    """Do tiles run over all of so many positions, in rows of this length, and not over each row by itself."""
    return positions <= FLAT or (row < tile // 2 and positions < 1 << 20)


@lru_cache(maxsize=64)
def share_on_data(problem: Problem, sizes: Sizes, axes: int | None = None) -> float:
    """Which part of a convolution's terms reads data and not padding, along the first ``axes``; 1 if transposed."""
    share = 1.0
    if problem.op != "conv":
        return share
    facts = (problem.kernel_size, problem.stride, problem.dilation, sizes.padding, sizes.in_size, sizes.out_size)
    for kernel, stride, dilation, (before, after), size, out in list(zip(*facts, strict=True))[:axes]:
        if not out or not (before > 0 or after > 0):
            continue
        if kernel <= FEW_TAPS:
            share *= _on_data(range(-before, kernel * dilation - before, dilation), stride, out, size)
        else:
            share *= Axis(kernel, stride, dilation, before, after).taps_on_data(size, out) / (kernel * out)
    return share


def positions_of(problem: Problem, sizes: Sizes, tile: int, stretch: int = 0) -> Grids:
    """The output phases of a problem at some sizes, each cut into regions where that saves.

    ``tile``: positions of a tile; 0: nothing is cut. ``stretch``: what each stretch of neighbouring outputs takes, in
    products of one position.
    """
    if problem.op == "conv" and share_on_data(problem, sizes) > TRIED:
        return Grids(phases := phases_of(problem, sizes.padding), phases.grids(sizes.out_size))
    return _positions_of(problem, sizes.padding, sizes.in_size, sizes.out_size, sizes.batch, tile, stretch)


@lru_cache(maxsize=256)
def _positions_of(
    problem: Problem,
    padding: tuple[tuple[int, int], ...],
    in_size: Row,
    out_size: Row,
    batch: int,
    tile: int,
    stretch: int,
) -> Grids:
    phases = phases_of(problem, padding)
    grids = phases.grids(out_size)
    channels = problem.in_channels // problem.groups
    found = [
        _best(phases, number, grid, in_size, batch, tile, channels, stretch) if tile * batch * prod(grid) else None
        for number, grid in enumerate(grids)
    ]
    if all(axes is None for axes in found) or sum(prod(map(len, axes or ((),))) for axes in found) > MOST_REGIONS:
        return Grids(phases, grids)
    return _regions(phases, grids, in_size, found)


def _best(
    phases: OutputPhases, phase: int, grid: Row, in_size: Row, batch: int, tile: int, channels: int, stretch: int
) -> list[list[_Segment]] | None:
    """The segments of each axis that take the least time, or None where cutting does not pay."""
    low, high = phases.starts[phase : phase + 2]
    on_data = 1.0
    for axis, step, length, size in zip(phases.shifts, phases.in_step, grid, in_size, strict=True):
        on_data *= _on_data(axis[low:high], step, length, size)
    if on_data > TRIED:
        return None
    shifts = [sorted(set(axis[low:high])) for axis in phases.shifts]
    whole = [[_whole(s, step, n, size)] for s, step, n, size in zip(shifts, phases.in_step, grid, in_size, strict=True)]
    fine = [_segments(s, step, n, size) for s, step, n, size in zip(shifts, phases.in_step, grid, in_size, strict=True)]
    tiles = ceil_div(batch * prod(grid), tile)
    narrowest = NARROWEST + FROM_L3 / tiles
    best, least = None, WORTH * _time(whole, [False] * len(grid), batch, tile, channels, narrowest, stretch)
    for chosen in itertools.product((False, True), repeat=len(grid)):
        cut = [all_of if yes else one for yes, all_of, one in zip(chosen, fine, whole, strict=True)]
        if not any(chosen) or prod(map(len, cut)) > MOST_REGIONS:
            continue
        time = _time(cut, chosen, batch, tile, channels, narrowest, stretch)
        if time < least:
            best, least = cut, time
    return best


def _on_data(shifts: Sequence[int], step: int, length: int, size: int) -> float:
    """Which part of an axis' terms reads data."""
    met = 0
    for shift in shifts:
        low, high = -(shift // step), -((shift - size) // step)
        low, high = low if low > 0 else 0, high if high < length else length
        met += high - low if high > low else 0
    return met / (length * len(shifts)) if shifts else 1.0


def _whole(shifts: Sequence[int], step: int, length: int, size: int) -> _Segment:
    """An axis that is not cut."""
    spans = (_span(shift, step, length, size) for shift in shifts)
    return _Segment(0, length, tuple((number, max(high - low, 0)) for number, (low, high) in enumerate(spans)))


def _segments(shifts: Sequence[int], step: int, length: int, size: int) -> list[_Segment]:
    """An axis cut wherever a tap enters or leaves the input."""
    spans = [_span(shift, step, length, size) for shift in shifts]
    edges = sorted({0, length, *(edge for low, high in spans if low < high for edge in (low, high))})
    return [
        _Segment(
            start, stop - start, tuple((n, stop - start) for n, (low, high) in enumerate(spans) if low <= start < high)
        )
        for start, stop in itertools.pairwise(edges)
    ]


def _span(shift: int, step: int, length: int, size: int) -> tuple[int, int]:
    """The positions for which a tap is on data, as (first, last + 1)."""
    return max(0, min(length, ceil_div(-shift, step))), max(0, min(length, ceil_div(size - shift, step)))


def _time(
    axes: list[list[_Segment]],
    cut: Sequence[bool],
    batch: int,
    tile: int,
    channels: int,
    narrowest: float,
    stretch: int,
) -> float:
    """What the tiles of all regions take, in products of one position."""
    total = 0.0
    for region in itertools.product(*axes):
        lengths = [segment.length for segment in region]
        positions = batch * prod(lengths)
        row = lengths[-1]
        flat = is_flat(positions, row, tile)
        span, spans = (positions, 1) if flat else (row, positions // row)
        tiles = ceil_div(span, tile)
        each = span / tiles
        taps, reach = 1.0, each
        for segment, is_cut in zip(reversed(region), reversed(cut), strict=True):
            # an uncut axis: a tap is listed for a tile that meets its data anywhere
            width = 1.0 if is_cut else reach
            taps *= sum(min(1.0, (data + width - 1) / segment.length) for _, data in segment.taps if data)
            if not flat or reach % segment.length == 0:
                reach = max(1.0, reach / segment.length) if flat else 1.0
            else:
                reach = 1 + (reach - 1) / segment.length
        rows = positions // row if cut[-1] else 0
        total += stretch * (rows + spans * tiles) + spans * tiles * (taps * channels * max(each, narrowest) + OUTSIDE)
    return total


def _regions(
    phases: OutputPhases, grids: list[Row], in_size: Row, found: Sequence[list[list[_Segment]] | None]
) -> Grids:
    """Every region as a phase of its own."""
    ndim = len(in_size)
    first: list[Row] = []
    sizes: list[Row] = []
    starts = [0]
    numbers: list[int] = []
    shifts: list[list[int]] = [[] for _ in range(ndim)]
    for phase, (grid, axes) in enumerate(zip(grids, found, strict=True)):
        low, high = phases.starts[phase : phase + 2]
        every = [sorted(set(axis[low:high])) for axis in phases.shifts]
        segments = axes or [
            [_Segment(0, n, tuple((t, n) for t in range(len(e))))] for n, e in zip(grid, every, strict=True)
        ]
        for region in itertools.product(*segments):
            first.append(
                tuple(
                    at + segment.start * step
                    for at, segment, step in zip(phases.first[phase], region, phases.out_step, strict=True)
                )
            )
            sizes.append(tuple(segment.length for segment in region))
            met = [{e[t] for t, data in segment.taps if data} for e, segment in zip(every, region, strict=True)]
            for tap in range(low, high):
                if all(axis[tap] in on for axis, on in zip(phases.shifts, met, strict=True)):
                    numbers.append(phases.numbers[tap])
                    for axis in range(ndim):
                        shifts[axis].append(phases.shifts[axis][tap] + region[axis].start * phases.in_step[axis])
            starts.append(len(numbers))
    cut = OutputPhases(
        tuple(first), tuple(starts), tuple(numbers), tuple(map(tuple, shifts)), phases.in_step, phases.out_step
    )
    return Grids(cut, sizes)


def reach(phases: OutputPhases, phase: int, grid: Row, positions: int) -> int:
    """Pixels that so many neighbouring positions of a phase read, each counted once (about)."""
    low, high = phases.starts[phase : phase + 2]
    total = 1
    for axis in reversed(range(len(grid))):
        length = max(1, min(positions, grid[axis]))
        positions = ceil_div(positions, max(1, grid[axis]))
        shifts, step = sorted(set(phases.shifts[axis][low:high])), phases.in_step[axis]
        gaps = (after - before for before, after in itertools.pairwise(shifts))
        total *= length + sum(length if gap % step else min(length, gap // step) for gap in gaps)
    return total
