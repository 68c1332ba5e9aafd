"""Dense convolution of channels_first arrays: the same products as ``dense``, fed from a transposed strip of the input.

Broadcasting one channel of one pixel wants the channels of a pixel side by side. So each item first copies the part of
the input that its output positions read, transposed in registers, into its thread's scratch: a strip of some rows (or
of a segment of one row), all channels, without padding. The strip is small enough to stay in the L2 cache, and serves
all output channels. Sums are put down in scratch as well and transposed back on their way to the planes of the output.

Rows of a strip lie a dilation apart, so that a dilated kernel needs no more of them than a plain one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import gcd, prod
from typing import NamedTuple

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import dense
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE
from polyconv.run.cpu.algorithms.dense import Body, DenseKernel, Tile, blocks_of, pack
from polyconv.run.cpu.algorithms.dense_rows import as_one_row
from polyconv.run.cpu.algorithms.gather import GROUP, Gather, Walk, phase_fields, records_of, tap_tables
from polyconv.run.cpu.algorithms.phases import OutputPhases, combined, phases_of
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    Table,
    allowance,
    ceil_div,
    rows_contiguous,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.regions import share_on_data
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

NAMES = (
    *FIXED_WORDS, "table: ptr", "channels", "depth", "all_blocks", "per_phase", "block_chunks", "chunk_blocks",
    "batch_stride", "channel_stride", "out_batch_stride", "plane", "strip", "whole_rows", "side", "lag",
)  # fmt: skip
# groups: strips along the axis; run: output positions in a strip; rows: output positions between neighbours of a strip;
# unit: input positions between neighbours; advance: units between neighbouring outputs; pitch: bytes between units
AXIS_NAMES = ("size", "step", "stride", "out_stride", "groups", "run", "rows", "unit", "advance", "pitch")
PHASE_NAMES = ("out_offset",)  # then grid size and units that taps span for each axis, then those of gather


def fits(problem: Problem, target: Target) -> str | None:
    """Dense kinds of planes."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    if problem.op == "conv_transpose" and problem.stride[-1] > 1:
        return f"neighbouring outputs must be of one phase, but the last stride is {problem.stride[-1]}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As for pixels, but two vectors of output channels at most: the sums are transposed."""
    return [tile for tile in dense.variants(problem, target) if tile.vectors <= 2] or [Tile(6, 1)]


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (phase, strip, chunk of blocks)."""
    return PlanarKernel(problem, tile, target).write()


class StripPart:
    """What of one axis an item covers: its first output position, how many, and where its input starts and ends."""

    def __init__(self, first: Value, count: Value, low: Value, units: Value) -> None:
        self.first, self.count, self.low, self.units = first, count, low, units


class PlanarKernel(DenseKernel):
    """Writes the kernel for planes."""

    names: tuple[str, ...] = NAMES
    axis_names: tuple[str, ...] = AXIS_NAMES
    phase_names: tuple[str, ...] = PHASE_NAMES

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        super().__init__(problem, tile, target)
        self.strip = self.k.byte_at(self.k.scratch, self.w["strip"])
        self.stage = self.k.word_at(self.k.scratch, Gather.words(problem.ndim))  # a tile's sums, position by position

    def rows_at(self) -> Value:
        """Where in scratch the list of taps starts: after the sums."""
        width = max(sum(self.blocks.main), sum(self.blocks.tail))
        return self.k.byte_at(super().rows_at(), GROUP * width * self.k.bytes)

    def pixel_bytes(self) -> int:
        """In a strip."""
        return pitch_of(self.problem)

    @classmethod
    def phase_fields(cls, ndim: int) -> list[str]:
        """Names of the words of a phase's record."""
        return [
            *cls.phase_names,
            *(f"{name}{axis}" for axis in range(ndim) for name in ("grid", "span")),
            *phase_fields(ndim),
        ]

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        last = k.var(k.integer(-1))
        with k.loop(k.first, k.last, carry=[last]) as item:
            phase = self.phase(item // w["per_phase"])
            number = item // w["block_chunks"]
            parts, picture = self.parts(phase, number % (w["per_phase"] // w["block_chunks"]))
            total = parts[0].count
            for part in parts[1:]:
                total = total * part.count
            with k.when(total > 0, carry=[last]):
                with k.when(number.ne(last.value)):
                    self.fill(parts, picture)
                last.value = number
                self.tiles(phase, parts, picture, total, item % w["block_chunks"])
        return k.module()

    def parts(self, phase: dict[str, Value], rest: Value) -> tuple[list[StripPart], Value]:
        """The strip with this number, axis by axis, and its picture."""
        k, w = self.k, self.w
        parts: list[StripPart] = []
        for axis in reversed(range(self.problem.ndim)):
            group = rest % w[f"groups{axis}"]
            rest = rest // w[f"groups{axis}"]
            rows, grid = w[f"rows{axis}"], phase[f"grid{axis}"]
            first = group % rows + (group // rows) * rows * w[f"run{axis}"]
            left = k.maximum(grid - first + rows - 1, 0) // rows
            count = k.minimum(left, w[f"run{axis}"])
            low = first * w[f"step{axis}"] + phase[f"least{axis}"]
            parts.insert(0, StripPart(first, count, low, (count - 1) * w[f"advance{axis}"] + phase[f"span{axis}"]))
        return parts, rest

    # ---- the strip -------------------------------------------------------------------------------------------------
    def fill(self, parts: list[StripPart], picture: Value) -> None:
        """Copy the strip's input, a vector of channels after the other; rows outside the picture are left out.

        All rows of some planes before the next planes: what is read next lies next in memory.
        """
        k, w, lanes = self.k, self.w, self.k.lanes
        source = k.byte_at(w["x"], picture * w["batch_stride"])
        whole, rest = divmod(self.problem.in_channels, lanes)

        def planes(channel: Value, count: int) -> None:
            first = k.byte_at(source, channel * w["channel_stride"])
            self.fill_axis(0, parts, first, k.at(self.strip, channel), count)

        if whole:
            with k.loop(0, whole * lanes, lanes, nonempty=True) as channel:
                planes(channel, lanes)
        if rest:
            planes(k.integer(whole * lanes), rest)

    def fill_axis(self, axis: int, parts: list[StripPart], source: Value, sink: Value, channels: int) -> None:
        """All rows along one axis; along the last, all pixels."""
        k, w, part = self.k, self.w, parts[axis]
        if axis == len(parts) - 1:
            start = k.maximum(part.low, 0)
            stop = k.minimum(part.low + part.units, w[f"size{axis}"])
            with k.loop(start, stop, k.lanes) as x:
                pixels = k.byte_at(sink, (x - part.low) * w[f"pitch{axis}"])
                self.fill_pixels(k.at(source, x), pixels, stop - x, w[f"pitch{axis}"], channels)
            return
        with k.loop(0, part.units) as unit:
            place = part.low + unit * w[f"unit{axis}"]
            with k.when(place.below(w[f"size{axis}"])):
                row = k.byte_at(source, place * w[f"stride{axis}"])
                self.fill_axis(axis + 1, parts, row, k.byte_at(sink, unit * w[f"pitch{axis}"]), channels)

    def fill_pixels(self, source: Value, sink: Value, left: Value, pitch: Value, channels: int) -> None:
        """A vector of pixels of some channels, transposed: lanes x lanes; few channels lane by lane, without gaps."""
        k, w = self.k, self.w
        mask = k.mask(left)
        planes = [k.load_vector(k.byte_at(source, w["channel_stride"] * c), mask=mask) for c in range(channels)]
        if self.problem.in_channels == channels <= WOVEN:
            for number, values in enumerate(woven(k, planes)):
                k.store_vector(values, k.at(sink, number * k.lanes))
            return
        for pixel, values in enumerate(k.transpose([*planes, *(k.zero() for _ in range(k.lanes - channels))])):
            k.store_vector(values, k.byte_at(sink, pitch * pixel), count=channels)

    # ---- the tiles -------------------------------------------------------------------------------------------------
    def tiles(
        self, phase: dict[str, Value], parts: list[StripPart], picture: Value, total: Value, chunk: Value
    ) -> None:
        """Cut the strip's positions evenly into tiles: all of them in one run, or each row by itself."""
        k, w = self.k, self.w
        span = k.select(w["whole_rows"].ne(0), total, parts[-1].count)
        tiles = (span + self.tile.positions - 1) // self.tile.positions
        with k.loop(0, total, span, nonempty=True) as start:

            def lay(number: Value) -> tuple[Value, Value]:
                low, high = (number * span) // tiles, ((number + 1) * span) // tiles
                self.place(phase, parts, picture, start + low, high - low)
                return high - low, self.point(phase, high - low)

            def multiply(count: Value, active: Value) -> None:
                self.multiply_blocks(chunk, count, active)

            self.gather.ahead_of(k.integer(0), tiles, w["side"], w["lag"], lay, multiply)

    def place(
        self, phase: dict[str, Value], parts: list[StripPart], picture: Value, start: Value, count: Value
    ) -> None:
        """Write base address, origin and output address of each position of a tile."""
        k, w, ndim = self.k, self.w, self.problem.ndim
        sink = k.byte_at(w["out"], phase["out_offset"] + picture * w["out_batch_stride"])
        walks: list[Walk] = []
        for axis in reversed(range(ndim)):
            part, rows, step, out_stride = parts[axis], w[f"rows{axis}"], w[f"step{axis}"], w[f"out_stride{axis}"]
            hop = w[f"advance{axis}"] * w[f"pitch{axis}"]
            walks.insert(
                0, Walk(start % part.count, part.count, part.first * step, rows * step, hop, rows * out_stride)
            )
            start = start // part.count
            sink = k.byte_at(sink, part.first * out_stride)
        self.gather.lay(walks, count, self.strip, sink)

    def fetch_next(self, pixel: Value, turn: Value, positions: int, turns: int = 1) -> None:
        """A strip is in the L2."""

    # ---- the sums --------------------------------------------------------------------------------------------------
    def finish(self, body: Body, sums: list[list[Var]]) -> None:
        """Put the sums down in scratch."""
        k, width = self.k, sum(body.lanes)
        for position, totals in enumerate(sums):
            for start, total in zip(body.starts, totals, strict=True):
                k.store_vector(total.value, k.at(self.stage, position * width + start), align=k.bytes)

    def after(self, body: Body, count: Value) -> None:
        """Activate the sums and transpose them: a vector of neighbouring positions for each channel's plane."""
        k, width = self.k, sum(body.lanes)
        for start, lanes, used in zip(body.starts, body.lanes, body.counts, strict=True):
            base = k.at(k.load(self.gather.outs, "ptr"), (body.channel + start) * self.w["plane"])
            for low in range(0, self.tile.positions, lanes):
                mask = k.mask(count - low, lanes)
                rows = [
                    k.load_vector(k.at(self.stage, min(low + p, GROUP - 1) * width + start), lanes)
                    for p in range(lanes)
                ]
                rows = [activate(k, self.problem.activation, row) for row in rows]
                for channel, values in enumerate(k.transpose(rows)[:used]):
                    spot = k.at(base, self.w["plane"] * channel)
                    k.store_vector(values, k.at(spot, low), mask=mask)


WOVEN = 6  # channels up to which weaving them takes fewer shuffles than a transposition


def woven(k: Kernel, planes: Sequence[Value]) -> list[Value]:
    """As many vectors that hold the first elements of all given vectors, then the second ones, and so on."""
    lanes, count, found = k.lanes, len(planes), []
    for first in range(0, count * lanes, lanes):
        places = [divmod(at, count) for at in range(first, first + lanes)]  # (element, vector)
        values = planes[0]
        order = [element if vector == 0 else -1 for element, vector in places]
        for number in range(1, count):
            order = [
                lanes + element if vector == number else at for at, (element, vector) in zip(order, places, strict=True)
            ]
            values = k.shuffle(values, planes[number], order)
            order = [lane if vector <= number else -1 for lane, (_, vector) in enumerate(places)]
        found.append(values)
    return found


# ---- run-time sizes ------------------------------------------------------------------------------------------------
STRIP_BYTES = 128 << 10  # what a strip may take where the weights stay in the L2; and at most a quarter of the L2


class StripAxis(NamedTuple):
    """How one axis is cut into strips (the words of AXIS_NAMES that are not strides)."""

    groups: int
    run: int
    rows: int
    unit: int
    advance: int
    units: int  # input positions in the strip


def _axes(problem: Problem, phases: OutputPhases, grid: Sequence[int], runs: Sequence[int]) -> list[StripAxis]:
    """Strips of ``runs`` output positions along each axis."""
    found = []
    for axis, run in enumerate(runs):
        step = phases.in_step[axis]
        last = axis == problem.ndim - 1
        spread = step if problem.kernel_size[axis] == 1 else problem.dilation[axis]
        unit = 1 if last or problem.op == "conv_transpose" else spread
        rows = unit // gcd(step, unit)
        advance = step * rows // unit
        each = ceil_div(grid[axis], rows)
        run = max(1, min(run, each))
        groups = rows * ceil_div(each, run)
        found.append(StripAxis(groups, run, rows, unit, advance, (run - 1) * advance + phases.spans[axis] // unit + 1))
    return found


SAME_SET = 4096  # bytes: addresses so far apart share a set of the L1


@lru_cache(maxsize=256)
def weight_bytes(problem: Problem, tile: Tile, target: Target) -> int:
    """Bytes of the packed weights that the positions of one phase read, for one group."""
    taps = ceil_div(prod(problem.kernel_size), prod(problem.stride) if problem.op == "conv_transpose" else 1)
    terms = taps * problem.in_channels // problem.groups
    return terms * blocks_of(problem, tile, target).lanes * problem.numpy_dtype().itemsize


def _even_run(each: int, outside: int, most: int, halo: int, threads: int) -> int:
    """Rows of a strip, at most ``most``, such that the busiest thread has least to do.

    ``outside`` times ``each`` rows are cut; a strip reads ``halo`` more rows than it computes, and to bring a row to a
    strip takes a twentieth of the time of computing one.

    >>> _even_run(14, 1, 8, 0, 2), _even_run(56, 1, 13, 2, 2), _even_run(14, 1, 12, 15, 1)
    (7, 7, 7)
    """
    best, least = most, 0.0
    fewest = max(1, -(-each // most))
    for count in range(fewest, fewest + (3 * threads if threads > 1 else 1)):
        run = -(-each // count) or 1
        rows = -(-outside * -(-each // run) // threads) * run
        seconds = rows * (1 + 0.05 * halo / run)
        if not least or seconds < least:
            best, least = run, seconds
    return best


def cut_strips(
    problem: Problem,
    tile: Tile,
    target: Target,
    sizes: Sizes,
    phases: OutputPhases,
    grid: list[int],
    threads: int,
    weights: int,
    most: int,
) -> list[StripAxis]:
    """Strips of whole rows, as many as the cache and the threads allow; of part of a row where one is too long.

    ``weights``: bytes that the positions of one item read, of a group; ``most``: bytes that a strip should not exceed,
    if it need not be shorter than a tile for that.
    """
    item, channels = problem.itemsize, problem.in_channels
    total = sizes.batch * channels * prod(sizes.in_size) + sizes.positions * problem.out_channels
    streamed = weights > target.l2_bytes // 2
    # weights that do not stay in the L2 are read again for each strip: the fewer strips the better, unless every
    # thread's copying of the whole strip outweighs that (one tap)
    long = streamed and (prod(problem.kernel_size) > 1 or prod(problem.stride) == 1)
    limit = target.l2_bytes // 4 if long else min(STRIP_BYTES, target.l2_bytes // 4)
    shared = threads == 1 or streamed
    if not shared:  # otherwise the threads share out the output channels
        limit = min(limit, max(item * total // (4 * threads), 4096))
    beyond = target.lanes(problem.dtype) if min(phases.least[-1]) < 0 else 0  # pixels of a strip's last vector
    most -= item * beyond * channels
    limit = min(limit, most)
    runs = [1] * problem.ndim
    runs[-1] = max(1, grid[-1])

    def room(runs: Sequence[int]) -> int:
        return item * problem.in_channels * prod(axis.units for axis in _axes(problem, phases, grid, runs))

    while (runs[-1] > 2 * tile.positions and room(runs) > limit) or (runs[-1] > tile.positions and room(runs) > most):
        runs[-1] = ceil_div(runs[-1], 2)
    if problem.ndim > 1 and runs[-1] >= grid[-1]:
        axes = _axes(problem, phases, grid, runs)
        rows, span, advance = axes[-2].rows, axes[-2].units, axes[-2].advance
        each, outside = ceil_div(grid[-2], rows), sizes.batch * prod(grid[:-2]) * rows
        fit = max(
            1, (limit // (item * problem.in_channels * prod(axis.units for axis in axes) // span) - span) // advance + 1
        )
        if not shared:
            fit = max(min(fit, ceil_div(each * outside, threads)), 1)
        runs[-2] = _even_run(each, outside, fit, span - 1, 1 if shared else threads)
    return _axes(problem, phases, grid, runs)


def pitch_of(problem: Problem) -> int:
    """Bytes between the pixels of a strip.

    Pixels whose addresses differ by a multiple of a page would share a set of the L1: a line is left out after each.
    """
    pitch = problem.numpy_dtype().itemsize * problem.in_channels
    return pitch + CACHE_LINE if pitch % SAME_SET == 0 else pitch


def pitches_of(problem: Problem, axes: Sequence[StripAxis]) -> list[int]:
    """Bytes between neighbouring units of a strip along each axis."""
    pitches = [pitch_of(problem)]
    for axis in reversed(axes[1:]):
        pitches.insert(0, pitches[0] * axis.units)
    return pitches


def strip_bytes(lanes: int, phases: OutputPhases, axes: Sequence[StripAxis], pitches: Sequence[int]) -> int:
    """Scratch for a strip: its last vector of pixels may end beyond it, the more so where the first is on padding."""
    units = axes[-1].units
    padded = min(max(-min(phases.least[-1]), 0), lanes, units)
    beyond = max(before + ceil_div(units - before, lanes) * lanes for before in range(padded + 1)) - units
    return pitches[0] * axes[0].units + beyond * pitches[-1]


def joined(problem: Problem, pitches: Sequence[int]) -> int | None:
    """The distance between pixels whose channels follow one another in a strip; None where none do."""
    is_dense = pitches[-1] == problem.numpy_dtype().itemsize * problem.in_channels
    return pitches[-1] if problem.groups == 1 and is_dense else None


def schedule(
    problem: Problem,
    tile: Tile,
    target: Target,
    sizes: Sizes,
    threads: int,
    out_strides: list[int] | None = None,
) -> Schedule:
    """Strips, taps and chunks of one shape; ``out_strides`` as in ``dense``."""
    item, ndim = problem.numpy_dtype().itemsize, problem.ndim
    if out_strides is None:
        sizes = as_one_row(problem, sizes)
    phases = phases_of(problem, sizes.padding)
    grids = phases.grids(sizes.out_size)
    grid = list(map(max, zip(*grids, strict=True)))
    blocks, weights = blocks_of(problem, tile, target), weight_bytes(problem, tile, target)
    stage = GROUP * item * max(sum(blocks.main), sum(blocks.tail))
    most = allowance(problem, sizes) // threads
    strip_at, *sides = Gather.room(ndim, max(phases.counts), stage, most // 2)
    axes = cut_strips(problem, tile, target, sizes, phases, grid, threads, weights, most - strip_at)
    pitches = pitches_of(problem, axes)
    planes = [prod(sizes.out_size[axis:]) for axis in range(ndim + 1)]
    planes[0] = sizes.out_plane
    batch_step, *steps = [item * step for step in out_strides or [problem.out_channels * planes[0], *planes[1:]]]
    table = _table(problem, phases, grids, axes, pitches, steps)
    channels, taps = problem.in_channels // problem.groups, prod(problem.kernel_size)
    all_blocks, strips = blocks.count * problem.groups, sizes.batch * prod(axis.groups for axis in axes)
    chunk_blocks = -(-all_blocks // max(1, min(all_blocks, 4 * threads // strips))) if threads > 1 else all_blocks
    whole = weights * all_blocks // blocks.count
    chunk_blocks = min(chunk_blocks, max(1, all_blocks * (target.l2_bytes // 2) // max(whole, 1)))
    block_chunks = ceil_div(all_blocks, chunk_blocks)
    strip = strip_bytes(target.lanes(problem.dtype), phases, axes, pitches)
    per_axis: list[int] = []
    for a, axis in enumerate(axes):
        per_axis += [sizes.in_size[a], phases.in_step[a], sizes.x_strides[2 + a] * item]
        per_axis += [steps[a] * phases.out_step[a], axis.groups, axis.run, axis.rows, axis.unit, axis.advance]
        per_axis += [pitches[a]]
    whole_rows = all(axis.rows == 1 and axis.run >= size for axis, size in zip(axes[-1:], grid[-1:], strict=True))
    whole_rows = whole_rows and all(axis.rows == 1 for axis in axes) and not _scattered_rows(phases)
    arguments = words(
        table, channels, channels * taps, all_blocks, strips * block_chunks, block_chunks, chunk_blocks,
        sizes.x_strides[0] * item, sizes.x_strides[1] * item, batch_step,
        planes[0], strip_at, int(whole_rows), *sides, *per_axis,
    )  # fmt: skip
    reason = (
        f"{len(grids)} phase(s), {strips} strips of {[axis.run for axis in axes]}, {block_chunks} chunk(s) of blocks"
    )
    items = len(grids) * strips * block_chunks
    return Schedule(arguments, (Phase("run0", items),), strip_at + strip, tables=(table,), reason=reason)


def _scattered_rows(phases: OutputPhases) -> bool:
    """Are rows of one phase not neighbours in the output (then a tile must not cross them)."""
    return any(step > 1 for step in phases.out_step[:-1]) and phases.out_step[-1] == 1


def _table(
    problem: Problem,
    phases: OutputPhases,
    grids: list[tuple[int, ...]],
    axes: list[StripAxis],
    pitches: list[int],
    out_strides: list[int],
) -> Table:
    """Phase records, then taps, in one array of words."""
    names = PlanarKernel.phase_fields(problem.ndim)
    units = [axis.unit for axis in axes]
    follows = joined(problem, pitches)
    record, tap_words = tap_tables(
        phases, combined(_columns(phases, units), pitches), len(grids) * len(names),
        problem.in_channels // problem.groups, follows,
    )  # fmt: skip
    record["out_offset"] = phases.out_offsets(out_strides)
    for axis, lengths in enumerate(zip(*grids, strict=True)):
        spans = zip(phases.counts, phases.least[axis], phases.most[axis], strict=True)
        record[f"grid{axis}"] = lengths
        record[f"span{axis}"] = [(most - least) // units[axis] + 1 if count else 0 for count, least, most in spans]
    return table_of([*records_of(names, record), *tap_words])


def _columns(phases: OutputPhases, units: list[int]) -> list[list[int]]:
    """Of each tap along each axis, its distance from its phase's first, in the strip's units."""
    bounds = list(pairwise(phases.starts))
    return [
        [(shift - low) // unit for low, (start, end) in zip(least, bounds, strict=True) for shift in shifts[start:end]]
        for shifts, least, unit in zip(phases.shifts, phases.least, units, strict=True)
    ]


STREAMED = 48  # bytes a cycle that strips wait for, where they read weights from beyond the L2 again


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """As for pixels, plus some of a cycle for every value that is transposed, and what strips add.

    Each strip reads all weights again; and tiles of a dilated layer, which run over rows, meet half of the columns'
    padding, about.
    """
    values, item = sizes.batch * problem.in_channels * prod(sizes.in_size), problem.numpy_dtype().itemsize
    moved = values * 1.3 + sizes.positions * problem.out_channels
    cycles = moved * (0.35 if target.slow_vectors else 0.9)
    weights = weight_bytes(problem, tile, target) * problem.groups
    if weights >= target.l2_bytes // 2:
        taps = problem.kernel_size[0] if problem.dilation[0] > 1 else 1
        limit = target.l2_bytes // 4 if prod(problem.kernel_size) > 1 else min(STRIP_BYTES, target.l2_bytes // 4)
        cycles += ceil_div(values * item * taps, limit) * weights / STREAMED
    products = dense.cost(problem, tile, target, sizes, threads)
    if problem.dilation[-1] > 1 and (on_data := share_on_data(problem, sizes)):
        columns = on_data / share_on_data(problem, sizes, problem.ndim - 1)
        products *= 0.5 + 0.5 / columns
    return products + cycles / CLOCK / threads


DENSE_PLANAR = Algorithm("dense_planar", fits, variants, emit, pack, schedule, cost, rows_contiguous)
