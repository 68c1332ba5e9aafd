"""Transposed convolution of channels_first arrays with a stride along rows: neighbouring columns leave together.

Outputs of one phase lie a stride apart in their row, so that they cannot be stored as vectors. But the phases of
neighbouring columns read the same inputs: here one item computes all of them for a tile of positions, from the turned
strip of ``dense_planar``. Position q of phase r is output q * stride + r, and that is also its row in scratch: once
all phases of a block of channels are there, rows follow each other as outputs do, and are transposed on their way to
their planes as those of a plain convolution are. A tile that runs over several rows of the picture leaves row by row.

Every output is bias + the sum over its phase's taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

from math import prod

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import dense
from polyconv.run.cpu.algorithms.dense import Body, DenseKernel, Tile, blocks_of, pack
from polyconv.run.cpu.algorithms.dense_planar import (
    NAMES,
    PlanarKernel,
    StripPart,
    cut_strips,
    joined,
    pitches_of,
    strip_bytes,
    variants,
    weight_bytes,
)
from polyconv.run.cpu.algorithms.gather import GROUP, MOST_POSITIONS, Gather, records_of, tap_tables
from polyconv.run.cpu.algorithms.phases import OutputPhases, combined, phases_of
from polyconv.run.cpu.algorithms.record import (
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
from polyconv.run.cpu.emit import Value, Var
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

LIST_CYCLES = 100.0  # to write the list of taps of a tile's phase
HEADER = GROUP * 8  # bytes in front of each list of taps: how long it is


def fits(problem: Problem, target: Target) -> str | None:
    """Planes, and neighbouring outputs of different phases."""
    if problem.op != "conv_transpose":
        return f"it computes transposed convolutions, not {problem.op}"
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    if problem.stride[-1] == 1:
        return "neighbouring outputs are of one phase: the last stride is 1"
    return None


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (strip, phase of rows, chunk of blocks)."""
    return SpreadKernel(problem, tile, target).write()


