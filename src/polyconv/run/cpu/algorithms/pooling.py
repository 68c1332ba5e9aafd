"""Max and average pooling; `polyconv.run.cpu.algorithms.pooling_code` writes the loops."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, repeat
from math import prod

from polyconv.run.cpu.algorithms import pooling_code
from polyconv.run.cpu.algorithms.pooling_code import AXIS_NAMES, SHUFFLED, Tile, tile_of
from polyconv.run.cpu.algorithms.record import (
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    Table,
    aligned,
    ceil_div,
    rows_contiguous,
    share,
    words,
)
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Array, Problem

LEAST_ITEM = 2000  # vector operations below which an item is not cut further


def fits(problem: Problem, target: Target) -> str | None:
    """Pooling of any kind."""
    if problem.op not in ("max_pool", "avg_pool"):
        return f"it pools, and does not compute {problem.op}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """One tile; channels first also the one for few outputs, or little memory."""
    tile = tile_of(problem, target)
    return [tile, tile._replace(together=True)] if problem.layout == "channels_first" else [tile]


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """See `polyconv.run.cpu.algorithms.pooling_code`."""
    return pooling_code.write(problem, tile, target)


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """There is nothing to pack."""
    return aligned(1, problem.numpy_dtype())


def counts(problem: Problem, sizes: Sizes, axis: int) -> list[int]:
    """How many positions the window of each output has along an axis: on data, or within the padded input."""
    stride, dilation = problem.stride[axis], problem.dilation[axis]
    (before, after), size = sizes.padding[axis], sizes.in_size[axis]
    low, high = (-before, size + after) if problem.count_include_pad else (0, size)
    taps = problem.kernel_size[axis]

    def taken(first: int) -> int:
        return max(min(-((first - high) // dilation), taps), 0) - max(min(-((first - low) // dilation), taps), 0)

    count, span = sizes.out_size[axis], (taps - 1) * dilation
    inside = min(max(ceil_div(low + before, stride), 0), count)  # from here on windows start on what counts
    beyond = min(max((high - 1 - span + before) // stride + 1, inside), count)  # from here on some end beyond it
    edges = [[max(taken(at * stride - before), 0) for at in part] for part in (range(inside), range(beyond, count))]
    return [*edges[0], *repeat(taps, beyond - inside), *edges[1]]


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Boxes of outputs and runs of channels."""
    ndim, first = problem.ndim, problem.layout == "channels_first"
    channels, lanes = problem.in_channels, target.lanes(problem.dtype)
    box, run = _boxes(problem, tile, sizes, threads, lanes)
    boxes = [-(-size // part) for size, part in zip(sizes.out_size, box, strict=True)]
    runs = -(-channels // run)
    tables = [counts(problem, sizes, axis) for axis in range(ndim)] if problem.op == "avg_pool" else []
    table: Table = array("f" if problem.dtype == "float32" else "d", chain(*tables, (0,)))
    starts = list(accumulate((len(found) for found in tables[:-1]), initial=0)) if tables else [0] * ndim
    plane, unit = sizes.out_plane, 1 if first else channels
    spatial = sizes.x_strides[2:] if first else sizes.x_strides[1:-1]
    axes: list[int] = []
    for axis in range(ndim):
        axes += [sizes.in_size[axis], sizes.out_size[axis], sizes.padding[axis][0], spatial[axis]]
        axes += [unit * prod(sizes.out_size[axis + 1 :]), box[axis], boxes[axis], starts[axis]]
    if len(axes) != ndim * len(AXIS_NAMES):
        raise ValueError(f"{len(axes)} words for {ndim} axes of {len(AXIS_NAMES)}: the lists differ.")
    before, length = (0, 0) if tile.together else _line(problem, sizes, lanes)
    arguments = words(
        table, sizes.x_strides[0], plane * channels, sizes.x_strides[1] if first else 1, plane if first else 1, runs,
        run, before, length, *axes,
    )  # fmt: skip
    scratch = length * problem.numpy_dtype().itemsize if first else 0
    parts = "x".join(map(str, box))
    return Schedule(
        arguments, (Phase("run0", sizes.batch * prod(boxes) * runs),), scratch, tables=(table,),
        reason=f"boxes of {parts} outputs x {run} of {channels} channels",
    )  # fmt: skip


def _line(problem: Problem, sizes: Sizes, lanes: int) -> tuple[int, int]:
    """The padded row of channels first: where data begins, and its length with room for the last vectors."""
    size, out = sizes.in_size[-1], sizes.out_size[-1]
    stride, span = problem.stride[-1], (problem.kernel_size[-1] - 1) * problem.dilation[-1]
    padding = sizes.padding[-1][0]
    before = max(padding, 0)
    if stride > SHUFFLED:  # one output at a time
        return before, max(before + ceil_div(size, lanes) * lanes, before - padding + (out - 1) * stride + span + 1)
    last = (ceil_div(out, lanes) - 1) * lanes * stride + span  # from here on the last vectors are read, at most
    return before, max(before + ceil_div(size, lanes) * lanes, before - padding + last + stride * lanes)


def _boxes(problem: Problem, tile: Tile, sizes: Sizes, threads: int, lanes: int) -> tuple[list[int], int]:
    """The box of an item and its run of channels: enough items for the threads."""
    first = problem.layout == "channels_first"
    work = prod(problem.kernel_size) / lanes  # of one output
    box, run = list(sizes.out_size), problem.in_channels
    wanted = sizes.positions * problem.in_channels * work / (12 * threads) if threads > 1 else 1e18
    most = max(LEAST_ITEM, min(wanted, 1 << 16))
    grain = [1] * (problem.ndim - 1) + [1 << 62 if first else max(tile.pixels, 1) * 4]
    unit = 1 if first else 4 * lanes

    def narrow() -> None:
        nonlocal run
        while run > unit and prod(box) * run * work > most:
            run = max(unit, (run // 2 + unit - 1) // unit * unit)

    if first:
        narrow()
    for axis in range(problem.ndim):
        while box[axis] > grain[axis] and prod(box) * run * work > most:
            half = -(-box[axis] // 2)
            box[axis] = min(-(-half // grain[axis]) * grain[axis], box[axis] - 1)
    narrow()
    if threads > 1 and problem.ndim > 1 and box[0] < sizes.out_size[0]:
        box[0] = share(sizes.out_size[0], threads, ceil_div(sizes.out_size[0], box[0] * threads))
    return box, run


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: the window's operations, or the memory it moves, and a tenth of the other."""
    item, lanes = problem.numpy_dtype().itemsize, target.lanes(problem.dtype)
    outputs = sizes.positions * problem.out_channels
    inputs = sizes.batch * prod(sizes.in_size) * problem.in_channels
    if problem.layout == "channels_first":
        rows = sizes.batch * problem.in_channels * prod(sizes.out_size[:-1])
        working = rows * (_together_cycles if tile.together else _row_cycles)(problem, sizes, lanes) / CLOCK
    else:
        working = outputs * prod(problem.kernel_size) / lanes / 1.5e9
    moving = (inputs + outputs) * item / 30e9
    return (max(working, moving) + 0.1 * min(working, moving)) / threads


def _row_cycles(problem: Problem, sizes: Sizes, lanes: int) -> float:
    """Cycles for a row of outputs whose input rows are combined first (channels first)."""
    taps, outputs = problem.kernel_size[-1], sizes.out_size[-1]
    combining = 1.5 * prod(problem.kernel_size[:-1]) * ceil_div(sizes.in_size[-1], lanes)
    return 15 + combining + 1.5 * taps * (outputs if problem.stride[-1] > SHUFFLED else ceil_div(outputs, lanes))


def _together_cycles(problem: Problem, sizes: Sizes, lanes: int) -> float:
    """Cycles for a row of outputs that are combined one by one, in several planes together."""
    taps, rows = problem.kernel_size[-1], prod(problem.kernel_size[:-1])
    if problem.ndim > 1 and sizes.out_size[-1] == 1 and taps >= sizes.in_size[-1]:  # whole rows
        return 10 + 1.3 * prod(problem.kernel_size[:-2]) * ceil_div(problem.kernel_size[-2] * sizes.in_size[-1], lanes)
    return sizes.out_size[-1] * (12 + 5.0 * rows * (ceil_div(taps, lanes) if problem.dilation[-1] == 1 else taps))


POOLING = Algorithm("pooling", fits, variants, emit, pack, schedule, cost, rows_contiguous)
