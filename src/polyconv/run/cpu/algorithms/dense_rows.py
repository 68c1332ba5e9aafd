"""Convolution of channels_first arrays with output positions in the lanes: pointwise layers, and few output channels.

A tile is V vectors of neighbouring positions of one output row times a block of R output channels. For each tap the
kernel writes down where the row's pixels start and which lanes lie on data; then

    for tap: for input channel: for vector: for output channel: sum[channel, vector] += pixels[vector] * weight[channel]

with masked loads, so that no lane beside the picture is read. A pointwise layer has no rows: its planes are one long
row. There the tile's pixels are copied to scratch first where several blocks read them, since planes a power of two
apart would push each other out of the caches.

Every output is bias + the sum over taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache, partial, reduce
from math import prod
from typing import NamedTuple

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE, Blocks, cut, pack_blocks
from polyconv.run.cpu.algorithms.gather import phase_fields, records_of, tap_tables
from polyconv.run.cpu.algorithms.phases import phases_of
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    allowance,
    ceil_div,
    rows_contiguous,
    table_of,
    words,
)
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Array, Problem

NAMES = (
    *FIXED_WORDS, "table: ptr", "channels", "depth", "per_phase", "block_chunks", "chunk_blocks", "all_blocks",
    "chunk_tiles", "batch_stride", "channel_stride", "out_batch_stride", "plane", "copies", "copy_at",
)  # fmt: skip
AXIS_NAMES = ("size", "step", "stride", "out_stride")  # strides in bytes
PHASE_NAMES = ("out_offset", "vectors", "row_tiles", "tiles")  # then grid sizes, then those of gather


class Tile(NamedTuple):
    """Vectors of positions and output channels held in registers."""

    vectors: int
    channels: int


def fits(problem: Problem, target: Target) -> str | None:
    """Planes whose neighbouring outputs read neighbouring inputs."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    if problem.op == "conv" and problem.stride[-1] != 1:
        return f"neighbouring outputs must read neighbouring inputs, but the last stride is {problem.stride[-1]}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """Tiles that fill the registers."""
    channels = problem.out_channels // problem.groups
    found = []
    for vectors in (2, 3, 4, 6, 8, 1):
        most = (target.vector_registers - 1 - vectors) // vectors
        if most >= 1:
            parts = ceil_div(channels, min(most, 24))
            found.append(Tile(vectors, ceil_div(channels, parts)))
    return found


@lru_cache(maxsize=256)
def blocks_of(problem: Problem, tile: Tile) -> Blocks:
    """How the output channels of a group are cut: one lane is one channel here."""
    return cut(problem.out_channels // problem.groups, tile.channels, 1, 1)


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """See `polyconv.run.cpu.algorithms.blocks`."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    return pack_blocks(problem, blocks_of(problem, tile), weight, bias)


def _may_copy(problem: Problem, tile: Tile) -> bool:
    """Are a tile's pixels copied to scratch: where several blocks read them, and no group its own."""
    return problem.is_pointwise and problem.groups == 1 and blocks_of(problem, tile).count > 1


