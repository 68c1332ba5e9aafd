"""Depthwise and few-channel grouped convolution: blocks of channels in the lanes, boxes of outputs as work items.

Output channels are cut into blocks of as many whole groups as fit one vector. One item computes a box of outputs for a
run of blocks, through the code of `polyconv.run.cpu.algorithms.sliding`. With channels last that code reads and writes
the arrays themselves, unless pixels lie so that they evict each other from the L1 cache: then a block's part of the
input is gathered in the thread's scratch first. With channels first a block's part of the input is turned around
(pixels as rows of channels) in the thread's scratch, vector by vector, computed there, and turned back: a few shuffles
for each vector, whatever the kernel, and never more than one block of one box at a time.

A transposed convolution is computed by output phase. Along each axis the outputs whose position has one remainder by
the stride share their taps, and read the input with stride 1; the kernel is packed with the taps of each remainder
together, in the order of the inputs they read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import gcd, prod
from typing import NamedTuple

import numpy as np

from polyconv.run.cpu.algorithms.blocks import taps_first
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Phase,
    Schedule,
    Sizes,
    aligned,
    allowance,
    ceil_div,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.sliding import COUNT, POINTERS, Slide, Tile, Window, job_names, row_gap
from polyconv.run.cpu.algorithms.turn import Turn
from polyconv.run.cpu.emit import Kernel, Value, join
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Problem

NAMES = (*FIXED_WORDS, "remainders: ptr", "batch_stride", "out_batch_stride", "channel_stride", "out_channel_stride",
         "block_runs", "run", "room")  # fmt: skip
AXIS_NAMES = ("size", "out_size", "before", "stride", "out_stride", "box", "boxes")
REMAINDER = (
    "first",
    "base",
    "taps",
    "tap",
)  # first output, input of its first tap, taps, the first's place in the pack


# ---- geometry ------------------------------------------------------------------------------------------------------
class Blocks:
    """``full`` blocks of ``per_block`` groups, each of so many inputs and outputs, then one of ``rest`` (or none)."""

    def __init__(
        self, inputs: int, outputs: int, per_block: int, full: int, rest: int, lanes: int, rest_lanes: int
    ) -> None:
        self.inputs, self.outputs, self.per_block, self.full, self.rest = inputs, outputs, per_block, full, rest
        self.lanes, self.rest_lanes = lanes, rest_lanes

    @property
    def count(self) -> int:
        """Blocks in all."""
        return self.full + bool(self.rest)

    @property
    def all_lanes(self) -> int:
        """Lanes in all, those without a channel included."""
        return self.full * self.lanes + self.rest_lanes


@lru_cache(maxsize=256)
def cut(problem: Problem, target: Target) -> Blocks:
    """The blocks of a problem. A group of more outputs than a vector has a block of several registers to itself."""
    groups, outputs = problem.groups, problem.out_channels // problem.groups
    lanes = max(target.lanes(problem.dtype), 1 << (outputs - 1).bit_length())
    narrowest = 4 if problem.dtype == "float32" else 2

    def round_up(channels: int) -> int:
        return max(narrowest, 1 << (channels - 1).bit_length()) if channels else 0

    per_block = lanes // outputs
    full, rest = divmod(groups, per_block)
    return Blocks(problem.in_channels // groups, outputs, per_block, full, rest, lanes, round_up(rest * outputs))


class Remainders(NamedTuple):
    """Along one axis: for each remainder its taps in the order of the inputs they read; and the steps between them."""

    taps: tuple[tuple[int, ...], ...]
    step: int  # of the input, between neighbouring outputs of one remainder
    dilation: int  # of the input, between neighbouring taps of one remainder


def remainders_of(problem: Problem, axis: int) -> Remainders:
    """A convolution has one remainder, with all taps."""
    kernel, stride, dilation = problem.kernel_size[axis], problem.stride[axis], problem.dilation[axis]
    if problem.op == "conv":
        return Remainders((tuple(range(kernel)),), stride, dilation)
    taps = tuple(
        tuple(tap for tap in reversed(range(kernel)) if tap * dilation % stride == remainder)
        for remainder in range(stride)
    )
    return Remainders(taps, 1, dilation // gcd(stride, dilation))


def remainder_table(problem: Problem, axis: int, before: int) -> list[list[int]]:
    """`REMAINDER` of each remainder, for this padding."""
    found = remainders_of(problem, axis)
    if problem.op == "conv":
        return [[0, -before, len(found.taps[0]), 0]]
    stride, dilation, rows, done = problem.stride[axis], problem.dilation[axis], [], 0
    for remainder, taps in enumerate(found.taps):
        first = (remainder - before) % stride
        base = (first + before - taps[0] * dilation) // stride if taps else 0
        rows.append([first, base, len(taps), done])
        done += len(taps)
    return rows


# ---- weights -------------------------------------------------------------------------------------------------------
def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias block by block, then for each block the weights as [tap][input][lane]."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    blocks = cut(problem, target)
    source = taps_first(problem, weight)  # group, tap, input, output
    _, taps, inputs, outputs = source.shape
    order = [[tap for taps in remainders_of(problem, axis).taps for tap in taps] for axis in range(problem.ndim)]
    numbers = np.arange(taps).reshape(problem.kernel_size)[np.ix_(*map(np.array, order))]
    source = source[:, numbers.ravel()]
    packed = aligned(blocks.all_lanes * (1 + taps * inputs), problem.numpy_dtype())
    packed[:] = 0
    biases = packed[: blocks.all_lanes]
    at = blocks.all_lanes
    for start, count, per_block, lanes in _runs(blocks):
        used = per_block * outputs
        mine = source[start : start + count * per_block].reshape(count, per_block, taps, inputs, outputs)
        size = count * taps * inputs * lanes
        place = packed[at : at + size].reshape(count, taps, inputs, lanes)
        place[..., :used] = mine.transpose(0, 2, 3, 1, 4).reshape(count, taps, inputs, used)
        if bias is not None:
            low = start // blocks.per_block * blocks.lanes
            mine = bias[start * outputs : (start + count * per_block) * outputs].reshape(count, used)
            biases[low : low + count * lanes].reshape(count, lanes)[:, :used] = mine
        at += size
    return packed


def _runs(blocks: Blocks) -> list[tuple[int, int, int, int]]:
    """First group, blocks, groups of a block, lanes: of the full blocks, and of the last one."""
    done = blocks.full * blocks.per_block
    both = [(0, blocks.full, blocks.per_block, blocks.lanes), (done, 1, blocks.rest, blocks.rest_lanes)]
    return [run for run in both if run[1] and run[2]]


# ---- code ----------------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: ``run0`` over items, and the functions it calls."""
    return _Module(problem, tile, target).write()


