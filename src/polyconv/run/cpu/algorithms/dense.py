"""Direct convolution with many channels: a product of matrices whose rows are found through pointers.

A tile is up to P output positions times a block of V vectors of output channels, all in registers. For every tile the
kernel first writes, for each tap, the P addresses of the input pixels it reads; a position whose tap falls on padding
gets the address of a row of zeros, and a tap that falls on padding for the whole tile is left out. Then

    for tap: for input channel: for position: for vector:
        sum[position, vector] += pixel[tap, position, channel] * weight[tap, channel, vector]

runs at one multiply-add an instruction whatever the stride, dilation, border or picture size: positions of a tile may
lie in different rows or pictures. The taps are a run-time table, so one kernel serves every kernel size, stride and
dilation, and a transposed convolution is the same kernel: each output phase is a set of positions with its own taps.

Every output is bias + the sum over taps, then input channels, in that order, in one accumulator: the same bits
whatever the tile or thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, prod
from typing import NamedTuple

from polyconv.run.cpu.activations import LONG, LONGEST, activate
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE, Blocks, cut, fetch_stream, pack_blocks
from polyconv.run.cpu.algorithms.gather import (
    GROUP,
    MOST_POSITIONS,
    NUMBER,
    Gather,
    Walk,
    phase_fields,
    records_of,
    tap_tables,
)
from polyconv.run.cpu.algorithms.phases import OutputPhases
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    Table,
    allowance,
    ceil_div,
    pixels_contiguous,
    share,
    split_evenly,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.regions import is_flat, positions_of, reach, share_on_data
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Problem

NAMES = (
    *FIXED_WORDS, "table: ptr", "channels", "depth", "all_blocks", "phase_step", "phases", "tile_step", "tile_chunks",
    "block_step", "block_chunks", "chunk_tiles", "chunk_blocks", "batch_stride", "out_batch_stride", "side", "lag",
)  # fmt: skip
AXIS_NAMES = ("size", "step", "stride", "out_stride")  # strides in bytes
PHASE_NAMES = ("tiles_at", "span_tiles", "span", "tiles", "out_offset")  # then grid sizes, then those of gather


class Tile(NamedTuple):
    """Positions and vectors of output channels held in registers."""

    positions: int
    vectors: int


def fits(problem: Problem, target: Target) -> str | None:
    """Dense kinds only, and pixels that are rows of channels."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_last":
        return "it reads pixels as rows of channels (channels_last)"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """Tiles that fill the registers, the one that wastes least first."""
    registers = target.vector_registers
    shapes = [Tile(min(MOST_POSITIONS, (registers - 1) // v - 1), v) for v in (2, 3, 4, 1) if (registers - 1) // v > 2]
    channels = problem.out_channels // problem.groups
    lanes = target.lanes(problem.dtype)

    shallow = target.slow_vectors and channels_in_sum(problem) < SHALLOW

    def waste(tile: Tile) -> tuple[bool, bool]:
        tail = blocks_of(problem, tile, target).tail
        lonely = len(tail) * 2 <= tile.vectors and channels > lanes if tail else False
        return lonely, shallow and tile.vectors > 1

    return sorted(shapes, key=waste)


SHALLOW = 64  # terms of a sum below which putting it down counts: one vector at a time then overlaps best


def channels_in_sum(problem: Problem) -> int:
    """Terms of one output's sum, at most."""
    return prod(problem.kernel_size) * problem.in_channels // problem.groups


@lru_cache(maxsize=256)
def blocks_of(problem: Problem, tile: Tile, target: Target) -> Blocks:
    """How the output channels of a group are cut for this tile."""
    narrowest = 4 if problem.dtype == "float32" else 2
    return cut(problem.out_channels // problem.groups, tile.vectors, target.lanes(problem.dtype), narrowest)


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """See `polyconv.run.cpu.algorithms.blocks`."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    return pack_blocks(problem, blocks_of(problem, tile, target), weight, bias)


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (phase, chunk of blocks, chunk of tiles)."""
    return DenseKernel(problem, tile, target).write()


FEW_BLOCKS = 8  # of output channels
TOGETHER = 56  # multiply-adds of one turn of an unrolled loop, about


class DenseKernel:
    """Writes the kernel; the version for channels_first changes where pixels come from and where sums go."""

    names: tuple[str, ...] = NAMES
    axis_names: tuple[str, ...] = AXIS_NAMES
    phase_names: tuple[str, ...] = PHASE_NAMES

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.k = Kernel("run0", target, problem.dtype)
        self.problem, self.tile = problem, tile
        self.blocks = blocks_of(problem, tile, target)
        axes = [f"{name}{axis}" for axis in range(problem.ndim) for name in self.axis_names]
        names = (*self.names, *axes)
        values = self.k.words(*names)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, values, strict=True)}
        self.gather = Gather(self.k, problem.ndim, self.rows_at(), self.apart())

    def rows_at(self) -> Value:
        """Where in scratch the list of taps starts."""
        return self.k.word_at(self.k.scratch, Gather.words(self.problem.ndim))

    def apart(self) -> int | None:
        """Bytes between the pixels that neighbouring outputs read, where that is known and used."""
        return self.pixel_bytes() * (self.problem.stride[-1] if self.problem.op == "conv" else 1)

    def pixel_bytes(self) -> int:
        """From one pixel to the next, where pixels follow one another."""
        return self.problem.in_channels * self.k.bytes

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        with k.loop(k.first, k.last) as item:
            number, first_chunk, chunk = self.which(item)
            phase = self.phase(number)
            start = first_chunk * w["chunk_tiles"]
            stop = k.minimum(start + w["chunk_tiles"], phase["tiles"])

            def lay(number: Value, phase: dict[str, Value] = phase) -> tuple[Value, Value]:
                count = self.locate(phase, number)
                return count, self.point(phase, count)

            def multiply(count: Value, active: Value, chunk: Value = chunk) -> None:
                self.multiply_blocks(chunk, count, active)

            self.gather.ahead_of(start, stop, w["side"], w["lag"], lay, multiply)
        return k.module()

    def which(self, item: Value) -> tuple[Value, Value, Value]:
        """The set of positions, chunk of tiles and chunk of blocks of an item: by steps, or out of a list."""
        k, w = self.k, self.w
        found = [k.var(k.integer(0)) for _ in range(3)]

        def by_steps() -> None:
            for var, step, count in zip(
                found, ("phase_step", "tile_step", "block_step"), ("phases", "tile_chunks", "block_chunks"), strict=True
            ):
                var.value = (item // w[step]) % w[count]

        def listed() -> None:  # then tile_step says where, and block_step how many
            entry = k.load(k.word_at(w["table"], w["tile_step"] + item % w["block_step"]), "i64")
            found[0].value, found[1].value = entry >> 32, entry & 0xFFFFFFFF
            found[2].value = item // w["block_step"]

        k.choose(w["phase_step"].ne(0), by_steps, listed, carry=found)
        return found[0].value, found[1].value, found[2].value

    def phase(self, number: Value) -> dict[str, Value]:
        """The record of a phase, field by field."""
        k, names = self.k, self.phase_fields(self.problem.ndim)
        record = k.word_at(self.w["table"], number * len(names))
        return {name: k.load(k.word_at(record, place), "i64") for place, name in enumerate(names)}

    @classmethod
    def phase_fields(cls, ndim: int) -> list[str]:
        """Names of the words of a phase's record."""
        return [*cls.phase_names, *(f"grid{axis}" for axis in range(ndim)), *phase_fields(ndim)]

    def locate(self, phase: dict[str, Value], number: Value) -> Value:
        """Write base address, origin and output address of each position of a tile; returns how many there are."""
        k, w, ndim = self.k, self.w, self.problem.ndim
        entry = k.load(k.word_at(w["table"], phase["tiles_at"] + number % phase["span_tiles"]), "i64")
        count = entry & 255
        rest = (number // phase["span_tiles"]) * phase["span"] + (entry >> 8)
        walks: list[Walk] = []
        for axis in reversed(range(ndim)):
            size, step, hop = phase[f"grid{axis}"], w[f"step{axis}"], w[f"step{axis}"] * w[f"stride{axis}"]
            walks.insert(0, Walk(rest % size, size, None, step, hop, w[f"out_stride{axis}"]))
            rest = rest // size
        none = k.integer(0)
        walks.insert(0, Walk(rest, none, None, none, w["batch_stride"], w["out_batch_stride"]))
        self.gather.lay(walks, count, w["x"], k.byte_at(w["out"], phase["out_offset"]))
        return count

    def point(self, phase: dict[str, Value], count: Value) -> Value:
        """Write the tile's list of taps; returns its length."""
        w = self.w
        sizes = [w[f"size{axis}"] for axis in range(self.problem.ndim)]
        return self.gather.point(phase, w["table"], sizes, count, w["channels"], self.zeros())

    def zeros(self) -> Value:
        """The row of zeros."""
        return self.k.at(self.w["packed"], self.zeros_at(self.w["depth"]))

    def zeros_at(self, depth: Value) -> Value:
        """Where the row of zeros starts in the packed array, in elements."""
        lanes = self.blocks.lanes * self.problem.groups
        return depth * lanes + lanes

    def multiply_blocks(self, chunk: Value, count: Value, active: Value) -> None:
        """The tile for each block of one chunk of blocks."""
        k, w = self.k, self.w
        low = chunk * w["chunk_blocks"]
        with k.loop(low, k.minimum(low + w["chunk_blocks"], w["all_blocks"]), nonempty=True) as block:
            self.multiply(block, count, active)

    def multiply(self, block: Value, count: Value, active: Value) -> None:
        """One block of output channels for the tile: choose the code for its width and its number of positions."""
        k, w, blocks = self.k, self.w, self.blocks
        grouped = self.problem.groups > 1
        group = block // blocks.count if grouped else k.integer(0)
        inner = block % blocks.count if grouped else block
        lane = group * blocks.lanes + inner * sum(blocks.main)
        channel = group * blocks.channels + inner * sum(blocks.main)
        bias = k.at(w["packed"], lane)
        weights = k.at(w["packed"], lane * w["depth"] + blocks.lanes * self.problem.groups)

        def write(lanes: tuple[int, ...], stored: int) -> None:
            starts = self.sums_start(bias, weights, sum(lanes))
            body = Body(self, lanes, stored, *starts, channel, group * w["channels"], active)
            self.bodies(body, count)
            self.after(body, count)

        def main() -> None:
            write(blocks.main, blocks.main[-1])

        def tail() -> None:
            write(blocks.tail, blocks.last_count)

        if blocks.full and blocks.tail:
            k.choose(inner < blocks.full, main, tail)
        else:
            (main if blocks.full else tail)()

    def sums_start(self, bias: Value, weights: Value, width: int) -> tuple[Value, Value]:
        """What sums begin with, and the weights of the first channel, ``width`` of each."""
        return bias, weights

    def all_channels(self) -> Value:
        """Input channels of a tap, for one group."""
        return self.w["channels"]

    def bodies(self, body: Body, count: Value) -> None:
        """The code for each number of positions."""
        self.k.switch(count, range(1, self.tile.positions + 1), body.write)

    def finish(self, body: Body, sums: list[list[Var]]) -> None:
        """What becomes of a tile's sums: activated and stored, pixel by pixel."""
        k = self.k
        apart = LONGEST if len(sums) == self.tile.positions else LONG
        for position, totals in enumerate(sums):
            out = k.at(k.load(k.word_at(self.gather.outs, position), "ptr"), body.channel)
            for v, total in enumerate(totals):
                value = activate(k, self.problem.activation, total.value, apart)
                k.store_vector(value, k.at(out, body.starts[v]), count=body.counts[v])

    def fetch_ahead(self, spot: Value, lanes: tuple[int, ...], positions: int) -> None:
        """Ask for the weights that come later, where they are too many to stay in the L1 cache."""
        problem = self.problem
        phases = prod(problem.stride) if problem.op == "conv_transpose" else 1  # one phase's taps at a time
        channels, taps = problem.in_channels // problem.groups, ceil_div(prod(problem.kernel_size), phases)
        fetch_stream(self.k, spot, lanes, positions, channels * taps * self.blocks.lanes * self.k.bytes)

    def fetch_next(self, pixel: Value, turn: Value, positions: int, turns: int = 1) -> None:
        """Ask for what lies behind a tile's pixels, as many bytes a turn as it has: its neighbour reads them.

        Left to the processor they come late where they are not in the L2. Only where few blocks of channels share that
        wait, loads are not what a tile waits for, and two tiles' pixels have room in the L1.
        """
        k, problem, blocks = self.k, self.problem, self.blocks
        if k.target.slow_vectors or problem.op != "conv" or problem.groups > 1 or problem.dilation[-1] > 1:
            return
        if blocks.count > FEW_BLOCKS or blocks.vectors < 2 * blocks.count or self.gather.apart is None:
            return
        row = positions * self.gather.apart
        if 2 * row > k.target.l1_bytes and not problem.is_pointwise:
            return
        part = ceil_div(row, problem.kernel_size[-1] * problem.in_channels)
        behind = k.byte_at(k.byte_at(pixel, row), turn * part)
        for line in range(0, part * turns, CACHE_LINE):
            k.prefetch(k.byte_at(behind, line))

    def after(self, body: Body, count: Value) -> None:
        """What follows the code for one block, whatever the number of positions."""


class Body(NamedTuple):
    """The innermost code for one block: ``write(positions)``."""

    parent: DenseKernel
    lanes: tuple[int, ...]
    stored: int  # channels of the last vector
    bias: Value
    weights: Value
    channel: Value
    first: Value  # the group's first input channel
    active: Value

    @property
    def starts(self) -> list[int]:
        """First lane of each vector."""
        return [sum(self.lanes[:v]) for v in range(len(self.lanes))]

    @property
    def counts(self) -> list[int]:
        """Channels of each vector."""
        return [*self.lanes[:-1], self.stored]

    def write(self, positions: int) -> None:
        """The code for this many positions."""
        k, lanes, width = self.parent.k, self.lanes, sum(self.lanes)
        biases = [k.load_vector(k.at(self.bias, at), n) for at, n in zip(self.starts, lanes, strict=True)]
        sums = [[k.var(bias) for bias in biases] for _ in range(positions)]
        flat = [total for row in sums for total in row]
        channels = self.parent.all_channels()
        with k.loop(0, self.active, carry=flat) as tap:
            row = k.word_at(self.parent.gather.rows, tap * GROUP)
            tap_weights = k.at(self.weights, k.load(k.word_at(row, NUMBER), "i64") * channels * width)
            length, even = self.parent.gather.length(row)

            def by_pointers(row: Value = row, weights: Value = tap_weights, length: Value = length) -> None:
                pixels = [k.at(k.load(k.word_at(row, p), "ptr"), self.first) for p in range(positions)]
                with k.loop(0, length, carry=flat, nonempty=True) as c:
                    self.term([k.at(pixel, c) for pixel in pixels], k.at(weights, c * width), sums)
                    self.parent.fetch_next(pixels[0], c, positions)

            if even is None or 4 * positions <= 3 * self.parent.tile.positions:
                by_pointers()
            else:
                k.choose(even, lambda: self.by_distance(row, tap_weights, length, sums), by_pointers, carry=flat)
        self.parent.finish(self, sums)

    def by_distance(self, row: Value, weights: Value, length: Value, sums: list[list[Var]]) -> None:
        """The terms of an entry whose pixels are equally far apart: one pointer, few instructions that only count."""
        k, width, flat = self.parent.k, sum(self.lanes), [total for row in sums for total in row]
        apart = self.parent.gather.apart or 0
        channels = self.parent.problem.in_channels // self.parent.problem.groups
        together = 1
        if len(set(self.lanes)) == 1 and (len(sums) == self.parent.tile.positions or len(self.lanes) == 1):
            together = gcd(1 << (TOGETHER // len(flat)).bit_length() - 1, channels)
        pixels = k.at(k.load(row, "ptr"), self.first)
        with k.loop(0, length, together, carry=flat, nonempty=True) as c:
            first, spot = k.at(pixels, c), k.at(weights, c * width)
            self.parent.fetch_next(pixels, c, len(sums), together)
            for n in range(together):
                place = k.at(first, n)
                self.term([k.byte_at(place, p * apart) for p in range(len(sums))], k.at(spot, n * width), sums)
                if together > 1:
                    k.barrier(flat)

    def term(self, pixels: list[Value], spot: Value, sums: list[list[Var]]) -> None:
        """One term of every sum: the pixels' values, and the weights at ``spot``."""
        k, lanes = self.parent.k, self.lanes
        vectors = [k.load_vector(k.at(spot, at), n) for at, n in zip(self.starts, lanes, strict=True)]
        self.parent.fetch_ahead(spot, lanes, len(sums))
        for pixel, totals in zip(pixels, sums, strict=True):
            value = k.load(pixel)
            for vector, total, n in zip(vectors, totals, lanes, strict=True):
                total.value = k.fma(vector, k.broadcast(value, n), total.value)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(
    problem: Problem,
    tile: Tile,
    target: Target,
    sizes: Sizes,
    threads: int,
    out_strides: list[int] | None = None,
    stage_bytes: int = 0,
    blocks: int | None = None,
    runs: bool = True,
    regions: bool = True,
    stretch: int = 0,
) -> Schedule:
    """Tiles, taps and chunks of one shape.

    ``out_strides`` (elements; batch, then spatial axes) where the output is not the contiguous array of this problem;
    ``stage_bytes``: scratch before the list of taps; ``blocks``: blocks of output channels in all, where they are not
    those of `blocks_of`; ``runs``: may neighbouring taps be one entry of the list; ``regions``: may positions be cut
    into regions (`regions.py`), so that those of a tile count from their region's first; ``stretch``: as there.
    """
    item = problem.numpy_dtype().itemsize
    phases, grids = positions_of(problem, sizes, tile.positions if regions else 0, stretch)
    cuts = blocks_of(problem, tile, target)
    out_strides = out_strides or _channels_last_strides(sizes.out_size, problem.out_channels)
    x_strides = [stride * item for stride in sizes.x_strides[:-1]]
    out_bytes = [stride * item for stride in out_strides[1:]]
    table, every = _table(problem, tile, sizes, phases, grids, x_strides, out_bytes, runs)
    tiles = max(1, *every)
    channels, taps = problem.in_channels // problem.groups, prod(problem.kernel_size)
    all_blocks = blocks or cuts.count * problem.groups
    weight_bytes = channels * taps * item * cuts.lanes
    chunk_tiles, chunk_blocks = chunks_of(tiles, all_blocks, weight_bytes, target, threads)
    block_chunks = ceil_div(all_blocks, chunk_blocks)
    pixel_bytes = item * problem.in_channels
    kept = _kept_tiles(
        phases, grids, tile.positions, tiles, pixel_bytes, block_chunks, weight_bytes, taps, target.l2_bytes, threads
    )
    chunk_tiles = kept or chunk_tiles
    tile_chunks, count = ceil_div(tiles, chunk_tiles), len(grids)
    steps = (tile_chunks * block_chunks, block_chunks, 1) if kept else (tile_chunks, 1, count * tile_chunks)
    if not kept and problem.op == "conv_transpose" and count == prod(problem.stride):
        steps = (1, count, count * tile_chunks)  # all phases of a stretch of pixels, which they share, in a row
    items = count * tile_chunks * block_chunks
    if not kept and problem.op == "conv" and count > 1:  # regions differ in size: threads share out what there is
        listed = [(n << 32) + at for n, mine in enumerate(every) for at in range(ceil_div(mine, chunk_tiles))]
        steps = (0, len(table), len(listed))
        table, items = table_of([*table, *listed]), len(listed) * block_chunks
    most = allowance(problem, sizes) // threads
    scratch, *sides = Gather.room(problem.ndim, max(phases.counts), stage_bytes, most)
    axes: list[int] = []
    for axis in range(problem.ndim):
        axes += [sizes.in_size[axis], phases.in_step[axis], x_strides[axis + 1]]
        axes += [out_strides[axis + 1] * phases.out_step[axis] * item]
    arguments = words(
        table, channels, channels * taps, all_blocks, steps[0], count, steps[1], tile_chunks,
        steps[2], block_chunks, chunk_tiles, chunk_blocks, x_strides[0], out_strides[0] * item, *sides, *axes,
    )  # fmt: skip
    reason = f"{count} set(s) of positions, {tiles} tiles x {all_blocks} blocks, {chunk_tiles} x {chunk_blocks} an item"
    run = (Phase("run0", items),)
    return Schedule(arguments, run, scratch, tables=(table,), reason=reason)


def _channels_last_strides(size: tuple[int, ...], channels: int) -> list[int]:
    """Strides (in elements) of batch and spatial axes of a contiguous array."""
    strides = [channels]
    for length in reversed(size):
        strides.insert(0, strides[0] * length)
    return strides


def _table(
    problem: Problem,
    tile: Tile,
    sizes: Sizes,
    phases: OutputPhases,
    grids: list[tuple[int, ...]],
    x_strides: list[int],
    out_strides: list[int],
    runs: bool,
) -> tuple[Table, Sequence[int]]:
    """Phase records, then taps, then tiles, in one array of words; and how many tiles each phase has."""
    count, ndim = len(grids), problem.ndim
    names = DenseKernel.phase_fields(ndim)
    channels = problem.in_channels // problem.groups
    follows = channels * problem.numpy_dtype().itemsize if runs and problem.groups == 1 else None
    at = count * len(names)
    record, tap_words = tap_tables(phases, phases.offsets(x_strides[1:]), at, channels, follows)
    record["out_offset"] = phases.out_offsets(out_strides)
    for axis, lengths in enumerate(zip(*grids, strict=True)):
        record[f"grid{axis}"] = lengths
    tile_fields, tile_words = _tiles(tile, sizes, phases, grids, at + len(tap_words))
    record |= tile_fields
    return table_of([*records_of(names, record), *tap_words, *tile_words]), record["tiles"]


def _tiles(
    tile: Tile, sizes: Sizes, phases: OutputPhases, grids: list[tuple[int, ...]], at: int
) -> tuple[dict[str, list[int]], list[int]]:
    """Start and length of the tiles of each kind of span, for a table that they follow at word ``at``.

    A span is what is cut evenly into tiles: one row, or the whole batch where that is little.
    """
    spans: list[tuple[int, int]] = []  # of each phase: length, and how many
    for grid in grids:
        everything = sizes.batch * prod(grid)
        flat = is_flat(everything, grid[-1], tile.positions)
        spans.append((everything, 1) if flat else (grid[-1], sizes.batch * prod(grid[:-1])))
    places: dict[int, tuple[int, int]] = {}
    entries: list[int] = []
    for length in sorted({length for length, _ in spans}):
        mine = _even_tiles(length, tile.positions)
        places[length] = (at + len(entries), len(mine))
        entries += mine
    fields = {
        "tiles_at": [places[length][0] for length, _ in spans],
        "span_tiles": [places[length][1] for length, _ in spans],
        "span": [length for length, _ in spans],
        "tiles": [times * places[length][1] if length else 0 for length, times in spans],
    }
    return fields, entries


@lru_cache(maxsize=256)
def _even_tiles(length: int, positions: int) -> list[int]:
    """Entries (start << 8) + count of even tiles; one empty tile where there is nothing."""
    tiles = split_evenly(length, ceil_div(length, positions)) if length else [(0, 0)]
    return [(start << 8) + count for start, count in tiles]


def chunks_of(tiles: int, blocks: int, weight_bytes: int, target: Target, threads: int) -> tuple[int, int]:
    """Tiles and blocks of one item: all blocks while their weights stay in half the L2, else as many as do.

    Then, and where there are too few tiles to share, the threads share out the blocks: each reads its own weights only.
    """
    chunks = ceil_div(blocks, max(1, blocks * (target.l2_bytes // 2) // max(weight_bytes, 1)))
    if chunks > 1 or (tiles % threads and tiles < 8 * threads):
        chunks = min(ceil_div(chunks, threads) * threads, blocks)
    chunk_blocks = ceil_div(blocks, chunks)
    return share(tiles, threads, max(1, 8 // ceil_div(blocks, chunk_blocks))), chunk_blocks


def _kept_tiles(
    phases: OutputPhases,
    grids: list[tuple[int, ...]],
    positions: int,
    tiles: int,
    pixel_bytes: int,
    block_chunks: int,
    weight_bytes: int,
    taps: int,
    l2_bytes: int,
    threads: int,
) -> int:
    """Tiles whose pixels stay in the L2 while chunk after chunk of the weights passes by; 0: the weights stay instead.

    What does not stay is read from the L3 again, the pixels for each chunk of weights or the weights for each chunk of
    tiles: whichever is clearly less. A thread whose share of the pixels stays keeps to them, unless the weights are far
    more: weights are read in order and asked for ahead, while pixels may have been written by another thread.
    """
    if block_chunks < 2:
        return 0
    if threads > 1 and len(grids) == 1 and tiles >= 4 * threads:
        mine, pixels = ceil_div(tiles, threads), pixel_bytes * reach(phases, 0, grids[0], prod(grids[0]))
        stays = pixels / threads + weight_bytes / block_chunks <= (1 + KEPT_SHARE) / 2 * l2_bytes
        if stays and weight_bytes <= MANY_MORE * pixels and mine * threads <= 1.05 * tiles:
            return mine
    if block_chunks < 2 * threads:
        return 0
    sets = [pixel_bytes * reach(phases, number, grid, prod(grid)) for number, grid in enumerate(grids)]
    room = KEPT_SHARE * l2_bytes - weight_bytes / block_chunks
    if max(sets) <= room:
        return 0
    widest = sets.index(max(sets))
    parts = 2
    while (
        parts < tiles and pixel_bytes * reach(phases, widest, grids[widest], positions * ceil_div(tiles, parts)) > room
    ):
        parts += 1
    passes = sum(max(1.0, parts * size / max(sets)) * n for n, size in zip(phases.counts, sets, strict=True)) / taps
    if weight_bytes * passes + sum(sets) < 0.6 * (weight_bytes + sum(sets) * block_chunks):
        return ceil_div(tiles, parts)
    return 0


MANY_MORE = 6  # bytes of weights for one of pixels, from which on the threads share out the weights
KEPT_SHARE = 0.7  # of the L2 cache, for a chunk of tiles and one of weights


def turns(blocks: Blocks, positions: int) -> int:
    """What one term of all of a group's sums takes for a tile: its products, or its loads where there are more."""
    main, tail = len(blocks.main), len(blocks.tail)
    found = blocks.full * max(positions * main, positions + main + 1)
    return found + max(positions * tail, positions + tail + 1) if tail else found


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: multiply-adds at the machine's rate, rounded up to whole vectors."""
    taps, channels, each = _each_position(problem, tile, target)
    steps = sizes.positions * taps * channels * each * problem.groups
    return steps * share_on_data(problem, sizes) / target.vector_rate / threads


@lru_cache(maxsize=256)
def _each_position(problem: Problem, tile: Tile, target: Target) -> tuple[float, int, float]:
    """Taps, input channels of a group, and what one term of all of a group's sums takes for one position of a tile."""
    taps = prod(problem.kernel_size) / (prod(problem.stride) if problem.op == "conv_transpose" else 1)
    each = turns(blocks_of(problem, tile, target), tile.positions) / tile.positions
    return taps, problem.in_channels // problem.groups, each


DENSE = Algorithm("dense", fits, variants, emit, pack, schedule, cost, reads=pixels_contiguous)
