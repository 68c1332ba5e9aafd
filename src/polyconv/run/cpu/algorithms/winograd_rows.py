"""Winograd's algorithm for channels_first arrays whose rows have one tap: neighbouring positions in the lanes.

A kernel such as 3x1 or 3x1x1 transforms rows (or planes) of the picture, never along them. So tiles lie side by side in
a row, each point of a vector of tiles is a vector of neighbouring pixels, and neither V nor M is turned around.
An item is one row of tiles, a segment of it as long as the L2 cache allows, for all output channels:

    for each input channel:     V[point, channel] = transform of the rows that a tile spans, vector by vector
    for each block of R output channels, each pair of vectors, each point:
        M[point, r] = sum over channels of V[point, channel] * U[point, channel, r]
    and back:                   rows of outputs = transform of M + bias, activation

Trailing axes of one tap that are not padded make one long row. Everything else is as in ``winograd``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from polyconv.geometry import product
from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import winograd_tiles
from polyconv.run.cpu.algorithms.blocks import Blocks, cut
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    FROM_MEMORY,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    ceil_div,
    rows_contiguous,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.tiles import tile_counts, tile_starts
from polyconv.run.cpu.algorithms.winograd_kernel import AXIS_NAMES, along_axes, tile_origin
from polyconv.run.cpu.algorithms.winograd_tiles import PRODUCTS, READING, Shape, grain, obstacle, pack_points
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Problem

NAMES = (
    *FIXED_WORDS, "starts: ptr", "tiles", "segments", "vectors", "batch_stride", "out_batch_stride", "channel_stride",
    "plane", "v_point",
)  # fmt: skip
PAIR = 2  # vectors of positions in registers
MOST_CHANNELS = 14  # and output channels
V_SHARE = 0.25  # of the L2, for V
TRANSFORM = 2.0e-9  # seconds a point of a vector of tiles, for an input channel
INVERSE = 1.5e-9  # and for an output channel


class Tile(NamedTuple):
    """Outputs of a tile along each axis (0 where there is one tap), output channels in registers."""

    outputs: tuple[int, ...]
    channels: int


class RowShape(Shape):
    """A shape whose blocks of output channels are so many scalars."""

    @cached_property
    def blocks(self) -> Blocks:
        """How the output channels are cut: one lane is one channel here."""
        return cut(self.problem.out_channels, self.tile.vectors, 1, 1)


def fits(problem: Problem, target: Target) -> str | None:
    """Planes, one tap along a row, every other axis transformed or of one tap."""
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    reason = obstacle(problem, target)
    if reason is None and (problem.op != "conv" or set(problem.stride) != {1}):
        reason = f"it computes convolutions of stride 1, not {problem.op} of stride {problem.stride}"
    if reason is None and problem.groups > 1:
        reason = f"it computes one group, not {problem.groups}"
    if reason is None and problem.kernel_size[-1] > 1:
        reason = f"a row's outputs must read a row of inputs, but {problem.kernel_size[-1]} taps lie along it"
    tile = winograd_tiles.variants(problem, target)[0] if reason is None else None
    if tile and any(taps > 1 and not m for taps, m in zip(problem.kernel_size, tile.outputs, strict=True)):
        reason = f"some axis of the kernel {problem.kernel_size} is neither short nor one tap"
    return reason


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As for other rows of pixels; blocks of output channels of nearly equal size."""
    channels = ceil_div(problem.out_channels, ceil_div(problem.out_channels, MOST_CHANNELS))
    return [Tile(tile.outputs, channels) for tile in winograd_tiles.variants(problem, target)]