class SpreadKernel(PlanarKernel):
    """Writes the kernel: one list of taps for each column's phase, one stage for all of them."""

    names = (*NAMES, "row_phases", "list_bytes", "stage", "row")
    stage: Value

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        super().__init__(problem, tile, target)
        self.columns = problem.stride[-1]
        self.first_stage = self.k.byte_at(self.k.scratch, self.w["stage"])

    def rows_at(self) -> Value:
        """Where in scratch the lists of taps start."""
        return DenseKernel.rows_at(self)

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        largest = self.phase(k.integer(0))  # no phase has more positions along any axis
        last = k.var(k.integer(-1))
        with k.loop(k.first, k.last, carry=[last]) as item:
            rest, chunk = item // w["block_chunks"], item % w["block_chunks"]
            number, self.first_phase = rest // w["row_phases"], (rest % w["row_phases"]) * self.columns
            phase = self.phase(self.first_phase)
            parts, picture = self.parts(phase, number)
            total = parts[0].count
            for part in parts[1:]:
                total = total * part.count
            with k.when(total > 0, carry=[last]):
                with k.when(number.ne(last.value)):
                    self.fill(self.parts(largest, number)[0], picture)
                last.value = number
                self.tiles(phase, parts, picture, total, chunk)
        return k.module()

    @classmethod
    def phase_fields(cls, ndim: int) -> list[str]:
        """Names of the words of a phase's record."""
        return [*(f"low{axis}" for axis in range(ndim)), *super().phase_fields(ndim)]

    def parts(self, phase: dict[str, Value], rest: Value) -> tuple[list[StripPart], Value]:
        """As for planes; a strip holds what any phase reads."""
        return super().parts({**phase, **{f"least{a}": phase[f"low{a}"] for a in range(self.problem.ndim)}}, rest)

    def tiles(
        self, phase: dict[str, Value], parts: list[StripPart], picture: Value, total: Value, chunk: Value
    ) -> None:
        """Cut the strip's positions evenly into tiles."""
        k, w, row = self.k, self.w, parts[-1]
        span = k.select(w["whole_rows"].ne(0), total, row.count)
        tiles = (span + self.tile.positions - 1) // self.tile.positions
        self.part = row
        with k.loop(0, total, span, nonempty=True) as start:

            def lay(number: Value) -> tuple[Value, Value]:
                low, high = (number * span) // tiles, ((number + 1) * span) // tiles
                self.place(phase, parts, picture, start + low, high - low)
                self.point_columns(high - low)
                return high - low, (start + low) % row.count

            def multiply(count: Value, column: Value) -> None:
                self.column = column
                self.multiply_blocks(chunk, count, column)

            self.gather.ahead_of(k.integer(0), tiles, w["side"], w["lag"], lay, multiply)

    # ---- the lists of taps -----------------------------------------------------------------------------------------
    def point_columns(self, count: Value) -> None:
        """A list of taps for each column's phase."""
        k, lists = self.k, self.gather.rows
        with k.loop(0, self.columns, nonempty=True) as column:
            header = k.byte_at(lists, column * self.w["list_bytes"])
            self.gather.rows = k.byte_at(header, HEADER)
            k.store(self.point(self.phase(self.first_phase + column), count), header)
        self.gather.rows = lists

    def bodies(self, body: Body, count: Value) -> None:
        """The sums of every column's phase, each at its place among the others."""
        k, lists, width = self.k, self.gather.rows, sum(body.lanes)
        with k.loop(0, self.columns, nonempty=True) as column:
            header = k.byte_at(lists, column * self.w["list_bytes"])
            self.gather.rows, self.stage = k.byte_at(header, HEADER), k.at(self.first_stage, column * width)
            super().bodies(body._replace(active=k.load(header, "i64")), count)
        self.gather.rows = lists

    # ---- the sums --------------------------------------------------------------------------------------------------
    def finish(self, body: Body, sums: list[list[Var]]) -> None:
        """Put one phase's sums down, a stride apart."""
        k, width = self.k, sum(body.lanes)
        for position, totals in enumerate(sums):
            for start, total in zip(body.starts, totals, strict=True):
                k.store_vector(total.value, k.at(self.stage, position * self.columns * width + start), align=k.bytes)

    def after(self, body: Body, count: Value) -> None:
        """Activate the outputs and bring them to their planes, row by row of the picture."""
        k, row, width = self.k, self.part, sum(body.lanes)
        with k.loop(0, (self.column + count + row.count - 1) // row.count, nonempty=True) as number:
            low = k.maximum(number * row.count - self.column, 0)
            high = k.minimum((number + 1) * row.count - self.column, count)
            place = row.first + (self.column + low - number * row.count)
            left = k.minimum((high - low) * self.columns, self.w["row"] - place * self.columns)
            out = k.at(k.load(k.word_at(self.gather.outs, low), "ptr"), body.channel * self.w["plane"])
            stage = k.at(self.first_stage, low * (self.columns * width))
            for start, lanes, used in zip(body.starts, body.lanes, body.counts, strict=True):
                with k.loop(0, left, lanes) as at:
                    rows = [k.load_vector(k.at(stage, (at + line) * width + start), lanes) for line in range(lanes)]
                    rows = [activate(k, self.problem.activation, values) for values in rows]
                    mask = k.mask(left - at, lanes)
                    for channel, values in enumerate(k.transpose(rows)[:used]):
                        plane = k.at(out, self.w["plane"] * (start + channel))
                        k.store_vector(values, k.at(plane, at), mask=mask)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Strips, taps and chunks of one shape."""
    item, ndim, columns = problem.numpy_dtype().itemsize, problem.ndim, problem.stride[-1]
    phases = phases_of(problem, sizes.padding)
    grids = phases.grids(sizes.out_size)
    blocks = blocks_of(problem, tile, target)
    all_blocks, row_phases = blocks.count * problem.groups, len(grids) // columns
    read = weight_bytes(problem, tile, target) * columns
    list_bytes = HEADER + GROUP * 8 * max(phases.counts)
    most = allowance(problem, sizes) // threads
    stage_at, *sides = Gather.room(ndim, columns * list_bytes // (GROUP * 8), 0, most // 2)
    width = max(sum(blocks.main), sum(blocks.tail))
    # rows beyond the last are read by the transposition
    strip_at = stage_at + item * width * (MOST_POSITIONS * columns + target.lanes(problem.dtype))
    axes = cut_strips(problem, tile, target, sizes, phases, list(grids[0]), threads, read, most - strip_at)
    pitches = pitches_of(problem, axes)
    planes = [sizes.out_plane, *(prod(sizes.out_size[axis:]) for axis in range(1, ndim + 1))]
    batch_step, *steps = [item * step for step in (problem.out_channels * planes[0], *planes[1:])]
    table = _table(problem, phases, grids, pitches, steps)
    strips = sizes.batch * prod(axis.groups for axis in axes)
    pieces = strips * row_phases
    chunk_blocks = ceil_div(all_blocks, max(1, min(all_blocks, 4 * threads // pieces))) if threads > 1 else all_blocks
    whole = read * problem.groups
    chunk_blocks = min(chunk_blocks, max(1, all_blocks * (target.l2_bytes // 2) // max(whole, 1)))
    block_chunks = ceil_div(all_blocks, chunk_blocks)
    strip = strip_bytes(target.lanes(problem.dtype), phases, axes, pitches)
    per_axis: list[int] = []
    for a, axis in enumerate(axes):
        per_axis += [sizes.in_size[a], phases.in_step[a], sizes.x_strides[2 + a] * item]
        per_axis += [steps[a] * phases.out_step[a], axis.groups, axis.run, axis.rows, axis.unit, axis.advance]
        per_axis += [pitches[a]]
    channels = problem.in_channels // problem.groups
    arguments = words(
        table, channels, channels * prod(problem.kernel_size), all_blocks, pieces * block_chunks, block_chunks,
        chunk_blocks, sizes.x_strides[0] * item, sizes.x_strides[1] * item, batch_step, planes[0], strip_at,
        int(axes[-1].run >= grids[0][-1]), *sides, row_phases, list_bytes, stage_at, sizes.out_size[-1], *per_axis,
    )  # fmt: skip
    reason = (
        f"{len(grids)} phase(s), {columns} together, {strips} strips of {[axis.run for axis in axes]}, "
        f"{block_chunks} chunk(s) of blocks"
    )
    return Schedule(
        arguments, (Phase("run0", pieces * block_chunks),), strip_at + strip, tables=(table,), reason=reason
    )


def _table(
    problem: Problem, phases: OutputPhases, grids: list[tuple[int, ...]], pitches: list[int], out_strides: list[int]
) -> Table:
    """Phase records, then taps; a strip starts at the least shift of all phases, which its kernel's fields give."""
    names = SpreadKernel.phase_fields(problem.ndim)
    low = [min(shifts) for shifts in phases.shifts]
    columns = [[shift - least for shift in shifts] for shifts, least in zip(phases.shifts, low, strict=True)]
    record, tap_words = tap_tables(
        phases, combined(columns, pitches), len(grids) * len(names), problem.in_channels // problem.groups,
        joined(problem, pitches),
    )  # fmt: skip
    record["out_offset"] = phases.out_offsets(out_strides)
    for axis, lengths in enumerate(zip(*grids, strict=True)):
        record[f"grid{axis}"] = lengths
        record[f"span{axis}"] = [phases.spans[axis] + 1] * len(grids)
        record[f"low{axis}"] = [low[axis]] * len(grids)
    return table_of([*records_of(names, record), *tap_words])


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """As for pixels, plus some of a cycle for every value that is turned, and the lists of taps of each tile."""
    moved = sizes.batch * problem.in_channels * prod(sizes.in_size) * 1.3 + sizes.positions * problem.out_channels * 1.3
    outside = moved * (0.35 if target.slow_vectors else 0.9) + sizes.positions / tile.positions * LIST_CYCLES
    return dense.cost(problem, tile, target, sizes, threads) + outside / CLOCK / threads


DENSE_SPREAD = Algorithm("dense_spread", fits, variants, emit, pack, schedule, cost, rows_contiguous)
