"""Dense convolution of few input channels, channels_first: output positions in the lanes, one list of terms.

A tile is V vectors of neighbouring positions of one output row times a block of R output channels. Each item first
copies the part of the input that its rows read into its thread's scratch: a strip, line by line with zeros for the
padding, lines and what is in them sorted by the remainder by the stride. What neighbouring positions read for one tap
is then side by side, whatever the stride, and

    for term: for vector: for output channel:
        sum[channel, vector] += strip[start + offset[term] + vector] * weight[term, channel]

is one loop without masks. A strip serves all output channels. Taps that fall on padding along the outer axes are left
out, as in ``dense_near``.

Rows that would fill their last vector badly are *joined*: the lines of a strip follow one another so closely that all
its rows are one, with a few positions between them that belong to none. A vector of sums may then end one row and start
the next, and is stored in two parts.

Every output is bias + the sum over taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import NEAR_PLANES, dense_rows
from polyconv.run.cpu.algorithms.blocks import fetch_stream
from polyconv.run.cpu.algorithms.dense_rows import Tile, ask_for, blocks_of, pack
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    allowance,
    ceil_div,
    rows_contiguous,
    share,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.regions import share_on_data
from polyconv.run.cpu.algorithms.terms import Valid, taps_on_data, valid_terms
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

STRIP = 8  # a strip takes up to this part of the L2, all strips a quarter of the arrays; but a row of tiles at least
NAMES = (
    *FIXED_WORDS, "offsets: ptr", "strips", "run", "segments", "segment", "vectors", "blocks", "chunk_blocks", "chunks",
    "batch_stride", "channel_stride", "out_batch_stride", "plane", "joined", "line", "part", "raw_at",
)  # fmt: skip
AXIS_NAMES = ("size", "grid", "before", "stride")  # in pixels, output positions, pixels; bytes


def remainders(problem: Problem, axis: int) -> list[int]:
    """Which input positions along an axis are copied, by their remainder by the stride."""
    step = problem.stride[axis]
    return sorted({tap * problem.dilation[axis] % step for tap in range(problem.kernel_size[axis])})


def in_registers(problem: Problem) -> bool:
    """Are lines sorted by shuffling vectors, and not value by value from a copy."""
    step = problem.stride[-1]
    return step & (step - 1) == 0 and len(remainders(problem, problem.ndim - 1)) * 4 > step


def fits(problem: Problem, target: Target) -> str | None:
    """Few input channels, one group."""
    if problem.op != "conv":
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    if problem.groups > 1:
        return f"it reads all channels of a pixel, but there are {problem.groups} groups"
    if problem.is_pointwise:
        return "a pointwise layer needs no strip"
    if problem.in_channels > NEAR_PLANES:
        return f"{problem.in_channels} input channels are more than {NEAR_PLANES}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As for ``dense_rows``, up to four vectors."""
    return [tile for tile in dense_rows.variants(problem, target) if tile.vectors <= 4]


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (chunk of blocks, picture, row of the other outer axes, strip, segment)."""
    return _Kernel(problem, tile, target).write()


class _Strip(NamedTuple):
    """What an item covers."""

    source: Value  # plane of the first channel, where column 0 of the input lies
    out: Value  # the first output of the strip's first row, first channel
    rows: Value
    first_row: Value
    column: Value  # first output column
    vectors: Value
    planes: list[tuple[Value, Value]]  # of the axes before the last two: first tap on data, and how many


class _Kernel:
    """Writes the kernel."""

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.k = Kernel("run0", target, problem.dtype)
        self.problem, self.tile = problem, tile
        self.blocks = blocks_of(problem, tile)
        names = (*NAMES, *(f"{name}{axis}" for axis in range(problem.ndim) for name in AXIS_NAMES))
        self.w = {n.removesuffix(": ptr"): v for n, v in zip(names, self.k.words(*names), strict=True)}
        self.strip = self.k.scratch
        self.raw = self.k.byte_at(self.k.scratch, self.w["raw_at"])  # a line as it stands in the input
        self.row_terms = problem.kernel_size[-1] * problem.in_channels
        self.terms = prod(problem.kernel_size) * problem.in_channels

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        last = k.var(k.integer(-1))
        with k.loop(k.first, k.last, carry=[last]) as item:
            number = item // w["chunks"]
            strip = self.locate(number)
            with k.when(strip.vectors > 0):
                with k.when(number.ne(last.value)):
                    self.fill(strip)
                low = (item % w["chunks"]) * w["chunk_blocks"]
                high = k.minimum(low + w["chunk_blocks"], w["blocks"])
                self.multiply(strip, low, high)
            last.value = number
        return k.module()

    def locate(self, number: Value) -> _Strip:
        """The strip with this number."""
        k, w, problem = self.k, self.w, self.problem
        ndim = problem.ndim
        segment, rest = number % w["segments"], number // w["segments"]
        column = segment * w["segment"] * k.lanes
        vectors = k.minimum(w["vectors"] - segment * w["segment"], w["segment"])
        first, rows, source = k.integer(0), k.integer(1), w["x"]
        at = column
        if ndim > 1:
            first, rest = (rest % w["strips"]) * w["run"], rest // w["strips"]
            rows = k.minimum(w[f"grid{ndim - 2}"] - first, w["run"])
            at = at + first * w[f"grid{ndim - 1}"]
        planes: list[tuple[Value, Value]] = []
        size = w[f"grid{ndim - 1}"]
        for axis in reversed(range(ndim - 2)):
            size = size * w[f"grid{axis + 1}"]
            place, rest = rest % w[f"grid{axis}"], rest // w[f"grid{axis}"]
            origin = self.origin(axis, place)
            planes.insert(0, self.taps(axis, origin))
            source, at = k.byte_at(source, origin * w[f"stride{axis}"]), at + place * size
        source = k.byte_at(source, rest * w["batch_stride"])
        out = k.at(k.byte_at(w["out"], rest * w["out_batch_stride"]), at)
        return _Strip(source, out, rows, first, column, vectors, planes)

    def origin(self, axis: int, place: Value) -> Value:
        """The input position that tap 0 of an output position reads."""
        return place * self.problem.stride[axis] - self.w[f"before{axis}"]

    def taps(self, axis: int, origin: Value, last: Value | None = None) -> tuple[Value, Value]:
        """The first tap along an axis that is on data, and how many are."""
        problem = self.problem
        size = self.w[f"size{axis}"]
        return taps_on_data(self.k, origin, size, problem.dilation[axis], problem.kernel_size[axis], last)

    # ---- the strip -------------------------------------------------------------------------------------------------
    def fill(self, strip: _Strip) -> None:
        """Copy the lines of the strip: for each channel, plane of the kernel and remainder, one after the other."""
        k, w, problem = self.k, self.w, self.problem
        ndim = problem.ndim
        parts = len(remainders(problem, ndim - 1))
        if ndim == 1:
            with k.loop(0, problem.in_channels, nonempty=True) as channel:
                source = k.byte_at(strip.source, channel * w["channel_stride"])
                self.fill_line(strip, source, k.byte_at(self.strip, channel * parts * w["part"]))
            return
        axis, depth = ndim - 2, prod(problem.kernel_size[:-2])
        wanted = remainders(problem, axis)
        step, top = problem.stride[axis], self.origin(axis, strip.first_row)
        planes = strip.planes[0] if strip.planes else (k.integer(0), k.integer(1))
        with k.loop(0, problem.in_channels, nonempty=True) as channel, k.loop(planes[0], planes[0] + planes[1]) as z:
            start = k.byte_at(strip.source, channel * w["channel_stride"])
            if strip.planes:
                start = k.byte_at(start, z * problem.dilation[0] * w["stride0"])
            with k.loop(0, len(wanted), nonempty=True) as number:
                remainder = number
                for index, value in enumerate(wanted):
                    if index != value:
                        remainder = k.select(number.eq(index), k.integer(value), remainder)
                sink = k.byte_at(self.strip, (((channel * depth + z) * len(wanted)) + number) * parts * w["part"])
                lines = strip.rows - 1 + (self.reach(axis) - remainder + (step - 1)) // step
                with k.loop(0, lines) as line:
                    place = top + remainder + line * step
                    inside = place.below(w[f"size{axis}"])
                    with k.when(inside | w["joined"].ne(0)):
                        place = k.select(inside, place, k.integer(0))
                        here = k.byte_at(start, place * w[f"stride{axis}"])
                        self.fill_line(strip, here, k.byte_at(sink, line * w["line"]), inside)
                with k.when(w["joined"].ne(0)):  # what the last vector of sums reads beyond the last line
                    for part in range(parts):
                        k.store_vector(k.zero(), k.byte_at(sink, lines * w["line"] + w["part"] * part))

    def reach(self, axis: int) -> int:
        """Input positions that one output spans."""
        return (self.problem.kernel_size[axis] - 1) * self.problem.dilation[axis] + 1

    def fill_line(self, strip: _Strip, source: Value, sink: Value, inside: Value | None = None) -> None:
        """One line, with zeros around it, or only zeros unless it is ``inside``; sorted by remainder."""
        k, w, problem = self.k, self.w, self.problem
        last, lanes = problem.ndim - 1, self.k.lanes
        step = problem.stride[last]
        origin = self.origin(last, strip.column)
        length = strip.vectors * lanes + (self.reach(last) - 1) // step
        length = k.select(w["joined"].ne(0), w["line"] // k.bytes, length)
        base = k.at(source, origin)
        low = k.maximum(k.integer(0) - origin, 0)
        data = k.maximum(w[f"size{last}"] - origin - low, 0)
        if inside is not None:
            data = k.select(inside, data, k.integer(0))

        def read(at: Value) -> Value:
            mask = (k.indices(lanes) + (at - low)).below(k.broadcast(data, lanes))
            return k.load_vector(k.at(base, at), mask=mask)

        if not in_registers(problem):
            with k.loop(0, length * step, lanes, nonempty=True) as at:
                k.store_vector(read(at), k.at(self.raw, at))
        with k.loop(0, length, lanes, nonempty=True) as at:
            for number, values in enumerate(self.sorted_by_remainder(at * step, read)):
                k.store_vector(values, k.at(k.byte_at(sink, w["part"] * number), at))

    def sorted_by_remainder(self, first: Value, read: Callable[[Value], Value]) -> list[Value]:
        """Of stride x lanes values, one vector for each remainder that is needed."""
        k, step, lanes = self.k, self.problem.stride[-1], self.k.lanes
        wanted = remainders(self.problem, self.problem.ndim - 1)
        if in_registers(self.problem):
            rows = [read(first + lanes * row) for row in range(step)]
            return [values for place, values in enumerate(self.halved(rows)) if place in wanted]
        found = []
        for remainder in wanted:
            vector = k.zero()
            for lane in range(lanes):
                vector = k.insert(vector, k.load(k.at(self.raw, first + (remainder + lane * step))), lane)
            found.append(vector)
        return found

    def halved(self, rows: list[Value]) -> list[Value]:
        """Vectors that follow one another, sorted by remainder by their number (a power of two)."""
        k, lanes = self.k, self.k.lanes
        if len(rows) == 1:
            return rows
        even, odd = (
            self.halved(
                [k.shuffle(a, b, range(half, 2 * lanes, 2)) for a, b in zip(rows[::2], rows[1::2], strict=True)]
            )
            for half in (0, 1)
        )
        return [values for pair in zip(even, odd, strict=True) for values in pair]

    # ---- the sums --------------------------------------------------------------------------------------------------
    def multiply(self, strip: _Strip, low: Value, high: Value) -> None:
        """All outputs of a strip: block by block, so that planes are written one after another."""
        k, blocks = self.k, self.blocks
        with k.loop(low, k.minimum(high, blocks.full)) as block:
            self.block_of(strip, block, sum(blocks.main))
        if blocks.tail:
            with k.when(high > blocks.full):
                self.block_of(strip, k.integer(blocks.full), sum(blocks.tail))

    def block_of(self, strip: _Strip, block: Value, channels: int) -> None:
        """One block of output channels: row by row, or all rows as one."""
        k, w, problem = self.k, self.w, self.problem
        ndim, most = problem.ndim, self.tile.vectors
        first = block * sum(self.blocks.main)
        bias = k.at(w["packed"], first)
        weights = k.at(w["packed"], first * self.terms + self.blocks.lanes)
        width = w[f"grid{ndim - 1}"]
        apart = w["line"] // k.bytes
        rows, vectors = k.integer(1), strip.vectors
        if ndim > 1:
            joined = w["joined"].ne(0)
            rows = k.select(joined, strip.rows, rows)
            vectors = k.select(joined, ((rows - 1) * apart + width + (k.lanes - 1)) // k.lanes, vectors)
        tiles = (vectors + (most - 1)) // most
        with k.loop(0, strip.rows, rows, nonempty=True) as row:
            inner: list[tuple[Value, Value]] = []
            base = self.strip
            if ndim > 1:
                axis = ndim - 2
                origin = self.origin(axis, strip.first_row + row)
                inner = [self.taps(axis, origin, origin + (rows - 1) * problem.stride[axis])]
                base = k.byte_at(base, row * w["line"])
            valid = valid_terms(k, problem, self.row_terms, [*strip.planes, *inner])
            out = k.byte_at(k.at(strip.out, row * width), first * w["plane"])
            with k.loop(0, tiles, nonempty=True) as tile:
                start, stop = tile * vectors // tiles, (tile + 1) * vectors // tiles
                at = start * k.lanes

                base_at = k.at(base, at)

                def write(
                    count: int, at: Value = at, valid: Valid = valid, base: Value = base_at, out: Value = out
                ) -> None:
                    ask_for(k, k.at(out, at), w["plane"], count, channels)
                    sums = self.sums(valid, base, bias, weights, count, channels)
                    values = [[activate(k, problem.activation, total.value) for total in row] for row in sums]

                    def one_row() -> None:
                        self.store(values, k.at(out, at), width - strip.column - at)

                    def all_rows() -> None:
                        self.store_rows(values, out, at, rows, apart)

                    if ndim == 1:
                        one_row()
                    else:
                        k.choose(w["joined"].ne(0), all_rows, one_row)

                k.switch(stop - start, range(1, most + 1), write)

    def store(self, sums: list[list[Value]], out: Value, left: Value) -> None:
        """A tile of one row of which ``left`` positions are left."""
        k, vectors = self.k, len(sums[0])
        mask = k.mask(left - (vectors - 1) * k.lanes)
        for channel, values in enumerate(sums):
            spot = k.byte_at(out, self.w["plane"] * channel)
            for number, value in enumerate(values):
                last = number == vectors - 1
                k.store_vector(value, k.at(spot, number * k.lanes), mask=mask if last else None)

    def store_rows(self, sums: list[list[Value]], out: Value, at: Value, rows: Value, apart: Value) -> None:
        """A tile of joined rows: what of each vector lies in the row where it starts, then what lies in the next."""
        k, w, lanes = self.k, self.w, self.k.lanes
        width = w[f"grid{self.problem.ndim - 1}"]
        row, column = at // apart, at % apart
        for number in range(len(sums[0])):
            spot = k.at(out, row * width + column)
            ends = k.mask(width - column)
            for channel, values in enumerate(sums):
                k.store_vector(values[number], k.byte_at(spot, w["plane"] * channel), mask=ends)
            over = column + lanes >= apart
            with k.when(over & (row + 1 < rows)):
                starts = k.indices(lanes) >= k.broadcast(apart - column, lanes)
                next_row = k.at(spot, width - apart)
                for channel, values in enumerate(sums):
                    k.store_vector(values[number], k.byte_at(next_row, w["plane"] * channel), mask=starts)
            column = column + lanes
            row, column = k.select(over, row + 1, row), k.select(over, column - apart, column)

    def sums(
        self, valid: Valid, base: Value, bias: Value, weights: Value, vectors: int, channels: int
    ) -> list[list[Var]]:
        """The sums of a tile: one list of vectors for each channel."""
        k, w = self.k, self.w
        totals = [
            [k.var(k.broadcast(k.load(k.at(bias, channel)))) for _ in range(vectors)] for channel in range(channels)
        ]
        flat = [total for row in totals for total in row]
        with k.loop(0, valid.runs, carry=flat) as run:
            first = valid.first + run * valid.apart
            with k.loop(first, first + valid.length, carry=flat) as term:
                spot = k.at(weights, term * channels)
                pixels = k.byte_at(base, k.load(k.word_at(w["offsets"], term), "i64", invariant=True))
                values = [k.load_vector(k.at(pixels, number * k.lanes)) for number in range(vectors)]
                fetch_stream(k, spot, (channels,), vectors * channels, self.terms * channels * k.bytes)
                for channel, row in enumerate(totals):
                    weight = k.broadcast(k.load(k.at(spot, channel)))
                    for value, total in zip(values, row, strict=True):
                        total.value = k.fma(value, weight, total.value)
        return totals


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _joining(problem: Problem, tile: Tile) -> float:
    """How much longer a vector of joined rows takes: to find its row, and to store it in two parts."""
    return 1.01 + 20 / (prod(problem.kernel_size) * problem.in_channels * tile.channels)


class _Plan(NamedTuple):
    """How strips are cut at some sizes."""

    vectors: int  # of a row, and of a segment
    segment: int
    run: int  # rows of a strip
    joined: bool
    line: int  # bytes between lines whose remainders are the same
    part: int  # bytes of all such lines


def _planned(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> _Plan:
    item, lanes, ndim = problem.numpy_dtype().itemsize, target.lanes(problem.dtype), problem.ndim
    reach = (problem.kernel_size[-1] - 1) * problem.dilation[-1] // problem.stride[-1]
    vectors = ceil_div(sizes.out_size[-1], lanes)
    above = sizes.batch * prod(sizes.out_size[:-2]) if ndim > 1 else sizes.batch
    height = sizes.out_size[-2] if ndim > 1 else 1
    beyond, parts = 0, len(remainders(problem, ndim - 1))
    if ndim > 1:
        beyond = (problem.kernel_size[-2] - 1) * problem.dilation[-2] // problem.stride[-2]
        parts *= len(remainders(problem, ndim - 2))
    parts *= problem.in_channels * prod(problem.kernel_size[:-2])

    most = min(target.l2_bytes // STRIP, allowance(problem, sizes) // threads)

    def pitch(count: int) -> int:
        """Bytes of the part of a line that so many vectors of outputs read, for one remainder."""
        return ceil_div(count * lanes + reach + 1, lanes) * lanes * item

    segment = vectors
    while segment > tile.vectors and parts * (1 + beyond) * pitch(segment) > most:
        segment = ceil_div(segment, 2)
    if above * height < 4 * threads:  # few rows: the threads share a row
        segment = min(segment, ceil_div(ceil_div(vectors, ceil_div(4 * threads, max(1, above * height))), tile.vectors))
        segment = max(segment, 1) * tile.vectors if segment < vectors else segment
    segment = max(1, min(segment, vectors))
    run = min(max(1, share(height * above, threads, 4)), max(1, height))
    width = sizes.out_size[-1]

    def rows(line: int, after: int) -> int:
        """Rows of a strip: as many as fit, and in strips as even as can be."""
        fit = min(run, max(1, (most // parts - after) // line - beyond))
        return ceil_div(height, ceil_div(height, fit)) if height else 1

    if lanes <= width and segment == vectors:
        line = (width + reach) * item
        many = rows(line, lanes * item)
        if _joining(problem, tile) * ceil_div((many - 1) * (width + reach) + width, lanes) <= many * vectors:
            return _Plan(vectors, segment, many, True, line, (many + beyond) * line + lanes * item)
    line = pitch(segment)
    many = rows(line, 0)
    return _Plan(vectors, segment, many, False, line, (many + beyond) * line)


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Strips and offsets of one shape."""
    item, lanes, ndim = problem.numpy_dtype().itemsize, target.lanes(problem.dtype), problem.ndim
    plan = _planned(problem, tile, target, sizes, threads)
    blocks, step = blocks_of(problem, tile), problem.stride[-1]
    above = sizes.batch * prod(sizes.out_size[:-2]) if ndim > 1 else sizes.batch
    height = sizes.out_size[-2] if ndim > 1 else 1
    strips, segments = ceil_div(height, plan.run), ceil_div(plan.vectors, plan.segment)
    strides = [stride * item for stride in sizes.x_strides]
    offsets = _offsets(problem, plan)
    per_axis: list[int] = []
    for axis in range(ndim):
        per_axis += [sizes.in_size[axis], sizes.out_size[axis], sizes.padding[axis][0], strides[axis + 2]]
    items = above * strips * segments
    chunks = min(blocks.count, ceil_div(2 * threads, max(items, 1))) if threads > 1 and items < 2 * threads else 1
    chunk_blocks = ceil_div(blocks.count, chunks)
    chunks = ceil_div(blocks.count, chunk_blocks)
    table = table_of(offsets)
    parts = len(remainders(problem, ndim - 1)) * (len(remainders(problem, ndim - 2)) if ndim > 1 else 1)
    strip = problem.in_channels * prod(problem.kernel_size[:-2]) * parts * plan.part
    raw = 0 if in_registers(problem) else (plan.line + lanes * item) * step
    plane = sizes.out_plane * item
    arguments = words(
        table, strips, plan.run, segments, plan.segment, plan.vectors, blocks.count, chunk_blocks, chunks, strides[0],
        strides[1], plane * problem.out_channels, plane, int(plan.joined), plan.line, plan.part, strip, *per_axis,
    )  # fmt: skip
    rows = f"{plan.run}{' joined' if plan.joined else ''} rows"
    reason = f"{items} strips of {rows} x {plan.segment} vectors, {blocks.count} blocks in {chunks} chunk(s)"
    scratch = ceil_div(strip + raw, 64) * 64
    return Schedule(arguments, (Phase("run0", items * chunks),), scratch, tables=(table,), reason=reason)


