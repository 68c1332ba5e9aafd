"""Depthwise convolution with small kernels, channels first: positions of a row in the lanes.

A tile is R output rows times V vectors of neighbouring outputs of one plane, in registers, as are the kernel's weights,
one spread over each vector. Every input row is read once for each tap, at that tap's shift, and used by every output
row that needs it. Where the stride is not 1, the vectors read are shuffled together. Tiles that touch a border read
under masks made once for a whole column of tiles, and leave out rows on padding.

Every output is bias + the sum over the kernel's positions in ascending order: the same bits whatever the tile, border
or thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    aligned,
    rows_contiguous,
    words,
)
from polyconv.run.cpu.algorithms.regions import share_on_data
from polyconv.run.cpu.algorithms.sliding import ceil_steps
from polyconv.run.cpu.algorithms.turn import every
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Array, Problem

NAMES = (*FIXED_WORDS, "batch_stride", "out_batch_stride", "channel_stride", "out_channel_stride", "runs", "run")
AXIS_NAMES = ("size", "out_size", "before", "stride", "out_stride", "box", "boxes")
MOST_TAPS = 81  # of the last two axes, each of which is written out
MOST_STRIDE = 4  # along the row
LEAST_ITEM = 2000  # multiply-adds of vectors below which an item is not cut further


class Tile(NamedTuple):
    """Output rows, and vectors of each."""

    rows: int
    vectors: int


def fits(problem: Problem, target: Target) -> str | None:
    """Channels first, one input channel a group, a small kernel."""
    if problem.op != "conv" or problem.groups != problem.in_channels:
        return "it computes convolutions with one input channel a group"
    if problem.layout != "channels_first":
        return "it reads rows of one channel (channels_first)"
    if prod(problem.kernel_size[-2:]) > MOST_TAPS:
        return f"it takes at most {MOST_TAPS} kernel positions along the last two axes, not {problem.kernel_size[-2:]}"
    if problem.stride[-1] > MOST_STRIDE:
        return f"it takes a stride along the row of at most {MOST_STRIDE}, not {problem.stride[-1]}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """Eight accumulators (four where there are few registers)."""
    most = 8 if target.vector_registers >= 32 else 4
    if problem.ndim == 1:
        return [Tile(1, most // 2)]
    return [Tile(most, 1)]


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, then the weights as they are."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    packed = aligned(problem.out_channels + weight.size, problem.numpy_dtype())
    packed[: problem.out_channels] = 0 if bias is None else bias
    packed[problem.out_channels :] = weight.ravel()
    return packed


# ---- code ----------------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function over items (picture, box of outputs, run of output channels)."""
    return _Planes(problem, tile, target).module()


class _Column(NamedTuple):
    """A column of tiles: its first output, masks of what is read (None: all of it) and written."""

    place: Value
    reads: dict[int, Value] | None
    writes: list[Value] | None


