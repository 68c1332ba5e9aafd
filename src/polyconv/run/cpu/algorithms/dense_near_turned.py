"""Dense convolution of few input channels and long sums, channels_first: ``dense_near`` from a strip turned to pixels.

Positions in the lanes (``dense_near_planar``) leave lanes idle at the end of a row, and a strip sorted by remainders is
read at addresses that no cache line starts at. Where a sum has hundreds of terms it costs little, beside them, to turn
its block around on its way to the planes. So each item copies the input that some rows of outputs read to scratch,
pixel by pixel with the channels side by side and zeros for the padding of rows; the products are those of
``dense_near``, in tiles of one row's positions times some vectors of output channels, and no tile meets a border along
the row. Taps that fall on padding along the outer axes are left out.

Every output is bias + the sum over taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import LONG_SUM, dense, dense_near, dense_planar
from polyconv.run.cpu.algorithms.dense import Tile, blocks_of, pack
from polyconv.run.cpu.algorithms.dense_near import NearKernel, Row, geometry, places_in_row, row_tiles
from polyconv.run.cpu.algorithms.dense_planar import WOVEN, woven
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
from polyconv.run.cpu.algorithms.terms import taps_on_data, valid_terms
from polyconv.run.cpu.emit import Value, Var, lanes_of
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

STRIP = 8  # a strip takes up to this part of the L2, all strips a quarter of the arrays; but a row at least
NAMES = (
    *FIXED_WORDS, "offsets: ptr", "tiles: ptr", "row_tiles", "strips", "run", "blocks", "chunk_blocks", "chunks",
    "batch_stride", "channel_stride", "out_batch_stride", "plane", "line", "lines",
)  # fmt: skip
AXIS_NAMES = dense_near.AXIS_NAMES


def fits(problem: Problem, target: Target) -> str | None:
    """Few input channels, long sums, one group, rows."""
    if problem.op != "conv":
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    if problem.groups > 1:
        return f"it reads all channels of a pixel, but there are {problem.groups} groups"
    if problem.ndim == 1:
        return "it copies rows of a plane, but the problem has one axis"
    if problem.in_channels > WOVEN:
        return f"{problem.in_channels} input channels are more than {WOVEN}"
    if dense.channels_in_sum(problem) < LONG_SUM:
        return f"a sum's terms are fewer than {LONG_SUM}: to turn its block around takes too much beside them"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As for ``dense_planar``."""
    return dense_planar.variants(problem, target)


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items are (picture, row of the other outer axes, strip, chunk of blocks)."""
    return _StripKernel(problem, tile, target).write()


class _StripKernel(NearKernel):
    """Writes the kernel."""

    names = NAMES
    out: Value  # of the tile's first position, channel 0
    count: Value  # positions of the tile
    block: Value

    def write(self) -> str:
        """The module's text."""
        k, w = self.k, self.w
        last = k.var(k.integer(-1))
        with k.loop(k.first, k.last, carry=[last]) as item:
            number = item // w["chunks"]
            low = (item % w["chunks"]) * w["chunk_blocks"]
            self.strip(number, number.ne(last.value), low, k.minimum(low + w["chunk_blocks"], w["blocks"]))
            last.value = number
        return k.module()

    def strip(self, number: Value, is_new: Value, low: Value, high: Value) -> None:
        """Some blocks of the strip with this number."""
        k, w, problem = self.k, self.w, self.problem
        last = problem.ndim - 1
        first, rest = (number % w["strips"]) * w["run"], number // w["strips"]
        rows = k.minimum(w[f"grid{last - 1}"] - first, w["run"])
        source, at, size = w["x"], first * w[f"grid{last}"], w[f"grid{last}"]
        outer: list[tuple[Value, Value]] = []
        for axis in reversed(range(last - 1)):
            size = size * w[f"grid{axis + 1}"]
            place, rest = rest % w[f"grid{axis}"], rest // w[f"grid{axis}"]
            origin = place * problem.stride[axis] - w[f"before{axis}"]
            outer.insert(0, self.taps(axis, origin))
            source, at = k.byte_at(source, origin * w[f"stride{axis}"]), at + place * size
        source = k.byte_at(source, rest * w["batch_stride"])
        out = k.at(k.byte_at(w["out"], rest * w["out_batch_stride"]), at)
        with k.when(is_new):
            self.fill_strip(source, outer[0] if outer else (k.integer(0), k.integer(1)), first, rows)
        with k.loop(0, rows, nonempty=True) as row:
            origin = (first + row) * problem.stride[last - 1] - w[f"before{last - 1}"]
            valid = valid_terms(k, problem, self.geometry.row_terms, [*outer, self.taps(last - 1, origin)])
            pixels = k.byte_at(self.patch, row * problem.stride[last - 1] * w["line"])
            line = Row(pixels, k.at(out, row * w[f"grid{last}"]), valid)
            with k.loop(0, w["row_tiles"]) as place:
                entry = k.load(k.word_at(w["tiles"], place), "i64")
                self.either_size(line, entry >> 8, entry & 255, low, high)

    def taps(self, axis: int, origin: Value) -> tuple[Value, Value]:
        """The first tap along an axis that is on data, and how many are."""
        problem = self.problem
        size = self.w[f"size{axis}"]
        return taps_on_data(self.k, origin, size, problem.dilation[axis], problem.kernel_size[axis])

    def fill_strip(self, source: Value, planes: tuple[Value, Value], first: Value, rows: Value) -> None:
        """Copy the lines of a strip that lie in the picture, plane of the kernel by plane."""
        k, w, problem = self.k, self.w, self.problem
        axis = problem.ndim - 2
        step, reach = problem.stride[axis], (problem.kernel_size[axis] - 1) * problem.dilation[axis] + 1
        top = first * step - w[f"before{axis}"]
        with k.loop(planes[0], planes[0] + planes[1]) as plane:
            start = source
            if axis > 0:
                start = k.byte_at(source, plane * problem.dilation[0] * w["stride0"])
            with k.loop(0, (rows - 1) * step + reach, nonempty=True) as line:
                place = top + line
                with k.when(place.below(w[f"size{axis}"])):
                    here = k.byte_at(start, place * w[f"stride{axis}"])
                    self.fill_line(here, k.byte_at(self.patch, (plane * w["lines"] + line) * w["line"]))

    def fill_line(self, source: Value, sink: Value) -> None:
        """One line, its channels woven, with zeros around it."""
        k, w, problem = self.k, self.w, self.problem
        last, lanes, channels = problem.ndim - 1, k.lanes, problem.in_channels
        before = w[f"before{last}"]
        base, low = k.at(source, k.integer(0) - before), k.maximum(before, 0)
        data = k.maximum(w[f"size{last}"] + before - low, 0)
        with k.loop(0, w["line"] // (k.bytes * channels), lanes, nonempty=True) as at:
            mask = (k.indices(lanes) + (at - low)).below(k.broadcast(data, lanes))
            pixels = [
                k.load_vector(k.byte_at(k.at(base, at), w["channel_stride"] * channel), mask=mask)
                for channel in range(channels)
            ]
            for number, values in enumerate(woven(k, pixels)):
                k.store_vector(values, k.at(sink, at * channels + number * lanes))

    def tile_of(self, row: Row, position: Value, count: Value, size: int, low: Value, high: Value) -> None:
        """One tile, block by block."""
        k, blocks = self.k, self.blocks
        base = k.at(row.source, position * self.geometry.step)
        self.out, self.count = k.at(row.out, position), count

        def multiply(block: Value, is_tail: bool) -> None:
            self.block = block
            lanes = blocks.tail if is_tail else blocks.main
            self.sums(row, base, self.w["offsets"], self.out, block, lanes, size, is_tail)

        if blocks.full:
            with k.loop(low, k.minimum(high, blocks.full)) as block:
                multiply(block, False)
        if blocks.tail:
            with k.when(high > blocks.full):
                multiply(k.integer(blocks.full), True)

    def put(self, totals: list[list[Var]], sink: Value, starts: list[int], counts: list[int]) -> None:
        """Activate, turn around and store: a vector of neighbouring positions for each channel's plane."""
        k, plane = self.k, self.w["plane"]
        first = k.byte_at(self.out, self.block * sum(self.blocks.main) * plane)
        for v, (start, used) in enumerate(zip(starts, counts, strict=True)):
            values = [activate(k, self.problem.activation, sums[v].value) for sums in totals]
            lanes = lanes_of(values[0].type)
            for low in range(0, len(totals), lanes):
                rows = [values[min(low + p, len(values) - 1)] for p in range(lanes)]
                mask = k.mask(self.count - low, lanes)
                for channel, turned in enumerate(k.transpose(rows)[:used]):
                    spot = k.at(k.byte_at(first, plane * (start + channel)), low)
                    k.store_vector(turned, spot, mask=mask)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Strips, tiles and offsets of one shape."""
    item, lanes, channels = problem.itemsize, target.lanes(problem.dtype), problem.in_channels
    facts, blocks = geometry(problem, tile, target), blocks_of(problem, tile, target)
    width, height = sizes.out_size[-1], sizes.out_size[-2]
    above, planes = sizes.batch * prod(sizes.out_size[:-2]), prod(problem.kernel_size[:-2])
    reach = [
        (kernel - 1) * apart for kernel, apart in zip(problem.kernel_size[-2:], problem.dilation[-2:], strict=True)
    ]
    pixels = (max(width, facts.sizes[-1]) - 1) * problem.stride[-1] + reach[1] + 1
    line = ceil_div(pixels, lanes) * lanes * channels * item
    most = min(target.l2_bytes // STRIP, allowance(problem, sizes) // threads)
    fit = max(1, (most // (planes * line) - reach[0] - 1) // problem.stride[-2] + 1)
    run = min(max(1, share(height * above, threads, 4)), max(1, height), fit)
    run = ceil_div(height, ceil_div(height, run)) if height else 1
    lines = (run - 1) * problem.stride[-2] + reach[0] + 1
    strips = ceil_div(height, run)
    tiles = row_tiles(width, facts.sizes)
    items = above * strips
    chunks = min(blocks.count, ceil_div(2 * threads, max(items, 1))) if threads > 1 and items < 2 * threads else 1
    chunk_blocks = ceil_div(blocks.count, chunks)
    chunks = ceil_div(blocks.count, chunk_blocks)
    offsets = [
        (plane * lines + row * problem.dilation[-2]) * line + place
        for plane in range(planes)
        for row in range(problem.kernel_size[-2])
        for place in places_in_row(problem, facts.follow)
    ]
    strides = [stride * item for stride in sizes.x_strides]
    per_axis: list[int] = []
    for axis in range(problem.ndim):
        per_axis += [sizes.in_size[axis], sizes.out_size[axis], sizes.padding[axis][0], strides[axis + 2]]
    tables, plane = (table_of(offsets), table_of(tiles)), sizes.out_plane * item
    arguments = words(
        *tables, len(tiles), strips, run, blocks.count, chunk_blocks, chunks, strides[0], strides[1],
        plane * problem.out_channels, plane, line, lines, *per_axis,
    )  # fmt: skip
    reason = f"{items} strips of {run} rows of {len(tiles)} tiles, {blocks.count} blocks in {chunks} chunk(s)"
    # a row narrower than a tile is computed as if it went on
    scratch = ceil_div(planes * lines * line + facts.sizes[0] * facts.step * item, 64) * 64
    return Schedule(arguments, (Phase("run0", items * chunks),), scratch, tables=tables, reason=reason)


IN_STRIPS = 0.88  # of the time that the same products take in place, where tiles meet borders
# cycles to turn a vector of sums around and put it down; where the planes share sets of the L1
TURNING, TURNING_APART = 3.0, 24.0
LATE = 5.5e-11  # seconds that a tile waits for a byte of weights from beyond the L2, shared by its positions
COPYING = 6.0  # cycles to copy a vector of the input


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: the products of ``dense_near``, turning sums around, and copying the strip."""
    if 0 in sizes.out_size:
        return 0.0
    products = dense_near.cost(problem, tile, target, sizes, 1)
    rows, lanes = sizes.batch * prod(sizes.out_size[:-1]), target.lanes(problem.dtype)
    sums = sizes.positions * blocks_of(problem, tile, target).lanes / lanes
    width = ceil_div(sizes.out_size[-1] * problem.stride[-1], lanes)
    copied = rows * prod(problem.kernel_size[:-2]) * 2 * problem.stride[-2] * problem.in_channels * width
    weights = dense.channels_in_sum(problem) * problem.out_channels * problem.itemsize
    if weights > target.l2_bytes // 2:
        tiles = len(row_tiles(sizes.out_size[-1], geometry(problem, tile, target).sizes))
        products += rows * tiles * weights * LATE * tiles / sizes.out_size[-1]
    turning = TURNING_APART if sizes.out_plane * problem.itemsize % dense_planar.SAME_SET == 0 else TURNING
    return (IN_STRIPS * products + (turning * sums + COPYING * copied) / CLOCK) / threads


DENSE_NEAR_TURNED = Algorithm("dense_near_turned", fits, variants, emit, pack, schedule, cost, rows_contiguous)