def column_phases(problem: Problem) -> int:
    """Output phases along the last axis."""
    return problem.stride[-1] if problem.op == "conv_transpose" else 1


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (phase, chunk of tiles, chunk of blocks).

    The phases of neighbouring columns are worked on together, since their outputs share cache lines.
    """
    return RowsKernel(problem, tile, target).write()


class Place:
    """A tile: its first position in the row, how many positions and vectors, and where its output goes."""

    def __init__(self, start: Value, count: Value, vectors: Value, out: Value) -> None:
        self.start, self.count, self.vectors, self.out = start, count, vectors, out


class RowsKernel:
    """Writes the kernel."""

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.k = Kernel("run0", target, problem.dtype)
        self.problem, self.tile, self.blocks = problem, tile, blocks_of(problem, tile)
        names = (*NAMES, *(f"{name}{axis}" for axis in range(problem.ndim) for name in AXIS_NAMES))
        values = self.k.words(*names)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, values, strict=True)}
        self.scattered = problem.op == "conv_transpose" and problem.stride[-1] > 1
        self.step = 1 if problem.op == "conv_transpose" else problem.stride[-1]  # between inputs of neighbours
        self.may_copy = _may_copy(problem, tile)
        self.row_words = 2 + tile.vectors  # pointer, tap's number, a mask for each vector
        self.rows = self.k.scratch

    @staticmethod
    def phase_fields(ndim: int) -> list[str]:
        """Names of the words of a phase's record."""
        return [*PHASE_NAMES, *(f"grid{axis}" for axis in range(ndim)), *phase_fields(ndim)]

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        names = self.phase_fields(self.problem.ndim)
        columns = column_phases(self.problem)
        with k.loop(k.first, k.last) as item:
            rest = item % w["per_phase"]
            start, low = (rest // w["block_chunks"]) * w["chunk_tiles"], (rest % w["block_chunks"]) * w["chunk_blocks"]
            high = k.minimum(low + w["chunk_blocks"], w["all_blocks"])

            def tiles(column: Value) -> None:
                record = k.word_at(w["table"], ((item // w["per_phase"]) * columns + column) * len(names))
                phase = {name: k.load(k.word_at(record, place), "i64") for place, name in enumerate(names)}
                with k.loop(start, k.minimum(start + w["chunk_tiles"], phase["tiles"])) as number:
                    place, active, stride = self.locate(phase, number)
                    with k.loop(low, high, nonempty=True) as block:
                        self.multiply(block, place, active, stride)

            if columns == 1:
                tiles(k.integer(0))
            else:
                with k.loop(0, columns, nonempty=True) as column:
                    tiles(column)
        return k.module()

    def locate(self, phase: dict[str, Value], number: Value) -> tuple[Place, Value, Value]:
        """The tile with this number: its place, the length of its list of taps, and the distance between channels."""
        k, w, ndim, lanes = self.k, self.w, self.problem.ndim, self.k.lanes
        part, rest = number % phase["row_tiles"], number // phase["row_tiles"]
        first = (part * phase["vectors"]) // phase["row_tiles"]
        vectors = ((part + 1) * phase["vectors"]) // phase["row_tiles"] - first
        start, width = first * lanes, phase[f"grid{ndim - 1}"]
        source, sink = k.at(w["x"], start * self.step), k.byte_at(w["out"], phase["out_offset"])
        sink = k.byte_at(sink, start * w[f"out_stride{ndim - 1}"])
        origins: list[Value] = []
        for axis in reversed(range(ndim - 1)):
            at = rest % phase[f"grid{axis}"]
            rest = rest // phase[f"grid{axis}"]
            origins.insert(0, at * w[f"step{axis}"])
            source = k.byte_at(source, origins[0] * w[f"stride{axis}"])
            sink = k.byte_at(sink, at * w[f"out_stride{axis}"])
        source, sink = k.byte_at(source, rest * w["batch_stride"]), k.byte_at(sink, rest * w["out_batch_stride"])
        place = Place(start, k.minimum(width - start, vectors * lanes), vectors, sink)
        if not self.may_copy:
            return place, self.point(phase, source, place, origins), w["channel_stride"]
        active, stride = k.var(k.integer(1)), k.var(w["channel_stride"])

        def copy() -> None:
            self.copy(source, place)
            stride.value = k.integer(self.tile.vectors * lanes * k.bytes)

        def point() -> None:
            active.value = self.point(phase, source, place, origins)

        k.choose(w["copies"].ne(0), copy, point, carry=[active, stride])
        return place, active.value, stride.value

    def point(self, phase: dict[str, Value], source: Value, place: Place, origins: list[Value]) -> Value:
        """Write where each tap's pixels are and which lanes are on data; returns how many taps meet data."""
        k, w, ndim, lanes = self.k, self.w, self.problem.ndim, self.k.lanes
        active = k.var(k.integer(0))
        size = w[f"size{ndim - 1}"]
        with k.loop(0, phase["taps"], carry=[active]) as number:
            tap = k.word_at(w["table"], phase["taps_at"] + number * (2 + ndim))
            meets = k.integer(1)
            for axis, origin in enumerate(origins):
                shift = k.load(k.word_at(tap, 2 + axis), "i64")
                meets = meets & k.convert((origin + shift).below(w[f"size{axis}"]), "zext", "i64")
            shift = k.load(k.word_at(tap, 1 + ndim), "i64")
            row = k.word_at(self.rows, active.value * self.row_words)
            k.store(k.byte_at(source, k.load(k.word_at(tap, 1), "i64")), row)
            k.store(k.load(tap, "i64"), k.word_at(row, 1))
            some = k.integer(0)
            for v in range(self.tile.vectors):
                lane = k.indices(lanes) + k.broadcast(k.integer(v * lanes), lanes)
                inside = (lane + (place.start + shift)).below(size) & (lane < place.count)
                bits = k.convert(k.bitcast(inside, f"i{lanes}"), "zext", "i64")
                k.store(bits, k.word_at(row, 2 + v))
                some = some | bits
            active.value = active.value + (meets & k.convert(some.ne(0), "zext", "i64"))
        return active.value

    def copy(self, source: Value, place: Place) -> None:
        """Copy the tile's pixels, channel by channel; the list of taps is this one."""
        k, w, lanes, vectors = self.k, self.w, self.k.lanes, self.tile.vectors
        room = k.byte_at(k.scratch, w["copy_at"])
        masks = [k.mask(place.count - v * lanes) for v in range(vectors)]
        with k.loop(0, w["channels"], nonempty=True) as c:
            row = k.byte_at(source, c * w["channel_stride"])
            for v, mask in enumerate(masks):
                pixels = k.load_vector(k.at(row, v * lanes), mask=mask)
                k.store_vector(pixels, k.at(room, c * (vectors * lanes) + v * lanes), align=64)
        k.store(room, self.rows)
        k.store(k.integer(0), k.word_at(self.rows, 1))
        for v in range(vectors):
            k.store(k.integer((1 << lanes) - 1), k.word_at(self.rows, 2 + v))

    def multiply(self, block: Value, place: Place, active: Value, stride: Value) -> None:
        """One block of output channels: choose the code for its size and the tile's vectors."""
        k, w, blocks = self.k, self.w, self.blocks
        grouped = self.problem.groups > 1
        group, inner = (block // blocks.count, block % blocks.count) if grouped else (k.integer(0), block)
        channel = group * blocks.channels + inner * len(blocks.main)
        body = self.body(place, active, stride, channel, group * w["channels"])

        def main() -> None:
            k.switch(place.vectors, range(1, self.tile.vectors + 1), lambda v: body.write(v, len(blocks.main)))

        def tail() -> None:
            k.switch(place.vectors, range(1, self.tile.vectors + 1), lambda v: body.write(v, len(blocks.tail)))

        if blocks.full and blocks.tail:
            k.choose(inner < blocks.full, main, tail)
        else:
            (main if blocks.full else tail)()

    def body(self, place: Place, active: Value, stride: Value, channel: Value, first: Value) -> Body:
        """The innermost code."""
        return Body(self, place, active, stride, channel, first)


def ask_for(k: Kernel, out: Value, plane: Value, vectors: int, channels: int) -> None:
    """Before the sums of a tile, ask for the lines of some planes that it will write; ``plane`` in bytes.

    Only where planes are not whole lines, and most stores take two: where they are, it costs up to 5 %.
    """
    with k.when((plane % CACHE_LINE).ne(0)):
        for channel in range(channels):
            spot = k.byte_at(out, plane * channel)
            for number in range(vectors):
                k.prefetch(k.at(spot, number * k.lanes), write=True)


class Body(NamedTuple):
    """The innermost code: ``write(vectors, channels)``."""

    parent: RowsKernel
    place: Place
    active: Value
    stride: Value  # bytes between input channels
    channel: Value  # the first output channel
    first: Value  # the group's first input channel

    def write(self, vectors: int, channels: int) -> None:
        """The code for this many vectors and output channels."""
        k, w = self.parent.k, self.parent.w
        weights = k.at(w["packed"], self.channel * w["depth"] + self.parent.problem.out_channels)
        biases = [k.broadcast(k.load(k.at(w["packed"], self.channel + r))) for r in range(channels)]
        sums = [[k.var(bias) for _ in range(vectors)] for bias in biases]
        if not self.parent.scattered:
            plane = w["plane"] * k.bytes
            ask_for(k, k.byte_at(self.place.out, self.channel * plane), plane, vectors, channels)
        self.taps(sums, weights)
        (self.scatter if self.parent.scattered else self.store)(sums)

    def taps(self, sums: list[list[Var]], weights: Value) -> None:
        """The products of every tap of the list."""
        k, w, lanes, channels = self.parent.k, self.parent.w, self.parent.k.lanes, len(sums)
        flat = [total for row in sums for total in row]
        with k.loop(0, self.active, carry=flat) as tap:
            row = k.word_at(self.parent.rows, tap * self.parent.row_words)
            bits = [k.load(k.word_at(row, 2 + v), "i64") for v in range(len(sums[0]))]
            source = k.byte_at(k.load(row, "ptr"), self.first * self.stride)
            tap_weights = k.at(weights, k.load(k.word_at(row, 1), "i64") * w["channels"] * channels)

            def run_through(masks: Sequence[Value | None], source: Value, tap_weights: Value) -> None:
                with k.loop(0, w["channels"], carry=flat, nonempty=True) as c:
                    pixels = k.byte_at(source, c * self.stride)
                    xs = [k.load_vector(k.at(pixels, v * lanes), mask=mask) for v, mask in enumerate(masks)]
                    self.products(sums, xs, k.at(tap_weights, c * channels))

            masked = partial(run_through, [self.mask(each) for each in bits], source, tap_weights)
            if len(bits) == self.parent.tile.vectors:  # a mask takes as long as a product
                whole = reduce(operator.and_, bits).eq((1 << lanes) - 1)
                k.choose(whole, partial(run_through, [None] * len(bits), source, tap_weights), masked, carry=flat)
            else:
                masked()

    def products(self, sums: list[list[Var]], xs: Sequence[Value], weights: Value) -> None:
        """Those of one input channel of one tap."""
        k = self.parent.k
        for r, totals in enumerate(sums):
            weight = k.broadcast(k.load(k.at(weights, r)))
            for x, total in zip(xs, totals, strict=True):
                total.value = k.fma(x, weight, total.value)

    def mask(self, bits: Value) -> Value:
        """A mask from its bits."""
        k, lanes = self.parent.k, self.parent.k.lanes
        return k.bitcast(k.convert(bits, "trunc", f"i{lanes}"), f"<{lanes} x i1>")

    def store(self, sums: list[list[Var]]) -> None:
        """Positions lie side by side: one masked store for each vector."""
        k, w, lanes = self.parent.k, self.parent.w, self.parent.k.lanes
        masks = [k.mask(self.place.count - v * lanes) for v in range(len(sums[0]))]
        for r, totals in enumerate(sums):
            out = k.at(self.place.out, (self.channel + r) * w["plane"])
            for v, total in enumerate(totals):
                value = activate(k, self.parent.problem.activation, total.value)
                k.store_vector(value, k.at(out, v * lanes), mask=masks[v])

    def scatter(self, sums: list[list[Var]]) -> None:
        """Positions lie a stride apart: spread over as many vectors, whose gaps are not written."""
        k, w, lanes, step = self.parent.k, self.parent.w, self.parent.k.lanes, self.parent.problem.stride[-1]
        for part in range(step):
            ours = [(part * lanes + lane) % step == 0 for lane in range(lanes)]
            if not any(ours):
                continue
            order = [(part * lanes + lane) // step if mine else -1 for lane, mine in enumerate(ours)]
            gaps = self.mask(k.integer(sum(mine << lane for lane, mine in enumerate(ours))))
            masks = [k.mask((self.place.count - v * lanes) * step - part * lanes) & gaps for v in range(len(sums[0]))]
            for r, totals in enumerate(sums):
                out = k.at(self.place.out, (self.channel + r) * w["plane"])
                for v, total in enumerate(totals):
                    value = activate(k, self.parent.problem.activation, total.value)
                    k.store_vector(k.shuffle(value, value, order), k.at(out, (v * step + part) * lanes), mask=masks[v])


READ_PRODUCTS = 1.1  # to read a vector of pixels, in products: fitted to tiles of 4 to 13 channels
LINE_CYCLES = 0.7  # for a cache line that comes from the L2
SCATTER_CYCLES = 16.0  # to store a vector with gaps
COPY_CYCLES = 8.0  # to bring a vector of a pointwise layer's input to scratch, most of them waiting for it


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def as_one_row(problem: Problem, sizes: Sizes) -> Sizes:
    """A pointwise layer's planes as one row each; other sizes as they are."""
    if not problem.is_pointwise or any(pad for pair in sizes.padding for pad in pair):
        return sizes
    ndim, length = problem.ndim, prod(sizes.in_size)
    expected = 1
    for size, stride in zip(reversed(sizes.in_size), reversed(sizes.x_strides[2:]), strict=True):
        if size > 1 and stride != expected:
            return sizes
        expected *= size
    row = (*(1,) * (ndim - 1), length)
    return Sizes(sizes.batch, row, sizes.padding, row, (*sizes.x_strides[:2], *(1,) * ndim), sizes.plane)


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Tiles, taps and chunks of one shape."""
    item, ndim, lanes = problem.numpy_dtype().itemsize, problem.ndim, target.lanes(problem.dtype)
    flat = as_one_row(problem, sizes)
    copies, sizes = flat is not sizes and _may_copy(problem, tile), flat
    phases = phases_of(problem, sizes.padding)
    grids = phases.grids(sizes.out_size)
    out_strides = [item * prod(sizes.out_size[axis + 1 :]) for axis in range(ndim)]
    x_strides = [stride * item for stride in sizes.x_strides]
    names = RowsKernel.phase_fields(ndim)
    record, tap_words = tap_tables(
        phases, phases.offsets(x_strides[2:]), len(grids) * len(names), problem.in_channels, None
    )
    record["out_offset"] = phases.out_offsets(out_strides)
    record["vectors"] = [ceil_div(grid[-1], lanes) for grid in grids]
    record["row_tiles"] = row_tiles = [max(ceil_div(vectors, tile.vectors), 1) for vectors in record["vectors"]]
    record["tiles"] = [
        sizes.batch * prod(grid[:-1]) * many if grid[-1] else 0 for grid, many in zip(grids, row_tiles, strict=True)
    ]
    for axis, lengths in enumerate(zip(*grids, strict=True)):
        record[f"grid{axis}"] = [max(length, 1) for length in lengths]
    table = table_of([*records_of(names, record), *tap_words])
    tiles, blocks = max(1, *record["tiles"]), blocks_of(problem, tile).count * problem.groups
    chunk_blocks, chunk_tiles = _chunks(problem, target, tiles * len(grids) // column_phases(problem), blocks, threads)
    tile_chunks, block_chunks = ceil_div(tiles, chunk_tiles), ceil_div(blocks, chunk_blocks)
    most_taps = max(phases.counts)
    copy_at = (8 * (2 + tile.vectors) * (most_taps + 1) + 127) & -128
    copied = problem.in_channels * tile.vectors * lanes * item if copies else 0
    if copy_at + copied > allowance(problem, sizes) // threads:
        copies, copied = False, 0
    per_axis: list[int] = []
    for a in range(ndim):
        per_axis += [sizes.in_size[a], phases.in_step[a], x_strides[2 + a], out_strides[a] * phases.out_step[a]]
    plane = sizes.out_plane
    arguments = words(
        table, problem.in_channels // problem.groups, problem.in_channels // problem.groups * prod(problem.kernel_size),
        tile_chunks * block_chunks, block_chunks, chunk_blocks, blocks, chunk_tiles, x_strides[0], x_strides[1],
        problem.out_channels * plane * item, plane, int(copies), copy_at, *per_axis,
    )  # fmt: skip
    reason = f"{len(grids)} phase(s), {tiles} tiles x {blocks} blocks, {chunk_tiles} x {chunk_blocks} an item"
    items = len(grids) // column_phases(problem) * tile_chunks * block_chunks
    return Schedule(arguments, (Phase("run0", items),), copy_at + copied, tables=(table,), reason=reason)


def _chunks(problem: Problem, target: Target, tiles: int, blocks: int, threads: int) -> tuple[int, int]:
    """Blocks and tiles of one item: all blocks, unless there are too few tiles to share."""
    wanted = 8 * threads if threads > 1 else 1
    if tiles >= wanted or threads == 1:
        return blocks, max(1, tiles // wanted)
    return max(1, ceil_div(blocks * tiles, wanted)), 1


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Cycles of a row: multiply-adds, or loads where they are more, for whole vectors; and lines of the input.

    These come from the L2 cache for every block of output channels, but where all that a tile reads stays in the L1.
    """
    taps, step, parts, times, pointwise = _per_row(problem, tile, target)
    channels = problem.out_channels // problem.groups
    row = as_one_row(problem, sizes) if pointwise else sizes
    positions, length = sizes.positions, max(1, row.out_size[-1])
    vectors = ceil_div(ceil_div(length, step), target.lanes(problem.dtype))
    row_tiles = ceil_div(vectors, tile.vectors)
    loads = 1.4 * (2 * vectors * parts + channels * row_tiles)
    rows = positions / length * step * problem.groups
    terms = taps * (problem.in_channels // problem.groups)
    reading = 0.04 * vectors * channels if target.slow_vectors else READ_PRODUCTS * vectors * parts
    inner = terms * max(vectors * channels + reading, loads)
    lines = terms * vectors * times * target.vector_bytes / 64
    outside = (
        row_tiles * (60 + 20 * taps)
        + vectors * channels * (4 if step == 1 else SCATTER_CYCLES) * step
        + lines * LINE_CYCLES
    )
    if pointwise and parts > 1 and problem.groups == 1:
        chunk_blocks, _ = _chunks(problem, target, int(rows) * row_tiles, parts, 2)
        outside += problem.in_channels * vectors * COPY_CYCLES * ceil_div(parts, chunk_blocks)
    return rows * (inner / target.vector_rate + outside / CLOCK) / threads


@lru_cache(maxsize=256)
def _per_row(problem: Problem, tile: Tile, target: Target) -> tuple[float, int, int, int, bool]:
    """Taps; positions from one output to the next of its phase; blocks; how often a line is read; is it pointwise."""
    transposed = problem.op == "conv_transpose"
    taps = prod(problem.kernel_size) / (prod(problem.stride) if transposed else 1)
    parts = ceil_div(problem.out_channels // problem.groups, tile.channels)
    rows_read = prod(problem.kernel_size[:-1]) * (problem.in_channels // problem.groups)
    stretch = tile.vectors * target.vector_bytes  # of one tap; those of the next lie a dilation further
    apart = 0 if transposed else min(problem.dilation[-1] * problem.itemsize, stretch)
    read = rows_read * (stretch + (problem.kernel_size[-1] - 1) * apart)
    times = 1 if read <= 0.6 * target.l1_bytes else parts
    return taps, problem.stride[-1] if transposed else 1, parts, times, problem.is_pointwise


DENSE_ROWS = Algorithm("dense_rows", fits, variants, emit, pack, schedule, cost, rows_contiguous)