class _Planes:
    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.problem, self.tile, self.ndim = problem, tile, problem.ndim
        self.k = k = Kernel("run0", target, problem.dtype)
        axes = [f"{name}{axis}" for axis in range(self.ndim) for name in AXIS_NAMES]
        names = (*NAMES, *axes)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, k.words(*names), strict=True)}
        self.taps = problem.kernel_size[-1]
        self.height = problem.kernel_size[-2] if self.ndim > 1 else 1

    def module(self) -> str:
        k, w = self.k, self.w
        with k.loop(k.first, k.last) as item:
            rest, run = item // w["runs"], item % w["runs"]
            low: list[Value] = []
            for axis in reversed(range(self.ndim)):
                low.insert(0, (rest % w[f"boxes{axis}"]) * w[f"box{axis}"])
                rest = rest // w[f"boxes{axis}"]
            high = [k.minimum(at + w[f"box{axis}"], w[f"out_size{axis}"]) for axis, at in enumerate(low)]
            first = run * w["run"]
            with k.loop(first, k.minimum(first + w["run"], self.problem.out_channels)) as channel:
                source = channel // (self.problem.out_channels // self.problem.in_channels)
                x = k.at(w["x"], rest * w["batch_stride"] + source * w["channel_stride"])
                out = k.at(w["out"], rest * w["out_batch_stride"] + channel * w["out_channel_stride"])
                self.plane(channel, x, out, low, high)
        return k.module()

    def plane(self, channel: Value, x: Value, out: Value, low: list[Value], high: list[Value]) -> None:
        """One plane's box: columns of tiles."""
        k, w, problem, last = self.k, self.w, self.problem, self.ndim - 1
        bias = k.broadcast(k.load(k.at(w["packed"], channel)))
        weights = k.at(w["packed"], channel * prod(problem.kernel_size) + problem.out_channels)
        width = self.tile.vectors * k.lanes
        reads = sorted(
            {at for v, tap in product(range(self.tile.vectors), range(self.taps)) for at in self.pieces(v, tap)}
        )
        with k.loop(low[last], high[last], width) as place:
            column = place * problem.stride[last] - w[f"before{last}"]
            inside = (
                (column >= 0) & (column + (reads[-1] + k.lanes) <= w[f"size{last}"]) & (place + width <= high[last])
            )

            def whole(place: Value = place, column: Value = column) -> None:
                self.outer(_Column(place, None, None), k.at(x, column), k.at(out, place), weights, bias, low, high)

            def cut(place: Value = place, column: Value = column) -> None:
                masks = {at: self.within(column + at, w[f"size{last}"]) for at in reads}
                writes = [k.mask(high[last] - place - v * k.lanes) for v in range(self.tile.vectors)]
                self.outer(_Column(place, masks, writes), k.at(x, column), k.at(out, place), weights, bias, low, high)

            k.choose(inside, whole, cut)

    def within(self, first: Value, size: Value) -> Value:
        """Which of the positions from ``first`` on lie in 0 .. size - 1."""
        k = self.k
        positions = k.indices(k.lanes) + k.broadcast(first, k.lanes)
        return positions.below(k.broadcast(size, k.lanes))

    def pieces(self, vector: int, tap: int) -> list[int]:
        """Where the vectors start that hold the inputs of an output vector at a tap."""
        stride, reach = self.problem.stride[-1], tap * self.problem.dilation[-1]
        start = vector * self.k.lanes * stride + reach - reach % stride
        return [start + piece * self.k.lanes for piece in range(stride)]

    def outer(
        self, column: _Column, x: Value, out: Value, weights: Value, bias: Value, low: list[Value], high: list[Value],
        outer: tuple[_Range, ...] = (),
    ) -> None:  # fmt: skip
        """Loop over the outputs of the axes before the rows, then over groups of rows."""
        k, w, axis = self.k, self.w, len(outer)
        if self.ndim == 1:
            self.group(column, x, out, weights, bias, outer, k.integer(0), k.integer(1))
            return
        if axis == self.ndim - 2:
            with k.loop(low[axis], high[axis], self.tile.rows) as row:
                count = k.minimum(k.integer(self.tile.rows), high[axis] - row)
                first = row * self.problem.stride[axis] - w[f"before{axis}"]
                sink = k.at(out, row * w[f"out_stride{axis}"])
                self.group(column, x, sink, weights, bias, outer, first, count)
            return
        with k.loop(low[axis], high[axis]) as place:
            first = place * self.problem.stride[axis] - w[f"before{axis}"]
            dilation = self.problem.dilation[axis]
            start = ceil_steps(k, k.integer(0) - first, dilation)
            stop = k.minimum(ceil_steps(k, w[f"size{axis}"] - first, dilation), self.problem.kernel_size[axis])
            sink = k.at(out, place * w[f"out_stride{axis}"])
            self.outer(column, x, sink, weights, bias, low, high, (*outer, _Range(axis, first, start, stop)))

    def group(
        self, column: _Column, x: Value, out: Value, weights: Value, bias: Value, outer: tuple[_Range, ...],
        first: Value, count: Value,
    ) -> None:  # fmt: skip
        """A group of rows: without tests where it lies inside, else with a test for each input row."""
        k = self.k
        if column.reads is None and self.ndim > 1:
            axis = self.ndim - 2
            reach = (self.tile.rows - 1) * self.problem.stride[axis] + (self.height - 1) * self.problem.dilation[axis]
            inside = (first >= 0) & (first + reach < self.w[f"size{axis}"]) & (count >= self.tile.rows)
            k.choose(
                inside,
                lambda: self.tile_of_rows(column, x, out, weights, bias, outer, first, None),
                lambda: self.tile_of_rows(column, x, out, weights, bias, outer, first, count),
            )
            return
        self.tile_of_rows(column, x, out, weights, bias, outer, first, None if self.ndim == 1 else count)

    def tile_of_rows(
        self, column: _Column, x: Value, out: Value, weights: Value, bias: Value, outer: tuple[_Range, ...],
        first: Value, count: Value | None,
    ) -> None:  # fmt: skip
        """Sum, activate and store a tile; ``count`` rows of it exist (None: all, and no input row is on padding)."""
        k = self.k
        sums = [[k.var(bias) for _ in range(self.tile.vectors)] for _ in range(self.tile.rows)]
        flat = [total for line in sums for total in line]

        def add(x: Value, weights: Value) -> None:
            self.rows(column, x, weights, sums, first, count)

        self.over(outer, x, weights, flat, add)
        for number, line in enumerate(sums):

            def store(number: int = number, line: list[Var] = line) -> None:
                sink = k.at(out, self.w[f"out_stride{self.ndim - 2}"] * number) if number else out
                for v, total in enumerate(line):
                    value = activate(k, self.problem.activation, total.value, apart=())
                    mask = column.writes[v] if column.writes else None
                    k.store_vector(value, k.at(sink, v * k.lanes), mask=mask)

            if count is None or not number:
                store()
            else:
                with k.when(count > number):
                    store()

    def over(
        self, outer: Sequence[_Range], x: Value, weights: Value, sums: list[Var], write: Callable[[Value, Value], None]
    ) -> None:
        """Nested loops over the kernel's outer positions that meet data."""
        if not outer:
            write(x, weights)
            return
        k, found = self.k, outer[0]
        pitch = prod(self.problem.kernel_size[found.axis + 1 :])
        with k.loop(found.low, found.high, carry=sums) as tap:
            position = found.first + tap * self.problem.dilation[found.axis]
            at = k.at(x, position * self.w[f"stride{found.axis}"])
            self.over(outer[1:], at, k.at(weights, tap * pitch), sums, write)

    def rows(
        self, column: _Column, x: Value, weights: Value, sums: list[list[Var]], first: Value, count: Value | None
    ) -> None:
        """The input rows of the tile, for one outer position of the kernel."""
        k, axis = self.k, self.ndim - 2
        spread = [k.broadcast(k.load(k.at(weights, tap))) for tap in range(self.height * self.taps)]
        stride, dilation = (self.problem.stride[axis], self.problem.dilation[axis]) if self.ndim > 1 else (1, 1)
        users: dict[int, list[tuple[int, int]]] = {}
        for line, row in product(range(self.tile.rows), range(self.height)):
            users.setdefault(line * stride + row * dilation, []).append((line, row))
        for reach in sorted(users):

            def use(reach: int = reach) -> None:
                at = x if self.ndim == 1 else k.at(x, (first + reach) * self.w[f"stride{axis}"])
                known: dict[int, Value] = {}
                for tap, v in product(range(self.taps), range(self.tile.vectors)):
                    value = self.read(column, at, v, tap, known)
                    for line, row in users[reach]:
                        total = sums[line][v]
                        total.value = k.fma(value, spread[row * self.taps + tap], total.value)

            if count is None:
                use()
            else:
                touched = [total for line, _ in users[reach] for total in sums[line]]
                with k.when((first + reach).below(self.w[f"size{axis}"]), carry=touched):
                    use()

    def read(self, column: _Column, x: Value, vector: int, tap: int, known: dict[int, Value]) -> Value:
        """The inputs of one output vector at one tap; vectors already read are taken from ``known``."""
        k, stride = self.k, self.problem.stride[-1]
        for at in self.pieces(vector, tap):
            if at not in known:
                known[at] = k.load_vector(k.at(x, at), mask=column.reads[at] if column.reads else None)
        pieces = [known[at] for at in self.pieces(vector, tap)]
        return every(k, pieces, tap * self.problem.dilation[-1] % stride, stride)