def _offsets(problem: Problem, plan: _Plan) -> list[int]:
    """How far from the strip's start each term's value lies, in bytes: by tap, then channel."""
    item = problem.numpy_dtype().itemsize
    planes = prod(problem.kernel_size[:-2])

    def places(axis: int) -> list[tuple[int, int]]:
        """Of each tap along an axis which part it reads, and where."""
        wanted = remainders(problem, axis)
        each = (divmod(tap * problem.dilation[axis], problem.stride[axis]) for tap in range(problem.kernel_size[axis]))
        return [(wanted.index(remainder), index) for index, remainder in each]

    last = problem.ndim - 1
    parts = len(remainders(problem, last))
    columns = [part * plan.part + index * item for part, index in places(last)]
    rows = [0]
    groups = 1
    if problem.ndim > 1:
        groups = len(remainders(problem, last - 1))
        rows = [part * parts * plan.part + index * plan.line for part, index in places(last - 1)]
    return [
        (channel * planes + plane) * groups * parts * plan.part + row + column
        for plane in range(planes)
        for row in rows
        for column in columns
        for channel in range(problem.in_channels)
    ]


ENDS = 0.85  # of the time that the same products take where each tap is a loop of its own, as in dense_planar
TILE_CYCLES = 60  # what a tile takes for each block besides its terms