@lru_cache(maxsize=256)
def row_shape(problem: Problem, tile: Tile, target: Target) -> RowShape:
    """The facts for a target's vectors."""
    return RowShape(problem, winograd_tiles.Tile(tile.outputs, tile.channels), target.lanes(problem.dtype))


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, U[out block][point][channel][output channel of the block]."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    return pack_points(row_shape(problem, tile, target), weight, bias)


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (picture, segment of a row, row of tiles)."""
    return _RowsKernel(row_shape(problem, tile, target), target).write()


class _Row(NamedTuple):
    """What of a row an item covers, and where a tile's rows lie: bytes from a plane's start, and bits of a mask."""

    start: Value
    vectors: Value
    sources: list[tuple[Value, Value]]
    sinks: list[tuple[Value, Value]]
    source: Value
    sink: Value


class _RowsKernel:
    def __init__(self, shape: RowShape, target: Target) -> None:
        self.k = Kernel("run0", target, shape.problem.dtype)
        self.shape, self.problem, self.last = shape, shape.problem, shape.problem.ndim - 1
        axis_names = (*AXIS_NAMES, "before")
        names = (*NAMES, *(f"{name}{axis}" for axis in range(self.problem.ndim) for name in axis_names))
        values = self.k.words(*names)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, values, strict=True)}
        self.all = (1 << shape.lanes) - 1
        self.m, self.v = self.k.scratch, self.k.byte_at(self.k.scratch, _m_bytes(shape))

    def write(self) -> str:
        """The module's text."""
        k, blocks = self.k, self.shape.blocks
        with k.loop(k.first, k.last) as item:
            row = self.locate(item)
            self.transform(row)
            with k.loop(0, blocks.count, nonempty=True) as block:
                if blocks.full and blocks.tail:
                    k.choose(
                        block < blocks.full,
                        lambda block=block, row=row: self.multiply(row, block, len(blocks.main)),  # type: ignore[misc]
                        lambda block=block, row=row: self.multiply(row, block, len(blocks.tail)),  # type: ignore[misc]
                    )
                else:
                    self.multiply(row, block, len(blocks.main if blocks.full else blocks.tail))
        return k.module()

    def locate(self, item: Value) -> _Row:
        """The item's row of tiles and segment."""
        k, w, shape, lanes = self.k, self.w, self.shape, self.shape.lanes
        rest, segment = item // w["tiles"], (item // w["tiles"]) % w["segments"]
        picture = rest // w["segments"]
        _, places = tile_origin(k, w, self.last, item % w["tiles"])
        first = segment * w["vectors"] // w["segments"]
        vectors, start = (segment + 1) * w["vectors"] // w["segments"] - first, first * lanes
        reaches, outputs = [], []
        for axis, place in enumerate(places):
            dilation, found = self.problem.dilation[axis], shape.short[axis]
            inputs = [place - w[f"before{axis}"] + p * dilation for p in range(found.points if found else 1)]
            reaches.append([(at * w[f"stride{axis}"], at.below(w[f"size{axis}"])) for at in inputs])
            ends = [place + o * dilation for o in range(shape.outputs[axis])]
            outputs.append([(at * w[f"out_stride{axis}"], at.below(w[f"out_size{axis}"])) for at in ends])
        source = k.at(k.byte_at(w["x"], picture * w["batch_stride"]), start - w[f"before{self.last}"])
        sink = k.at(k.byte_at(w["out"], picture * w["out_batch_stride"]), start)
        return _Row(start, vectors, self.combined(reaches), self.combined(outputs), source, sink)

    def combined(self, reaches: list[list[tuple[Value, Value]]]) -> list[tuple[Value, Value]]:
        """Of every point of a tile, its offset and the bits of its mask: all or none."""
        k, found = self.k, []
        for picks in itertools.product(*reaches):
            offset, valid = picks[0]
            for more, also in picks[1:]:
                offset, valid = offset + more, valid & also
            found.append((offset, k.select(valid, k.integer(self.all), k.integer(0))))
        return found

    def bits(self, first: Value, size: Value) -> Value:
        """Which lanes of a vector from position ``first`` on are below a size, as bits."""
        k, lanes = self.k, self.shape.lanes
        inside = (k.indices(lanes) + k.broadcast(first, lanes)).below(k.broadcast(size, lanes))
        return k.convert(k.bitcast(inside, f"i{lanes}"), "zext", "i64")

    def mask(self, bits: Value) -> Value:
        """A mask from its bits."""
        lanes = self.shape.lanes
        return self.k.bitcast(self.k.convert(bits, "trunc", f"i{lanes}"), f"<{lanes} x i1>")

    # -- inputs
    def transform(self, row: _Row) -> None:
        """V of the segment; without masks where all of it lies in the picture."""
        k, w, lanes = self.k, self.w, self.shape.lanes
        begin = row.start - w[f"before{self.last}"]
        inside = (begin >= 0) & (begin + row.vectors * lanes <= w[f"size{self.last}"])
        rows = row.sources[0][1]
        for _, bits in row.sources[1:]:
            rows = rows & bits
        inside = inside & rows.ne(0)
        k.choose(inside, lambda: self.channels(row, False), lambda: self.channels(row, True))

    def channels(self, row: _Row, masked: bool) -> None:
        """All vectors of all channels."""
        k, w, shape, lanes = self.k, self.w, self.shape, self.shape.lanes
        begin, pair_size = row.start - w[f"before{self.last}"], shape.inputs * PAIR * lanes
        short = [(axis, found.data) for axis, found in enumerate(shape.short) if found]
        with k.loop(0, shape.channels, nonempty=True) as channel:
            plane = k.byte_at(row.source, channel * w["channel_stride"])
            sink = k.at(self.v, channel * (PAIR * lanes))
            with k.loop(0, row.vectors, nonempty=True) as vector:
                source = k.at(plane, vector * lanes)
                target = k.at(sink, (vector // PAIR) * pair_size + (vector % PAIR) * lanes)
                inside = self.bits(begin + vector * lanes, w[f"size{self.last}"]) if masked else None

                def load(point: int, source: Value = source, inside: Value | None = inside) -> Value:
                    offset, bits = row.sources[point]
                    mask = self.mask(bits & inside) if inside is not None else None
                    return k.load_vector(k.byte_at(source, offset), mask=mask)

                def store(point: int, value: Value, target: Value = target) -> None:
                    k.store_vector(value, k.at(target, w["v_point"] * point), align=64)

                if not masked:
                    for offset, _ in row.sources:
                        k.prefetch(k.byte_at(k.byte_at(source, w["channel_stride"]), offset))
                along_axes(k, short, shape.grid, load, store)

    # -- products and outputs
    def multiply(self, row: _Row, block: Value, channels: int) -> None:
        """One block of output channels: its products and outputs, a pair of vectors after the other."""
        k, shape = self.k, self.shape
        lane = block * len(shape.blocks.main)
        weights = k.at(self.w["packed"], lane * (shape.points * shape.inputs) + shape.blocks.lanes)
        with k.loop(0, (row.vectors + 1) // PAIR, nonempty=True) as pair:
            data = k.at(self.v, pair * (shape.inputs * PAIR * shape.lanes))

            def write(vectors: int, pair: Value = pair, data: Value = data) -> None:
                self.products(data, weights, vectors, channels)
                self.inverse(row, pair, lane, vectors, channels)

            k.choose(pair * PAIR + 1 < row.vectors, lambda: write(2), lambda: write(1))

    def products(self, data: Value, weights: Value, vectors: int, channels: int) -> None:
        """M of a block for up to two vectors, point by point."""
        k, shape, lanes = self.k, self.shape, self.shape.lanes
        with k.loop(0, shape.points, nonempty=True) as point:
            left = k.at(data, point * self.w["v_point"])
            right = k.at(weights, point * (shape.inputs * channels))
            sums = [[k.var(k.zero()) for _ in range(vectors)] for _ in range(channels)]
            with k.loop(0, shape.inputs, carry=[one for some in sums for one in some], nonempty=True) as c:
                xs = [k.load_vector(k.at(left, c * (PAIR * lanes) + v * lanes), align=64) for v in range(vectors)]
                spot = k.at(right, c * channels)
                for r, totals in enumerate(sums):
                    weight = k.broadcast(k.load(k.at(spot, r)))
                    for x, total in zip(xs, totals, strict=True):
                        total.value = k.fma(x, weight, total.value)
            sink = k.at(self.m, point * (len(shape.blocks.main) * PAIR * lanes))
            for r, totals in enumerate(sums):
                for v, total in enumerate(totals):
                    k.store_vector(total.value, k.at(sink, (r * PAIR + v) * lanes), align=64)

    def inverse(self, row: _Row, pair: Value, lane: Value, vectors: int, channels: int) -> None:
        """Rows of outputs from M."""
        k, w, shape, lanes = self.k, self.w, self.shape, self.shape.lanes
        short = [(axis, found.inverse) for axis, found in enumerate(shape.short) if found]
        step = len(shape.blocks.main) * PAIR * lanes
        with k.loop(0, channels, nonempty=True) as r:
            added = k.broadcast(k.load(k.at(w["packed"], lane + r)))
            plane = k.byte_at(row.sink, (lane + r) * w["plane"])
            for v in range(vectors):
                first = (pair * PAIR + v) * lanes
                inside = self.bits(row.start + first, w[f"out_size{self.last}"])
                source, sink = k.at(self.m, (r * PAIR + v) * lanes), k.at(plane, first)

                def load(point: int, source: Value = source) -> Value:
                    return k.load_vector(k.at(source, point * step), align=64)

                def store(
                    output: int, value: Value, sink: Value = sink, inside: Value = inside, added: Value = added
                ) -> None:
                    offset, bits = row.sinks[output]
                    done = activate(k, self.problem.activation, value + added)
                    k.store_vector(done, k.byte_at(sink, offset), mask=self.mask(bits & inside))

                along_axes(k, short, shape.grid, load, store)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _m_bytes(shape: RowShape) -> int:
    """M of one block and two vectors."""
    return shape.points * len(shape.blocks.main) * PAIR * shape.lanes * shape.item


def _long_rows(problem: Problem, sizes: Sizes) -> Sizes:
    """Trailing axes of one tap as one row, where they are neighbours in memory and not padded."""
    ndim = problem.ndim
    first = max(axis for axis in range(ndim) if problem.kernel_size[axis] > 1) + 1
    length = product(sizes.in_size[first:])
    expected = 1
    for size, stride in zip(reversed(sizes.in_size[first:]), reversed(sizes.x_strides[2 + first :]), strict=True):
        if size > 1 and stride != expected:
            return sizes
        expected *= size
    if any(pad for pair in sizes.padding[first:] for pad in pair):
        return sizes
    row = (*(1,) * (ndim - first - 1), length)
    strides = (*sizes.x_strides[: 2 + first], *(1,) * (ndim - first))
    in_size, out_size = (*sizes.in_size[:first], *row), (*sizes.out_size[:first], *row)
    return Sizes(sizes.batch, in_size, sizes.padding, out_size, strides, sizes.out_plane)


class _Cut(NamedTuple):
    """How rows are cut: rows of tiles of a picture, vectors of a row, segments, vectors of a segment at most."""

    tiles: int
    vectors: int
    segments: int
    longest: int


def _cut(shape: RowShape, target: Target, sizes: Sizes, threads: int) -> _Cut:
    """Segments whose V takes a part of the L2, in equal shares for the threads."""
    problem = shape.problem
    tiles = product(tile_counts(shape.outputs[:-1], problem.dilation[:-1], sizes.out_size[:-1]))
    vectors = ceil_div(sizes.out_size[-1], shape.lanes)
    one = shape.points * shape.inputs * shape.lanes * shape.item
    most = max(PAIR, int(V_SHARE * target.l2_bytes) // one // PAIR * PAIR)
    fewest, rows = max(1, ceil_div(vectors, most)), sizes.batch * tiles

    def busiest(segments: int) -> int:
        return ceil_div(rows * segments, threads) * ceil_div(vectors, segments)

    segments = min(range(fewest, fewest + 2 * threads), key=busiest)
    return _Cut(tiles, vectors, segments, ceil_div(vectors, segments))


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Rows of tiles and segments."""
    shape, item = row_shape(problem, tile, target), problem.numpy_dtype().itemsize
    sizes = _long_rows(problem, sizes)
    starts = tile_starts(shape.outputs[:-1], problem.dilation[:-1], sizes.out_size[:-1])
    work = _cut(shape, target, sizes, threads)
    v_point = ceil_div(work.longest, PAIR) * PAIR * shape.lanes * shape.inputs + 64 // item  # not a power of two
    plane = sizes.out_plane * item
    axes: list[int] = []
    at, out_stride = sum(map(len, starts)), item
    for axis in reversed(range(problem.ndim)):
        count = len(starts[axis]) if axis < len(starts) else 1
        at -= count if axis < len(starts) else 0
        axes[:0] = [
            count, at, sizes.in_size[axis], sizes.x_strides[axis + 2] * item, sizes.out_size[axis], out_stride,
            sizes.padding[axis][0],
        ]  # fmt: skip
        out_stride *= sizes.out_size[axis]
    table = table_of(itertools.chain(*starts))
    arguments = words(
        table, work.tiles, work.segments, work.vectors, sizes.x_strides[0] * item, plane * problem.out_channels,
        sizes.x_strides[1] * item, plane, v_point, *axes,
    )  # fmt: skip
    items = sizes.batch * work.tiles * work.segments if work.vectors else 0
    name = "x".join(map(str, shape.outputs))
    saved = product(problem.kernel_size) * product(shape.outputs) / shape.points
    reason = (
        f"{saved:.2g} times fewer multiplications with {work.tiles} rows of tiles of {name} side by side, "
        f"{work.longest * shape.lanes} at a time"
    )
    scratch = _m_bytes(shape) + shape.points * v_point * item
    return Schedule(arguments, (Phase("run0", items),), scratch, tables=(table,), reason=reason)


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: products of whole vectors, transforms, and reading U once an item where it does not stay in the L2."""
    shape = row_shape(problem, tile, target)
    work = _cut(shape, target, _long_rows(problem, sizes), max(threads, 2))
    rows = sizes.batch * work.tiles
    vectors = rows * work.vectors
    blocks = shape.blocks
    loads = 1.15 * (problem.out_channels / PAIR + blocks.count)
    products = (
        vectors * shape.points * shape.inputs * max(problem.out_channels, loads) / (PRODUCTS * target.vector_rate)
    )
    reading = rows * work.segments * shape.u_bytes / READING if shape.u_bytes > target.l2_bytes // 2 else 0.0
    if sizes.far:
        reading = max(reading, max(threads, 2) * shape.u_bytes / FROM_MEMORY)  # each thread reads all
    moving = vectors * shape.points * (TRANSFORM * shape.inputs + INVERSE * problem.out_channels)
    return winograd_tiles.beside_exact(problem, 1.15 * (max(products, reading) + moving), threads)


def packing(problem: Problem, tile: Tile, target: Target) -> float:
    """Seconds to transform the weights."""
    shape = row_shape(problem, tile, target)
    return winograd_tiles.PACKING * shape.u_size


def rounding(tile: Tile) -> tuple[int, ...]:
    """Larger tiles round more."""
    return tile.outputs


WINOGRAD_ROWS = Algorithm(
    "winograd_rows",
    fits,
    variants,
    emit,
    pack,
    schedule,
    cost,
    rows_contiguous,
    grain,
    packing,
    rounding=rounding,
    direct=False,
)