class _Module:
    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.problem, self.tile, self.target = problem, tile, target
        self.blocks = cut(problem, target)
        self.ndim = problem.ndim
        self.turned = problem.layout == "channels_first"
        self.staged = self.turned or tile.gathered
        self.axes = [remainders_of(problem, axis) for axis in range(self.ndim)]
        self.lengths = sorted({len(taps) for taps in self.axes[-1].taps})
        self.k = k = Kernel("run0", target, problem.dtype)
        axes = [f"{name}{axis}" for axis in range(self.ndim) for name in AXIS_NAMES]
        names = (*NAMES, *axes)
        self.w = {n.removesuffix(": ptr"): v for n, v in zip(names, k.words(*names), strict=True)}
        self.job = {name: k.word_at(k.scratch, place) for place, name in enumerate(job_names(self.ndim))}
        self.inner: list[Kernel] = []
        self.names = {}
        for kind, (_, _, per_block, lanes) in enumerate(_runs(self.blocks)):
            for length in self.lengths:
                self.names[kind, length] = self.slide(f"slide{kind}_{length}", per_block, lanes, length)

    @property
    def x_lanes(self) -> int:
        """Channels of a turned pixel, room included."""
        lanes = self.target.lanes(self.problem.dtype)
        return -(-self.blocks.per_block * self.blocks.inputs // lanes) * lanes

    def slide(self, name: str, per_block: int, lanes: int, length: int) -> str:
        """Write the inner function of one width of blocks and one number of taps."""
        problem, blocks = self.problem, self.blocks
        loaded, stored = per_block * blocks.inputs, per_block * blocks.outputs
        width = max(lanes, 1 << (loaded - 1).bit_length())
        spread = tuple(
            tuple(
                min(lane // blocks.outputs, per_block - 1) * blocks.inputs + number
                if blocks.inputs > 1 or blocks.outputs > 1 else lane
                for lane in range(lanes)
            )
            for number in range(blocks.inputs)
        )  # fmt: skip
        out_step = problem.stride[-1] if problem.op == "conv_transpose" else 1
        window = Window(
            kernel=(*problem.kernel_size[:-1], length),
            stride=tuple(axis.step for axis in self.axes),
            dilation=tuple(axis.dilation for axis in self.axes),
            lanes=lanes,
            loaded=width if self.staged and width <= self.x_lanes else loaded,
            stored=lanes if self.turned else stored,
            spread=spread,
            x_pitch=self.x_lanes if self.staged else problem.in_channels,
            out_pitch=(blocks.lanes if self.turned else problem.out_channels) * out_step,
            activation=problem.activation,
            several=None if self.staged else (loaded, stored, prod(problem.kernel_size) * blocks.inputs * lanes),
        )
        kernel = Kernel(name, self.target, problem.dtype)
        Slide(kernel, window, self.tile).write()
        self.inner.append(kernel)
        return name

    def write(self) -> str:
        k, w = self.k, self.w
        with k.loop(k.first, k.last) as item:
            # planes one after the other, so that threads do not share their lines; pixels with all their blocks
            rest, run = (item, item) if self.turned else (item // w["block_runs"], item % w["block_runs"])
            low: list[Value] = []
            for axis in reversed(range(self.ndim)):
                low.insert(0, (rest % w[f"boxes{axis}"]) * w[f"box{axis}"])
                rest = rest // w[f"boxes{axis}"]
            if self.turned:
                rest, run = rest // w["block_runs"], rest % w["block_runs"]
            high = [k.minimum(at + w[f"box{axis}"], w[f"out_size{axis}"]) for axis, at in enumerate(low)]
            x = k.at(w["x"], rest * w["batch_stride"])
            out = k.at(w["out"], rest * w["out_batch_stride"])
            start = run * w["run"]
            end = k.minimum(start + w["run"], self.blocks.count)
            if self.staged:
                with k.loop(start, end, nonempty=True) as block:
                    self.block(block, k.integer(1), x, out, low, high)
            elif self.blocks.full:
                whole = k.minimum(end, self.blocks.full) - start
                with k.when(whole > 0):
                    self.block(start, whole, x, out, low, high, 0)
            if not self.staged and self.blocks.rest:
                last = k.integer(self.blocks.full)
                with k.when(end > last):
                    self.block(last, k.integer(1), x, out, low, high, int(self.blocks.full > 0))
        return join([*self.inner, self.k])

    def block(
        self, block: Value, count: Value, x: Value, out: Value, low: list[Value], high: list[Value],
        only: int | None = None,
    ) -> None:  # fmt: skip
        """Some blocks of a box: where their channels are, then either width of block (or the ``only`` one)."""
        k, blocks = self.k, self.blocks
        k.store(count, self.job[COUNT])
        k.store(k.at(self.w["packed"], block * blocks.lanes), self.job["bias"])
        taps = prod(self.problem.kernel_size) * blocks.inputs
        weights = k.at(self.w["packed"], block * (blocks.lanes * taps) + blocks.all_lanes)
        kinds = range(len(_runs(blocks)))

        def write(kind: int) -> None:
            groups = _runs(blocks)[kind][2]
            first_in, first_out = (
                block * (blocks.per_block * blocks.inputs),
                block * (blocks.per_block * blocks.outputs),
            )
            if self.staged:
                self.staged_block(kind, groups, x, out, first_in, first_out, weights, low, high)
                return
            strides = [self.w[f"stride{axis}"] for axis in range(self.ndim)]
            out_strides = [self.w[f"out_stride{axis}"] for axis in range(self.ndim)]
            sizes = [self.w[f"size{axis}"] for axis in range(self.ndim)]
            self.remainders(
                kind, k.at(x, first_in), k.at(out, first_out), weights, low, high, sizes, strides, out_strides
            )

        if only is not None:
            write(only)
        elif len(kinds) == 2:
            k.choose(block < blocks.full, lambda: write(0), lambda: write(1))
        else:
            write(0)

    def remainders(
        self, kind: int, x: Value, out: Value, weights: Value, low: list[Value], high: list[Value],
        sizes: list[Value], strides: list[Value], out_strides: list[Value], axis: int = 0,
    ) -> None:  # fmt: skip
        """For each remainder of each axis: fill the job, and slide."""
        k, w, job, problem = self.k, self.w, self.job, self.problem
        later = prod(problem.kernel_size[axis + 1 :]) * self.blocks.inputs
        lanes = _runs(self.blocks)[kind][3]
        pitch = later * lanes
        before = sum(len(found.taps) for found in self.axes[:axis])
        out_step = problem.stride[axis] if problem.op == "conv_transpose" else 1
        k.store(sizes[axis], job[f"size{axis}"])
        k.store(k.integer(pitch), job[f"pitch{axis}"])
        k.store(strides[axis], job[f"x_stride{axis}"])
        k.store(out_strides[axis] * out_step, job[f"out_stride{axis}"])

        def one(number: Value | int) -> None:
            table = k.word_at(w["remainders"], k.integer(number) * len(REMAINDER) + before * len(REMAINDER))
            record = {name: k.load(k.word_at(table, place), "i64") for place, name in enumerate(REMAINDER)}
            starts = (low[axis] - record["first"], high[axis] - record["first"])
            edges = [(k.maximum(start, 0) + (out_step - 1)) // out_step for start in starts]
            for name, value in (
                ("low", edges[0]),
                ("high", edges[1]),
                ("base", record["base"]),
                ("taps", record["taps"]),
            ):
                k.store(value, job[f"{name}{axis}"])
            out_at = k.at(out, record["first"] * out_strides[axis])
            weights_at = k.at(weights, record["tap"] * pitch)
            if axis < self.ndim - 1:
                self.remainders(kind, x, out_at, weights_at, low, high, sizes, strides, out_strides, axis + 1)
                return
            for name, value in zip(POINTERS, (x, out_at, weights_at), strict=False):
                k.store(value, job[name])
            k.switch(record["taps"], self.lengths, lambda length: self.call(self.names[kind, length]))

        if len(self.axes[axis].taps) == 1:
            one(0)
        else:
            with k.loop(0, len(self.axes[axis].taps), nonempty=True) as number:
                one(number)

    def call(self, name: str) -> None:
        """Run an inner function on the job."""
        k = self.k
        k.do(f"call void @{name}(ptr {k.scratch.code}, i64 0, i64 0, ptr {k.scratch.code})")

    # ---- by way of scratch ---------------------------------------------------------------------------------------
    def staged_block(
        self, kind: int, groups: int, x: Value, out: Value, first_in: Value, first_out: Value, weights: Value,
        low: list[Value], high: list[Value],
    ) -> None:  # fmt: skip
        """One block of a box: its input gathered in scratch; with channels first its output as well."""
        k, w, blocks = self.k, self.w, self.blocks
        reach = [self.reach(axis, low[axis], high[axis]) for axis in range(self.ndim)]
        staged_in = k.byte_at(k.scratch, job_bytes(self.ndim))
        strides = [w[f"stride{axis}"] for axis in range(self.ndim)]
        sizes = [w[f"size{axis}"] for axis in range(self.ndim)]
        source = k.at(x, first_in * w["channel_stride"])
        copied = Turn(k, reach, self.x_lanes, groups * blocks.inputs)
        if self.turned:
            copied.read(source, staged_in, w["channel_stride"], strides, sizes)
        else:
            copied.gather(source, staged_in, strides, self.problem.in_channels)
        local = copied.pitches()
        origin = k.at(staged_in, k.integer(0) - copied.offset(local))
        ends = [end for _, end in reach]
        out_strides = [w[f"out_stride{axis}"] for axis in range(self.ndim)]
        sink = k.at(out, first_out * w["out_channel_stride"])
        if not self.turned:
            self.remainders(kind, origin, sink, weights, low, high, ends, local, out_strides)
            return
        staged_out = k.byte_at(staged_in, w["room"])
        result = Turn(k, list(zip(low, high, strict=True)), blocks.lanes, groups * blocks.outputs)
        local_out = result.pitches()
        origin_out = k.at(staged_out, k.integer(0) - result.offset(local_out))
        self.remainders(kind, origin, origin_out, weights, low, high, ends, local, local_out)
        out_sizes = [w[f"out_size{axis}"] for axis in range(self.ndim)]
        result.write(sink, staged_out, w["out_channel_stride"], out_strides, out_sizes)

    def reach(self, axis: int, low: Value, high: Value) -> tuple[Value, Value]:
        """The input positions that outputs low .. high - 1 read, within the input."""
        k, problem = self.k, self.problem
        stride, span = problem.stride[axis], (problem.kernel_size[axis] - 1) * problem.dilation[axis]
        size, before = self.w[f"size{axis}"], self.w[f"before{axis}"]
        if problem.op == "conv":
            start, stop = low * stride - before, (high - 1) * stride - before + (span + 1)
        else:
            start = (k.maximum(low + before - span, 0) + (stride - 1)) // stride
            stop = (k.maximum(high + before + (stride - 1), 0)) // stride
        start = k.minimum(k.maximum(start, 0), size)
        return start, k.maximum(k.minimum(stop, size), start)


@lru_cache(maxsize=8)
def job_bytes(ndim: int) -> int:
    """Room for a job, in whole cache lines."""
    return -(-8 * len(job_names(ndim)) // 64) * 64


# ---- run-time sizes ------------------------------------------------------------------------------------------------
LEAST_ITEM = 10_000  # multiply-adds of vectors below which an item is not cut further


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Boxes, block runs and remainders of one shape."""
    blocks, ndim, turned = cut(problem, target), problem.ndim, problem.layout == "channels_first"
    spatial = sizes.x_strides[2:] if turned else sizes.x_strides[1:-1]
    out_strides = _out_strides(problem, sizes.out_size)
    box, run = boxes(problem, tile, target, sizes, threads)
    counts = [-(-size // part) for size, part in zip(sizes.out_size, box, strict=True)]
    runs = -(-blocks.count // run)
    table = table_of(
        word for axis in range(ndim) for row in remainder_table(problem, axis, sizes.padding[axis][0]) for word in row
    )
    room_in, room_out = _room(problem, tile, target, box, sizes)
    axes: list[int] = []
    for axis in range(ndim):
        axes += [sizes.in_size[axis], sizes.out_size[axis], sizes.padding[axis][0], spatial[axis]]
        axes += [out_strides[axis], box[axis], counts[axis]]
    plane = sizes.out_plane
    arguments = words(
        table, sizes.x_strides[0], plane * problem.out_channels, sizes.x_strides[1] if turned else 1,
        plane if turned else 1, runs, run, room_in, *axes,
    )  # fmt: skip
    items = sizes.batch * prod(counts) * runs
    parts = "x".join(map(str, box))
    how = "turned around in scratch" if turned else "gathered in scratch" if room_in else "read in place"
    reason = f"boxes of {parts} outputs x {run} of {blocks.count} blocks of channels, {how}"
    return Schedule(
        arguments, (Phase("run0", items),), job_bytes(ndim) + room_in + room_out, tables=(table,), reason=reason
    )


def _out_strides(problem: Problem, out_size: tuple[int, ...]) -> list[int]:
    """Strides of the output's spatial axes, in elements."""
    unit = problem.out_channels if problem.layout == "channels_last" else 1
    return [unit * prod(out_size[axis + 1 :]) for axis in range(len(out_size))]


def _room(problem: Problem, tile: Tile, target: Target, box: Sequence[int], sizes: Sizes) -> tuple[int, int]:
    """Bytes of an input box and an output box in scratch.

    Turning writes whole vectors of positions, and reads whole ones back. What is written beyond the input lies where
    the output will be.
    """
    if not tile.gathered and problem.layout == "channels_last":
        return 0, 0
    blocks, item = cut(problem, target), problem.numpy_dtype().itemsize
    lanes = target.lanes(problem.dtype)
    x_lanes, reach = -(-blocks.per_block * blocks.inputs // lanes) * lanes, _reach(problem, box, sizes)
    if problem.layout == "channels_last":
        return reach * x_lanes * item, 0
    beyond = max(-box[-1] % lanes, -prod(box) % lanes)
    room_in, room_out = reach * x_lanes * item, (prod(box) + beyond) * blocks.lanes * item
    return room_in, max(room_out, lanes * x_lanes * item)


def _reach(problem: Problem, box: Sequence[int], sizes: Sizes) -> int:
    """Input positions that a box of outputs reads, at most."""
    reach = 1
    for axis, length in enumerate(box):
        span = (problem.kernel_size[axis] - 1) * problem.dilation[axis]
        stride = problem.stride[axis]
        seen = (length - 1) * stride + span + 1 if problem.op == "conv" else (length + span) // stride + 2
        reach *= min(seen, max(sizes.in_size[axis], 1))
    return reach


TURN = 6  # cycles to turn a vector around, of inputs or of outputs
BOX = 100  # cycles for each box of a block


def turning_cycles(problem: Problem, tile: Tile, target: Target, sizes: Sizes) -> float:
    """Cycles of one thread to turn inputs, as often as boxes read them, and outputs around (channels first, or 0)."""
    if problem.layout == "channels_last" or not sizes.positions:
        return 0.0
    blocks, lanes = cut(problem, target), target.lanes(problem.dtype)
    box, _ = boxes(problem, tile, target, sizes, 2)
    many = sizes.batch * prod(-(-size // part) for size, part in zip(sizes.out_size, box, strict=True))
    inputs = many * _reach(problem, box, sizes) * -(-blocks.per_block * blocks.inputs // lanes)
    return blocks.count * (TURN * (inputs + sizes.positions * (blocks.lanes // lanes)) + BOX * many)


@lru_cache(maxsize=256)
def boxes(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> tuple[tuple[int, ...], int]:
    """The box of an item and its number of blocks: enough items for the threads, each within the caches."""
    blocks, staged = cut(problem, target), problem.layout == "channels_first" or tile.gathered
    work = _taps(problem) * blocks.inputs  # multiply-adds of an output vector
    box, run = list(sizes.out_size), 1 if staged else blocks.count
    wanted = sizes.positions * blocks.count * work // (12 * threads) if threads > 1 else 1 << 60
    most_work = max(LEAST_ITEM, min(wanted, 1 << 18))
    item, allowed = problem.itemsize, allowance(problem, sizes) // threads
    most_bytes = min(target.l2_bytes // 4, max(target.l1_bytes, allowed))

    def staging() -> int:
        return sum(_room(problem, tile, target, box, sizes))

    def too_big() -> bool:
        return (staging() if staged else prod(box) * problem.out_channels * item) > most_bytes

    grain = [1] * (problem.ndim - 1) + [tile.pixels * 4]
    gap = _row_gap(problem, tile)
    if problem.ndim > 1:
        grain[-2] = max(tile.rows, 1) * gap
    if problem.ndim > 2 and not staged:  # a narrow column, so that what neighbouring planes share stays in L1
        box[-2:] = [min(box[-2], 4), min(box[-1], tile.pixels)]
    if problem.ndim == 2 and not staged:  # as above, for neighbouring rows, of as many blocks as the L1 holds
        width = min(box[-1], tile.pixels)
        columns = (width - 1) * problem.stride[-1] + (problem.kernel_size[-1] - 1) * problem.dilation[-1] + 1
        window = problem.kernel_size[-2] * columns * target.vector_bytes * blocks.inputs
        if not tile.rows and window <= target.l1_bytes // 2:
            box[-1], run = width, min(run, target.l1_bytes // 2 // window)
        elif cache_sets(problem) <= 2 * FEW_SETS:
            box[-1] = width
    for axis in range(problem.ndim):
        while box[axis] > grain[axis] and (prod(box) * run * work > most_work or too_big()):
            half = -(-box[axis] // 2)
            box[axis] = min(-(-half // grain[axis]) * grain[axis], box[axis] - 1)
    if staged:
        _shrink(box, [*(1,) * (problem.ndim - 1), tile.pixels], lambda: staging() > allowed - job_bytes(problem.ndim))
    while run > 1 and prod(box) * run * work > most_work:
        run = -(-run // 2)
    if threads > 1 and problem.ndim > 1 and box[0] < sizes.out_size[0]:
        others = sizes.batch * prod(-(-size // part) for size, part in zip(sizes.out_size[1:], box[1:], strict=True))
        together = tile.rows if problem.ndim == 2 else 1
        box[0] = _even_rows(sizes.out_size[0], box[0], others * -(-blocks.count // run), threads, together, gap)
    return tuple(box), run


def _shrink(box: list[int], least: Sequence[int], too_big: Callable[[], bool]) -> None:
    """Halve a box until it is no longer too big, the axis that leaves most first; not below ``least``."""
    while too_big():
        axis = max(range(len(box)), key=lambda axis: box[axis] / least[axis])
        if box[axis] <= least[axis]:
            return
        box[axis] = max(ceil_div(box[axis], 2), least[axis])


TRIED = 12  # numbers of rows
ALONE = 0.7  # the time of a row by itself, in that of two rows computed together


def _row_gap(problem: Problem, tile: Tile) -> int:
    """See `row_gap`: of a box that is a tile's rows at least."""
    if problem.ndim < 2:
        return 1
    axis = remainders_of(problem, problem.ndim - 2)
    return row_gap(problem.kernel_size[-2], axis.step, axis.dilation, tile.rows)


def _even_rows(count: int, most: int, others: int, threads: int, together: int, gap: int = 1) -> int:
    """The rows of an item, as many as ``most`` or few less, with which the threads are done first.

    Each stretch of rows has ``others`` items. Of 14 rows in items of 4, computed two at a time, the first of two
    threads has 8; in items of 2, of which there are two side by side, it has 7.
    """

    def last_done(length: int) -> float:
        if together < 2:
            return ceil_div(ceil_div(count, length) * others, threads) * length
        rest = length % (2 * gap)  # of which those beyond a gap have a partner
        pairs, single = length // (2 * gap) * gap + max(rest - gap, 0), min(rest, 2 * gap - rest)
        each = pairs + ALONE * single
        return ceil_div(ceil_div(count, length) * others, threads) * each

    tried = {length: last_done(length) for length in range(most, max(most - TRIED, 0), -1)}
    best = min(tried.values())
    return next(length for length, done in tried.items() if done <= 1.05 * best)


L1_PERIOD = 4096  # bytes after which addresses share a set of the L1 cache
FEW_SETS = 4
FEW_TAPS = 12


def cache_sets(problem: Problem) -> int:
    """Into how many sets of the L1 cache the pixels of one block of channels fall (channels last)."""
    return L1_PERIOD // gcd(problem.in_channels * problem.numpy_dtype().itemsize, L1_PERIOD)


def either_way(problem: Problem, tile: Tile) -> list[Tile]:
    """The tile and, where it may pay to gather a block's input in scratch first, the tile that does (channels last).

    Pixels a multiple of 1 KiB apart fall into four sets of the L1 cache or fewer: not even the columns of one tile stay
    there. Gathering pays where they are read often enough (large kernels of several rows) and come from near.
    """
    if problem.layout == "channels_first" or cache_sets(problem) > FEW_SETS:
        return [tile]
    if prod(problem.kernel_size) <= FEW_TAPS or prod(problem.kernel_size[:-1]) == 1:
        return [tile]
    return [tile, tile._replace(gathered=True)]


MISSED = 1.2  # cycles that a load takes longer where pixels push each other out of the L1 cache
NEAR, FAR = 6.0, 25.0  # cycles to gather a vector from the L2, and from further away: one of few lines of its page


def placing_cycles(problem: Problem, tile: Tile, target: Target, sizes: Sizes) -> float:
    """Cycles of one thread that input in few sets of the L1 costs: copied first, or missed by each load (or 0)."""
    if len(either_way(problem, tile)) == 1:
        return 0.0
    vectors = cut(problem, target).all_lanes / target.lanes(problem.dtype)
    inputs = sizes.batch * prod(sizes.in_size) * problem.in_channels
    if tile.gathered:
        moved = (inputs + sizes.positions * problem.out_channels) * problem.numpy_dtype().itemsize
        again = problem.kernel_size[0] ** 0.5 if problem.ndim > 2 else 1.0  # boxes share planes
        return inputs / target.lanes(problem.dtype) * again * (NEAR if moved <= target.l2_bytes else FAR)
    rows = max(tile.rows, 1)
    columns = ((tile.pixels - 1) * problem.stride[-1] + problem.kernel_size[-1]) / tile.pixels
    lines = prod(problem.kernel_size[:-2]) * ((rows - 1) * problem.stride[-2] + problem.kernel_size[-2]) / rows
    return sizes.positions * vectors * columns * lines * MISSED


@lru_cache(maxsize=256)
def _taps(problem: Problem) -> int:
    """Taps of an output, at most."""
    return prod(max(len(taps) for taps in remainders_of(problem, axis).taps) for axis in range(problem.ndim))