@lru_cache(maxsize=256)
def _cycles(vectors: int, tile: Tile, channels: int, terms: float) -> float:
    """Half cycles (one product each) of one row."""
    full, rest = divmod(channels, tile.channels)
    tiles = ceil_div(vectors, tile.vectors)
    total = 0.0
    for number in range(tiles):
        count = vectors * (number + 1) // tiles - vectors * number // tiles
        for width, times in ((tile.channels, full), (rest, 1)):
            if width:
                total += times * (terms * max(count * width, count + width + 2) + 2 * TILE_CYCLES)
    return total


LATE = 1e-11  # seconds that the products wait for a byte of weights from beyond the L2


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: for each term a tile's products, or its loads where two at a time take longer; and copying the strip."""
    if 0 in sizes.out_size:
        return 0.0
    terms = prod(problem.kernel_size) * problem.in_channels * share_on_data(problem, sizes, problem.ndim - 1)
    rows = sizes.batch * prod(sizes.out_size[:-1])
    lanes, width = target.lanes(problem.dtype), sizes.out_size[-1]
    vectors = ceil_div(width, lanes)
    products = _cycles(vectors, tile, problem.out_channels, terms)
    if lanes <= width and rows > 1:
        together = (width + (problem.kernel_size[-1] - 1) * problem.dilation[-1] // problem.stride[-1]) / lanes
        each = _cycles(tile.vectors, tile, problem.out_channels, terms) / tile.vectors
        products = min(products, _joining(problem, tile) * together * each)
    copied = 6 * prod(problem.kernel_size[:-1]) * problem.in_channels * vectors * problem.stride[-1]
    copied *= 1 if in_registers(problem) else lanes
    weights = terms * problem.out_channels * problem.numpy_dtype().itemsize
    late = ceil_div(vectors, tile.vectors) * weights * LATE if weights > target.l2_bytes // 2 else 0.0
    return rows * (ENDS * products / target.vector_rate + copied / CLOCK + late) / threads


DENSE_NEAR_PLANAR = Algorithm("dense_near_planar", fits, variants, emit, pack, schedule, cost, rows_contiguous)