class _Range(NamedTuple):
    """Taps low .. high - 1 of an axis meet data; tap 0 would read position ``first``."""

    axis: int
    first: Value
    low: Value
    high: Value


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Boxes of outputs and runs of channels."""
    ndim, lanes = problem.ndim, target.lanes(problem.dtype)
    work = prod(problem.kernel_size) / lanes
    wanted = sizes.positions * problem.out_channels * work / (12 * threads) if threads > 1 else 1e18
    most = max(LEAST_ITEM, min(wanted, 1 << 17))
    box, run = list(sizes.out_size), problem.out_channels
    while run > 1 and prod(box) * run * work > most:
        run = (run + 1) // 2
    grain = [1] * ndim
    grain[-1] = 64 * lanes if ndim == 1 else 1 << 62
    if ndim > 1:
        grain[-2] = tile.rows
    for axis in range(ndim):
        while box[axis] > grain[axis] and prod(box) * run * work > most:
            box[axis] = min(-(-((box[axis] + 1) // 2) // grain[axis]) * grain[axis], box[axis] - 1)
    boxes = [-(-size // part) for size, part in zip(sizes.out_size, box, strict=True)]
    runs = -(-problem.out_channels // run)
    axes: list[int] = []
    for axis in range(ndim):
        axes += [sizes.in_size[axis], sizes.out_size[axis], sizes.padding[axis][0], sizes.x_strides[2 + axis]]
        axes += [prod(sizes.out_size[axis + 1 :]), box[axis], boxes[axis]]
    plane = sizes.out_plane
    arguments = words(sizes.x_strides[0], plane * problem.out_channels, sizes.x_strides[1], plane, runs, run, *axes)
    reason = f"boxes of {'x'.join(map(str, box))} outputs x {run} of {problem.out_channels} channels, read in place"
    return Schedule(arguments, (Phase("run0", sizes.batch * prod(boxes) * runs),), 0, reason=reason)


# cycles: a product; reading a row at one tap, for each vector that this takes (with a stride and its shuffles); a
# product whose weight finds no register; the masks of a column of tiles
PRODUCT, READ, READ_APART, WEIGHT, COLUMN = 0.65, 1.0, 1.2, 0.45, 25.0
HELD = 24  # weights in registers
PRODUCT_SLOW = 1.15  # where a core starts one product a cycle, and reads hide behind it


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: for each row of outputs its products of whole vectors and its share of the tile's shifted reads."""
    taps, stride = prod(problem.kernel_size), problem.stride[-1]
    planes = sizes.batch * problem.out_channels * prod(sizes.out_size[:-2])
    columns = planes * -(-sizes.out_size[-1] // (tile.vectors * target.lanes(problem.dtype)))
    height = sizes.out_size[-2] if problem.ndim > 1 else 1
    each = taps * PRODUCT_SLOW
    if not target.slow_vectors:
        rows = min(tile.rows, height) or 1
        down = ((rows - 1) * problem.stride[-2] + problem.kernel_size[-2]) / rows if problem.ndim > 1 else 1
        reads = down * taps / (problem.kernel_size[-2] if problem.ndim > 1 else 1)
        each = taps * PRODUCT + reads * (READ if stride == 1 else READ_APART * stride)
        each += max(taps / prod(problem.kernel_size[:-2]) - HELD, 0) * WEIGHT
    each *= share_on_data(problem, sizes, problem.ndim - 1)
    return columns * (height * tile.vectors * each + COLUMN) / CLOCK / threads


PLANES = Algorithm("planes", fits, variants, emit, pack, schedule, cost, rows_contiguous)
