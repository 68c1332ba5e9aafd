"""Convolution of channels_last arrays without memory of its own: addresses and sums stay in registers.

The products of ``dense``, for tiles of one row each. What that writes down for a tile, where each position's pixel of
each tap lies, is worked out anew here for each tap and block of channels: a few instructions a pixel, little beside
the products of many channels and much beside those of one. So this is for layers whose arrays are so small that any
scratch would be a large part of them (``record.allowance``).

Every output is bias + the sum over taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from polyconv.run.cpu.activations import LONG, LONGEST, activate
from polyconv.run.cpu.algorithms import dense
from polyconv.run.cpu.algorithms.dense import Body, DenseKernel, Tile, blocks_of, fits, pack
from polyconv.run.cpu.algorithms.gather import phase_fields, records_of, tap_tables
from polyconv.run.cpu.algorithms.phases import phases_of
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    ceil_div,
    contiguous,
    pixels_contiguous,
    table_of,
    words,
)
from polyconv.run.cpu.emit import Value, Var
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

NAMES = (
    *FIXED_WORDS, "table: ptr", "channels", "depth", "all_blocks", "chunk_blocks", "block_chunks", "per_phase",
    "batch_stride", "out_batch_stride",
)  # fmt: skip
PHASE_NAMES = ("tiles", "row_tiles", "out_offset")  # then grid sizes, then those of gather


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As for ``dense``."""
    return dense.variants(problem, target)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (phase, tile of a row, chunk of blocks)."""
    return _Kernel(problem, tile, target).write()


class _Kernel(DenseKernel):
    """Writes the kernel: another way to a tile's pixels and sums."""

    names = NAMES
    record: dict[str, Value]  # of the phase
    source: Value  # the pixel of the tile's first position
    sink: Value  # and its output
    origins: list[Value]  # and its coordinates in the input

    @classmethod
    def phase_fields(cls, ndim: int) -> list[str]:
        """Names of the words of a phase's record."""
        return [*PHASE_NAMES, *(f"grid{axis}" for axis in range(ndim)), *phase_fields(ndim)]

    def write(self) -> str:
        """The module's text."""
        k, w, last = self.k, self.w, self.problem.ndim - 1
        with k.loop(k.first, k.last) as item:
            rest, chunk = item // w["block_chunks"], item % w["block_chunks"]
            self.record = phase = self.phase(rest // w["per_phase"])
            number = rest % w["per_phase"]
            with k.when(number < phase["tiles"]):
                part, outer = number % phase["row_tiles"], number // phase["row_tiles"]
                first = (part * phase[f"grid{last}"]) // phase["row_tiles"]
                count = ((part + 1) * phase[f"grid{last}"]) // phase["row_tiles"] - first
                self.source, self.sink, self.origins = w["x"], k.byte_at(w["out"], phase["out_offset"]), []
                for axis in reversed(range(last + 1)):
                    place = first if axis == last else outer % phase[f"grid{axis}"]
                    outer = outer if axis == last else outer // phase[f"grid{axis}"]
                    self.origins.insert(0, place * w[f"step{axis}"])
                    self.source = k.byte_at(self.source, self.origins[0] * w[f"stride{axis}"])
                    self.sink = k.byte_at(self.sink, place * w[f"out_stride{axis}"])
                self.source = k.byte_at(self.source, outer * w["batch_stride"])
                self.sink = k.byte_at(self.sink, outer * w["out_batch_stride"])
                self.multiply_blocks(chunk, count, phase["taps"])
        return k.module()

    def bodies(self, body: Body, count: Value) -> None:
        """The code for each number of positions."""
        self.k.switch(count, range(1, self.tile.positions + 1), lambda positions: self.sums(body, positions))

    def sums(self, body: Body, positions: int) -> None:
        """The code for this many positions: a tap at a time, those on padding of an outer axis left out."""
        k, w, ndim = self.k, self.w, self.problem.ndim
        biases = [k.load_vector(k.at(body.bias, at), n) for at, n in zip(body.starts, body.lanes, strict=True)]
        sums = [[k.var(bias) for bias in biases] for _ in range(positions)]
        flat = [total for row in sums for total in row]
        with k.loop(0, body.active, carry=flat) as number:
            tap = k.word_at(w["table"], self.record["taps_at"] + number * (2 + ndim))
            meets = k.integer(1)
            for axis, origin in enumerate(self.origins[:-1]):
                shift = k.load(k.word_at(tap, 2 + axis), "i64")
                meets = meets & k.convert((origin + shift).below(w[f"size{axis}"]), "zext", "i64")
            with k.when(meets.ne(0), carry=flat):
                self.tap(body, tap, sums)
        self.put(body, sums)

    def tap(self, body: Body, tap: Value, sums: list[list[Var]]) -> None:
        """The products of one tap; positions on padding read the row of zeros."""
        k, w, last = self.k, self.w, self.problem.ndim - 1
        flat, width = [total for row in sums for total in row], sum(body.lanes)
        column = self.origins[last] + k.load(k.word_at(tap, 2 + last), "i64")
        source = k.byte_at(self.source, k.load(k.word_at(tap, 1), "i64"))
        zeros = k.at(w["packed"], self.zeros_at(w["depth"]))
        hop, pixels = w[f"step{last}"] * w[f"stride{last}"], []
        for position in range(len(sums)):
            valid = (column + w[f"step{last}"] * position).below(w[f"size{last}"])
            pixels.append(k.at(k.select(valid, k.byte_at(source, hop * position), zeros), body.first))
        weights = k.at(body.weights, k.load(tap, "i64") * w["channels"] * width)
        with k.loop(0, w["channels"], carry=flat, nonempty=True) as c:
            spot = k.at(weights, c * width)
            vectors = [k.load_vector(k.at(spot, at), n) for at, n in zip(body.starts, body.lanes, strict=True)]
            for pixel, totals in zip(pixels, sums, strict=True):
                value = k.load(k.at(pixel, c))
                for vector, total, n in zip(vectors, totals, body.lanes, strict=True):
                    total.value = k.fma(vector, k.broadcast(value, n), total.value)

    def put(self, body: Body, sums: list[list[Var]]) -> None:
        """Activate and store, pixel by pixel."""
        k, last = self.k, self.problem.ndim - 1
        apart = LONGEST if len(sums) == self.tile.positions else LONG
        for position, totals in enumerate(sums):
            out = k.at(k.byte_at(self.sink, self.w[f"out_stride{last}"] * position), body.channel)
            for start, count, total in zip(body.starts, body.counts, totals, strict=True):
                value = activate(k, self.problem.activation, total.value, apart)
                k.store_vector(value, k.at(out, start), count=count)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _as_one_row(problem: Problem, sizes: Sizes) -> Sizes:
    """All pixels of a pointwise layer as one row; other sizes as they are."""
    padded = any(pad for pair in sizes.padding for pad in pair)
    if not problem.is_pointwise or padded or not contiguous(problem, sizes):
        return sizes
    channels, row = problem.in_channels, (*(1,) * (problem.ndim - 1), sizes.positions)
    strides = (channels * sizes.positions,) * problem.ndim
    return Sizes(1, row, sizes.padding, row, (*strides, channels, 1))


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Rows, taps and chunks of one shape."""
    item, ndim = problem.numpy_dtype().itemsize, problem.ndim
    sizes = _as_one_row(problem, sizes)
    phases = phases_of(problem, sizes.padding)
    grids = phases.grids(sizes.out_size)
    x_strides = [stride * item for stride in sizes.x_strides[:-1]]
    out_strides = [item * problem.out_channels * prod(sizes.out_size[axis:]) for axis in range(ndim + 1)]
    names = _Kernel.phase_fields(ndim)
    record, taps = tap_tables(
        phases, phases.offsets(x_strides[1:]), len(grids) * len(names), problem.in_channels // problem.groups, None
    )
    record["out_offset"] = phases.out_offsets(out_strides[1:])
    record["row_tiles"] = row_tiles = [max(ceil_div(grid[-1], tile.positions), 1) for grid in grids]
    record["tiles"] = tiles = [
        sizes.batch * prod(grid[:-1]) * many if grid[-1] else 0 for grid, many in zip(grids, row_tiles, strict=True)
    ]
    for axis, lengths in enumerate(zip(*grids, strict=True)):
        record[f"grid{axis}"] = [max(length, 1) for length in lengths]
    table = table_of([*records_of(names, record), *taps])
    channels, all_blocks = problem.in_channels // problem.groups, blocks_of(problem, tile, target).count
    all_blocks *= problem.groups
    per_phase = max(1, *tiles)
    chunks = min(all_blocks, ceil_div(4 * threads, per_phase * len(grids))) if threads > 1 else 1
    chunk_blocks = ceil_div(all_blocks, chunks)
    block_chunks = ceil_div(all_blocks, chunk_blocks)
    axes: list[int] = []
    for axis in range(ndim):
        axes += [sizes.in_size[axis], phases.in_step[axis], x_strides[axis + 1]]
        axes += [out_strides[axis + 1] * phases.out_step[axis]]
    arguments = words(
        table, channels, channels * prod(problem.kernel_size), all_blocks, chunk_blocks, block_chunks, per_phase,
        x_strides[0], out_strides[0], *axes,
    )  # fmt: skip
    reason = f"{len(grids)} phase(s), {per_phase} tiles x {all_blocks} blocks, {chunk_blocks} an item"
    return Schedule(
        arguments, (Phase("run0", len(grids) * per_phase * block_chunks),), 0, tables=(table,), reason=reason
    )


TAP_CYCLES, POSITION_CYCLES = 10, 1.0  # of a tile's tap, and for each of its pixels
TILE_CYCLES = 30
SHORT = 8  # products that take no longer than one, since each waits for the one before


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: products or loads of even tiles of a row, and finding each tap's pixels."""
    sizes = _as_one_row(problem, sizes)
    apart = prod(problem.stride) if problem.op == "conv_transpose" else 1
    taps, step = prod(problem.kernel_size) / apart, problem.stride[-1] if problem.op == "conv_transpose" else 1
    row = ceil_div(sizes.out_size[-1], step)
    row_tiles = ceil_div(row, tile.positions)
    count = ceil_div(row, max(row_tiles, 1))
    tiles = sizes.positions / max(sizes.out_size[-1], 1) * step * row_tiles * problem.groups
    blocks = blocks_of(problem, tile, target)
    turns = max(dense.turns(blocks, count), SHORT * blocks.count)
    terms = taps * (problem.in_channels // problem.groups)
    finding = blocks.count * (taps * (TAP_CYCLES + POSITION_CYCLES * count) + TILE_CYCLES)
    return tiles * (terms * turns / target.vector_rate + finding / CLOCK) / threads


IN_PLACE = Algorithm("in_place", fits, variants, emit, pack, schedule, cost, reads=pixels_contiguous)
