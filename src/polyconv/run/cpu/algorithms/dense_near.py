"""Dense convolution of few input channels, or of pixels by themselves, channels_last: one list of terms for a tile.

The loop over input channels of ``dense`` is short for a photograph (three times), and each of its ends costs as
much as several turns. But P neighbouring positions of an output row read pixels at a fixed distance from each other:
knowing the first position's address and, for each term of the sum, how far from it the term's value lies, everything
else is a constant of the code. So a tile is one row's P positions times a block of V vectors of output channels:

    for term: for position: for vector:
        sum[position, vector] += x[start + offset[term] + position * step] * weight[term, vector]

in one loop, whatever the kernel's size and dilation. Taps that fall on padding along the outer axes are left out: the
terms that remain are one run (or in 3-D one for each plane of the kernel). A tile whose taps leave its row first copies
what it reads into a patch in scratch, zeros where the padding is, and has another list of offsets. Where the last tile
of a row would be short it starts earlier and writes some outputs again, with the same bits.

Where the terms of a kernel's row lie in one piece and are many (pointwise layers, patches beside each other) each row
has a loop of its own, unrolled, without a table. A pointwise layer's picture, or batch of them, is one row.

Every output is bias + the sum over taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

from polyconv.run.cpu.activations import LONGEST, activate
from polyconv.run.cpu.algorithms import NEAR_CHANNELS, NEAR_TERMS, dense, is_apart
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE, fetch_stream
from polyconv.run.cpu.algorithms.dense import Tile, blocks_of, pack
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    ceil_div,
    rows_contiguous,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.regions import share_on_data
from polyconv.run.cpu.algorithms.terms import Valid, taps_on_data, valid_terms
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

MOST_PATCH = 64 << 10  # bytes of a patch
LONG_ROW = 48  # terms of a kernel row from which on it has a loop of its own
LONG_PIXEL = 8  # the same where the row is all there is: pointwise layers
LONG_LINE = 4096  # positions of a picture up to which they are one row, where that is possible
NAMES = (
    *FIXED_WORDS, "offsets: ptr", "patch_offsets: ptr", "tiles: ptr", "row_tiles", "pieces", "rows", "blocks",
    "chunk_blocks", "batch_stride",
)  # fmt: skip
AXIS_NAMES = ("size", "grid", "before", "stride")  # in pixels, output positions, pixels; bytes


class Geometry(NamedTuple):
    """What of a problem is constant: all in elements but ``pitch`` and ``patch``."""

    terms: int
    row_terms: int  # of one row of the kernel
    step: int  # between the values that neighbouring positions read
    sizes: tuple[int, ...]  # positions of a tile: the usual one, and one for what remains
    follow: bool  # do the terms of a kernel row follow one another in memory, and are they many
    pitch: int  # bytes between rows of a patch
    patch: int  # bytes of a patch


@lru_cache(maxsize=256)
def geometry(problem: Problem, tile: Tile, target: Target) -> Geometry:
    """The constants of one problem and tile."""
    channels, lanes, item = problem.in_channels, target.lanes(problem.dtype), problem.numpy_dtype().itemsize
    row_terms = problem.kernel_size[-1] * channels
    reach = (tile.positions - 1) * problem.stride[-1] + (problem.kernel_size[-1] - 1) * problem.dilation[-1] + 1
    pitch = ceil_div(reach * channels, lanes) * lanes * item
    rows = prod(problem.kernel_size[:-1])
    sizes = (tile.positions, tile.positions // 2 + 1) if tile.positions > 3 else (tile.positions,)
    long = row_terms >= (LONG_PIXEL if problem.is_pointwise else LONG_ROW)
    follow = long and 1 in (problem.kernel_size[-1], problem.dilation[-1])
    return Geometry(rows * row_terms, row_terms, problem.stride[-1] * channels, sizes, follow, pitch, rows * pitch)


def fits(problem: Problem, target: Target) -> str | None:
    """One group, and few input channels or terms, or outputs that read apart from each other."""
    if problem.op != "conv":
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_last":
        return "it reads pixels as rows of channels (channels_last)"
    if problem.groups > 1:
        return f"it reads all channels of a pixel, but there are {problem.groups} groups"
    few = problem.in_channels <= NEAR_CHANNELS or dense.channels_in_sum(problem) <= NEAR_TERMS
    if not few and not is_apart(problem):
        return (
            f"{problem.in_channels} input channels are more than {NEAR_CHANNELS}, a sum's terms than {NEAR_TERMS}, and "
            "neighbouring outputs read the same inputs"
        )
    if not is_apart(problem) and geometry(problem, variants(problem, target)[0], target).patch > MOST_PATCH:
        return "what a tile reads is too large to be copied"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As for ``dense``."""
    return dense.variants(problem, target)


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (chunk of blocks, row of outputs, piece of the row)."""
    return NearKernel(problem, tile, target).write()


class Row(NamedTuple):
    """One output row: its picture's and its taps' place, and which terms meet data along the outer axes."""

    source: Value  # the pixel that the first tap of position 0 would read, were all taps on data
    out: Value
    valid: Valid


class NearKernel:
    """Writes the kernel; that for planes changes where pixels come from and where sums go."""

    names: tuple[str, ...] = NAMES

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.k = Kernel("run0", target, problem.dtype)
        self.problem, self.tile = problem, tile
        self.geometry = geometry(problem, tile, target)
        self.blocks = blocks_of(problem, tile, target)
        names = (*self.names, *(f"{name}{axis}" for axis in range(problem.ndim) for name in AXIS_NAMES))
        self.w = {n.removesuffix(": ptr"): v for n, v in zip(names, self.k.words(*names), strict=True)}
        self.patch = self.k.scratch
        self.stage = self.k.byte_at(self.k.scratch, self.geometry.patch)

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        with k.loop(k.first, k.last) as item:
            per_chunk = w["rows"] * w["pieces"]
            rest, low = item % per_chunk, (item // per_chunk) * w["chunk_blocks"]
            high = k.minimum(low + w["chunk_blocks"], w["blocks"])
            row = self.row(rest // w["pieces"])
            piece = rest % w["pieces"]
            start, stop = (edge * w["row_tiles"] // w["pieces"] for edge in (piece, piece + 1))
            with k.loop(start, stop) as number:
                entry = k.load(k.word_at(w["tiles"], number), "i64")
                self.either_size(row, entry >> 8, entry & 255, low, high)
        return k.module()

    def either_size(self, row: Row, position: Value, count: Value, low: Value, high: Value) -> None:
        """The tile by the code for its number of positions."""
        sizes = self.geometry.sizes
        if len(sizes) == 1:
            self.tile_of(row, position, count, sizes[0], low, high)
        else:
            self.k.choose(
                count > sizes[1],
                lambda: self.tile_of(row, position, count, sizes[0], low, high),
                lambda: self.tile_of(row, position, count, sizes[1], low, high),
            )

    def row(self, number: Value) -> Row:
        """Everything about an output row but its last axis."""
        k, w, problem = self.k, self.w, self.problem
        out = k.at(w["out"], number * w[f"grid{problem.ndim - 1}"] * problem.out_channels)
        source, rest = w["x"], number
        valid: list[tuple[Value, Value]] = []
        for axis in reversed(range(problem.ndim - 1)):
            place, rest = rest % w[f"grid{axis}"], rest // w[f"grid{axis}"]
            origin = place * problem.stride[axis] - w[f"before{axis}"]
            source = k.byte_at(source, origin * w[f"stride{axis}"])
            size, dilation, taps = w[f"size{axis}"], problem.dilation[axis], problem.kernel_size[axis]
            valid.insert(0, taps_on_data(k, origin, size, dilation, taps))
        source = k.byte_at(source, rest * w["batch_stride"])
        return Row(source, out, valid_terms(k, problem, self.geometry.row_terms, valid))

    def tile_of(self, row: Row, position: Value, count: Value, size: int, low: Value, high: Value) -> None:
        """One tile: in place or, where its taps leave the row, from a patch."""
        k, w, problem = self.k, self.w, self.problem
        last = problem.ndim - 1
        step, dilation, taps = problem.stride[last], problem.dilation[last], problem.kernel_size[last]
        origin = position * step - w[f"before{last}"]
        reach = (size - 1) * step + (taps - 1) * dilation  # from the first value's pixel to the last one's
        inside = k.convert(origin >= 0, "zext", "i64") & k.convert(origin + reach < w[f"size{last}"], "zext", "i64")
        base, offsets = k.var(k.at(row.source, origin * problem.in_channels)), k.var(w["offsets"])
        with k.when(inside.eq(0), carry=[base, offsets]):
            self.fill(row, base.value, origin, reach + 1)
            base.value, offsets.value = self.patch, w["patch_offsets"]
        out = k.at(row.out, position * problem.out_channels)
        short = count < size
        sink = k.select(short, self.stage, out)

        def multiply(block: Value, is_tail: bool) -> None:
            lanes = self.blocks.tail if is_tail else self.blocks.main
            self.sums(row, base.value, offsets.value, sink, block, lanes, size, is_tail)

        blocks = self.blocks
        if blocks.full:
            with k.loop(low, k.minimum(high, blocks.full)) as block:
                multiply(block, False)
        if blocks.tail:
            with k.when(high > blocks.full):
                multiply(k.integer(blocks.full), True)
        with k.when(short), k.loop(low * sum(blocks.main), self.stop_channel(high)) as channel, k.loop(0, count) as at:
            place = at * problem.out_channels + channel
            k.store(k.load(k.at(self.stage, place)), k.at(out, place))

    def stop_channel(self, high: Value) -> Value:
        """The channel that follows those of the blocks before ``high``."""
        return self.k.minimum(high * sum(self.blocks.main), self.problem.out_channels)

    def fill(self, row: Row, base: Value, origin: Value, pixels: int) -> None:
        """Copy what a tile reads of each of its rows that meet data, with zeros outside the picture."""
        k, problem, geometry = self.k, self.problem, self.geometry
        channels, last = problem.in_channels, problem.ndim - 1
        low = k.maximum(k.integer(0) - origin, 0) * channels
        data = k.maximum((self.w[f"size{last}"] - origin) * channels - low, 0)
        data = k.select(low < pixels * channels, data, k.integer(0))
        with k.loop(0, row.valid.runs) as run:
            first = row.valid.first + run * row.valid.apart
            with k.loop(first // geometry.row_terms, (first + row.valid.length) // geometry.row_terms) as line:
                start = line if geometry.follow else line * geometry.row_terms
                source = k.byte_at(base, k.load(k.word_at(self.w["offsets"], start), "i64"))
                sink = k.byte_at(self.patch, line * geometry.pitch)
                with k.loop(0, pixels * channels, k.lanes, nonempty=True) as at:
                    mask = (k.indices(k.lanes) + (at - low)).below(data)
                    k.store_vector(k.load_vector(k.at(source, at), mask=mask), k.at(sink, at))

    def sums(
        self,
        row: Row,
        base: Value,
        offsets: Value,
        sink: Value,
        block: Value,
        lanes: tuple[int, ...],
        size: int,
        is_tail: bool,
    ) -> None:
        """The sums of one block of output channels, activated and stored."""
        k, w, blocks = self.k, self.w, self.blocks
        channel = block * sum(blocks.main)
        starts = [sum(lanes[:v]) for v in range(len(lanes))]
        counts = [*lanes[:-1], blocks.last_count if is_tail or not blocks.tail else lanes[-1]]
        bias = k.at(w["packed"], channel)
        weights = k.at(w["packed"], channel * self.geometry.terms + blocks.lanes)
        biases = [k.load_vector(k.at(bias, at), n) for at, n in zip(starts, lanes, strict=True)]
        totals = [[k.var(value) for value in biases] for _ in range(size)]
        flat = [total for position in totals for total in position]

        with k.loop(0, row.valid.runs, carry=flat) as run:
            first = row.valid.first + run * row.valid.apart
            if self.geometry.follow:
                self.rows(first, first + row.valid.length, base, offsets, weights, block, lanes, totals)
            else:
                several = 3 if self.geometry.row_terms % 3 == 0 and len(set(lanes)) == 1 else 1
                with k.loop(first, first + row.valid.length, several, carry=flat) as term:
                    for n in range(several):
                        spot = k.at(k.at(weights, term * sum(lanes)), n * sum(lanes))
                        self.term(self.value_at(base, offsets, term + n), spot, lanes, totals)
                        if several > 1:
                            k.barrier(flat)
        self.put(totals, k.at(sink, channel), starts, counts)

    def rows(
        self,
        first: Value,
        stop: Value,
        base: Value,
        offsets: Value,
        weights: Value,
        block: Value,
        lanes: tuple[int, ...],
        totals: list[list[Var]],
    ) -> None:
        """The terms of whole kernel rows, each of which lies in one piece: several at a time, and nothing is looked up.

        What counts and branches takes the place of a multiply-add now and then: one in thirty, were it one at a time.
        """
        k, terms, width = self.k, self.geometry.row_terms, sum(lanes)
        flat = [total for position in totals for total in position]
        together = max(1, dense.TOGETHER // len(flat)) if len(set(lanes)) == 1 else 1
        whole = terms - terms % together
        with k.loop(first // terms, stop // terms, carry=flat) as line:
            pixels, spots = self.value_at(base, offsets, line), k.at(weights, line * (terms * width))
            with k.loop(0, whole, together, carry=flat, nonempty=True) as term:
                pixel, spot = k.at(pixels, term), k.at(spots, term * width)
                for n in range(together):
                    self.term(k.at(pixel, n), k.at(spot, n * width), lanes, totals)
                    self.fetch_next(pixels, block, term, len(totals), n, together)
                    if together > 1:
                        k.barrier(flat)
            for n in range(whole, terms):
                self.term(k.at(pixels, n), k.at(spots, n * width), lanes, totals)
                k.barrier(flat)

    def value_at(self, base: Value, offsets: Value, number: Value) -> Value:
        """Where the first position of a tile reads its value for a term, or for the first one of a kernel row."""
        return self.k.byte_at(base, self.k.load(self.k.word_at(offsets, number), "i64", invariant=True))

    def fetch_next(self, pixels: Value, block: Value, term: Value, positions: int, n: int, terms: int) -> None:
        """Ask for the pixels behind a tile's: the next tile of a pointwise layer reads them.

        Each block of output channels asks for its part.
        """
        k, problem, blocks = self.k, self.problem, self.blocks
        if k.target.slow_vectors or not problem.is_pointwise or blocks.count > dense.FEW_BLOCKS:
            return
        each = positions * problem.in_channels * k.bytes  # what a tile reads
        part = ceil_div(each, blocks.count * self.geometry.row_terms)  # in each term
        behind = k.byte_at(
            k.at(pixels, positions * self.geometry.step), (block * self.geometry.row_terms + term) * part
        )
        lines = ceil_div(part * terms, CACHE_LINE)
        for line in range(lines):
            if line * terms // lines == n:
                k.prefetch(k.byte_at(behind, line * CACHE_LINE))

    def term(self, pixel: Value, spot: Value, lanes: tuple[int, ...], totals: list[list[Var]]) -> None:
        """One term of every sum: the first position's value lies at ``pixel``, the weights at ``spot``."""
        k = self.k
        starts = [sum(lanes[:v]) for v in range(len(lanes))]
        vectors = [k.load_vector(k.at(spot, at), n) for at, n in zip(starts, lanes, strict=True)]
        fetch_stream(k, spot, lanes, len(totals), self.geometry.terms * self.blocks.lanes * k.bytes)
        for position, sums in enumerate(totals):
            value = k.load(k.at(pixel, position * self.geometry.step))
            for vector, total, n in zip(vectors, sums, lanes, strict=True):
                total.value = k.fma(vector, k.broadcast(value, n), total.value)

    def put(self, totals: list[list[Var]], sink: Value, starts: list[int], counts: list[int]) -> None:
        """Activate and store."""
        k, problem = self.k, self.problem
        for position, sums in enumerate(totals):
            for start, count, total in zip(starts, counts, sums, strict=True):
                value = activate(k, problem.activation, total.value, LONGEST)
                k.store_vector(value, k.at(sink, position * problem.out_channels + start), count=count)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Rows, tiles and offsets of one shape."""
    sizes = _in_long_rows(problem, sizes)
    item = problem.itemsize
    facts, blocks = geometry(problem, tile, target), blocks_of(problem, tile, target)
    strides = [stride * item for stride in sizes.x_strides[:-1]]
    places = places_in_row(problem, facts.follow)
    offsets = _offsets(problem, tuple(strides[1:-1]), places)
    patch = [line * facts.pitch + place for line in range(prod(problem.kernel_size[:-1])) for place in places]
    length = sizes.out_size[-1]
    tiles = row_tiles(length, facts.sizes)
    rows = sizes.batch * prod(sizes.out_size[:-1])
    pieces = 1 if rows >= 8 * threads else min(len(tiles), ceil_div(4 * threads, max(rows, 1)))
    weights = facts.terms * blocks.lanes * item
    uneven = any(tiles[end] & 255 != facts.sizes[0] for end in (0, -1) if tiles)
    _, chunk_blocks = dense.chunks_of(rows * len(tiles) | uneven, blocks.count, weights, target, threads)
    chunks = ceil_div(blocks.count, chunk_blocks)
    per_axis: list[int] = []
    for axis in range(problem.ndim):
        per_axis += [sizes.in_size[axis], sizes.out_size[axis], sizes.padding[axis][0], strides[axis + 1]]
    is_short = any(tiles[end] & 255 not in facts.sizes for end in (0, -1) if tiles)  # computed, and put aside first
    scratch = tile.positions * problem.out_channels * item if is_short else 0
    scratch += facts.patch if is_short or max(sizes.padding[-1]) > 0 else 0
    tables = table_of(offsets), table_of(patch), table_of(tiles)
    arguments = words(*tables, len(tiles), pieces, rows, blocks.count, chunk_blocks, strides[0], *per_axis)
    reason = f"{rows} rows of {len(tiles)} tiles in {pieces} piece(s) x {blocks.count} blocks, {chunk_blocks} an item"
    steps = (Phase("run0", chunks * rows * pieces),)
    return Schedule(arguments, steps, ceil_div(scratch, 64) * 64, tables=tables, reason=reason)


def _in_long_rows(problem: Problem, sizes: Sizes) -> Sizes:
    """The sizes of a picture without borders as one of fewer rows, where its rows lie one after another in memory."""
    if not problem.is_pointwise or any(edge for edges in sizes.padding for edge in edges):
        return sizes
    lengths, strides = [sizes.batch, *sizes.in_size], sizes.x_strides
    length, axis = lengths[-1], len(lengths) - 2
    while axis >= 0 and length * lengths[axis] <= LONG_LINE and strides[axis] == length * strides[-2]:
        length *= lengths[axis]
        lengths[axis] = 1
        axis -= 1
    lengths[-1] = length
    batch, size = lengths[0], tuple(lengths[1:])
    return sizes._replace(batch=batch, in_size=size, out_size=size)


@lru_cache(maxsize=256)
def places_in_row(problem: Problem, follow: bool) -> list[int]:
    """Where the terms of one row of the kernel lie, in bytes from the first; that one only where the others follow."""
    steps = product(range(problem.kernel_size[-1]), range(problem.in_channels))
    found = [(tap * problem.dilation[-1] * problem.in_channels + c) * problem.itemsize for tap, c in steps]
    return found[:1] if follow else found


def _offsets(problem: Problem, strides: tuple[int, ...], inner: list[int]) -> list[int]:
    """How far from the first tap's pixel each term's value lies, in bytes."""
    found = inner
    for taps, dilation, stride in reversed(
        list(zip(problem.kernel_size[:-1], problem.dilation, strides, strict=False))
    ):
        found = [tap * dilation * stride + place for tap in range(taps) for place in found]
    return found


@lru_cache(maxsize=256)
def row_tiles(length: int, sizes: tuple[int, ...]) -> list[int]:
    """The tiles of a row, as (start << 8) + positions."""
    usual, other = sizes[0], sizes[-1]
    count, few = _cut(length, sizes)
    found = [(start << 8) + usual for start in range(0, count * usual, usual)]
    found += [(start << 8) + other for start in range(count * usual, count * usual + few * other, other)]
    if found and (found[-1] >> 8) + (found[-1] & 255) > length:  # the last ends with the row
        size = min(found[-1] & 255, length)
        found[-1] = (length - size << 8) + size
    return found


@lru_cache(maxsize=256)
def _cut(length: int, sizes: tuple[int, ...]) -> tuple[int, int]:
    """How many tiles of the usual size, and of the other, are least work: positions, and something for each tile."""
    usual, other = sizes[0], sizes[-1]
    least, found = length * (usual + 2), (0, 0)
    for few in range(min(ceil_div(length, other), usual) + 1):  # so many more are as long as some of the usual size
        count = max(-((few * other - length) // usual), 0)
        work = count * (usual + 1) + few * (other + 1)
        if work < least:
            least, found = work, (count, few)
    return found


LARGE_PATCH = 2.0  # times the cost, where a tile at the border copies more than `MOST_PATCH`
ENDS = 0.9  # of the time that the same products take where each kernel row (or tap) is a loop of its own, as in dense


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: for each term a tile's products, or its loads where two at a time take longer."""
    sizes = _in_long_rows(problem, sizes)
    length = sizes.out_size[-1]
    if not length:
        return 0.0
    facts, blocks = geometry(problem, tile, target), blocks_of(problem, tile, target)
    count, few = _cut(length, facts.sizes)
    turns = count * dense.turns(blocks, facts.sizes[0])  # of one term of one row
    turns += few * dense.turns(blocks, facts.sizes[-1]) if few else 0
    if facts.terms * blocks.lanes * problem.numpy_dtype().itemsize > target.l1_bytes:
        turns += (count + few) * blocks.vectors  # the weights come from the L2: wide tiles of few positions lose
    terms = sizes.batch * prod(sizes.out_size[:-1]) * facts.terms * share_on_data(problem, sizes, problem.ndim - 1)
    copies = LARGE_PATCH if facts.patch > MOST_PATCH and max(sizes.padding[-1]) > 0 else 1.0
    return ENDS * copies * terms * turns / target.vector_rate / threads


DENSE_NEAR = Algorithm("dense_near", fits, variants, emit, pack, schedule, cost, rows_contiguous)
