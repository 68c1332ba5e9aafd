"""Convolution with few output channels, channels_last: input channels in the lanes, one dot product an output.

With one to six output channels, lanes of output channels would stay empty. Here a tile is P positions times all output
channels of a group, each with a vector of partial sums over the input channels; the lanes of all of them are added up
together at the end, as a tree. Pixels are found through the same list of pointers as in ``dense``.

Every output is a tree over lanes, lane l holding the terms of input channels l, l + lanes, … of every tap in order (and
the bias in lane 0): the same bits whatever the tile or thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import dense
from polyconv.run.cpu.algorithms.blocks import taps_first
from polyconv.run.cpu.algorithms.dense import DenseKernel, Tile
from polyconv.run.cpu.algorithms.gather import GROUP, MOST_POSITIONS, NUMBER
from polyconv.run.cpu.algorithms.record import Algorithm, Schedule, Sizes, aligned, pixels_contiguous
from polyconv.run.cpu.algorithms.regions import share_on_data
from polyconv.run.cpu.emit import Kernel, Value, Var, lanes_of
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Array, Problem

MOST_CHANNELS = 6


def fits(problem: Problem, target: Target) -> str | None:
    """Few output channels of many input channels."""
    reason = dense.fits(problem, target)
    if reason is not None:
        return reason
    if problem.out_channels // problem.groups > MOST_CHANNELS:
        return f"it takes at most {MOST_CHANNELS} output channels a group"
    if problem.in_channels // problem.groups < target.lanes(problem.dtype) // 2:
        return f"{problem.in_channels // problem.groups} input channels a group do not fill a vector"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """As many positions as the registers hold; ``vectors`` counts output channels."""
    channels = problem.out_channels // problem.groups
    room = (target.vector_registers - 2 - channels) // channels
    return [Tile(max(1, min(MOST_POSITIONS, room)), channels)]


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, then weights as [group][output channel][tap][input channel], then a row of zeros."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    source = taps_first(problem, weight).transpose(0, 3, 1, 2)
    packed = aligned(problem.out_channels + source.size + problem.in_channels, problem.numpy_dtype())
    packed[: problem.out_channels] = 0 if bias is None else bias
    packed[problem.out_channels :][: source.size].reshape(source.shape)[:] = source
    packed[problem.out_channels + source.size :] = 0
    return packed


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function, items as in ``dense``; a block is a group."""
    return _DotKernel(problem, tile, target).write()


class _DotKernel(DenseKernel):
    def apart(self) -> None:
        """Not used: a pixel is read a vector at a time."""

    def zeros_at(self, depth: Value) -> Value:
        return depth * self.problem.out_channels + self.problem.out_channels

    def multiply(self, block: Value, count: Value, active: Value) -> None:
        self.k.switch(count, range(1, self.tile.positions + 1), lambda n: self.body(block, n, active))

    def body(self, group: Value, positions: int, active: Value) -> None:
        """The code for this many positions."""
        k, w, channels = self.k, self.w, self.tile.vectors
        whole, rest = divmod(self.problem.in_channels // self.problem.groups, k.lanes)
        first = group * channels
        starts = [k.load_vector(k.at(w["packed"], first + c), count=1) for c in range(channels)]
        sums = [[k.var(start) for start in starts] for _ in range(positions)]
        flat = [total for row in sums for total in row]
        weights = k.at(w["packed"], first * w["depth"] + self.problem.out_channels)
        with k.loop(0, active, carry=flat) as tap:
            row = k.word_at(self.gather.rows, tap * GROUP)
            pixels = [k.at(k.load(k.word_at(row, p), "ptr"), group * w["channels"]) for p in range(positions)]
            spot = k.at(weights, k.load(k.word_at(row, NUMBER), "i64") * w["channels"])
            rows = [k.at(spot, w["depth"] * c) for c in range(channels)]

            def step(at: Value | int, some: int) -> None:
                vectors = [k.load_vector(k.at(row_at, at), count=some) for row_at in rows]
                for pixel, totals in zip(pixels, sums, strict=True):
                    x = k.load_vector(k.at(pixel, at), count=some)
                    for vector, total in zip(vectors, totals, strict=True):
                        total.value = k.fma(x, vector, total.value)

            if whole:
                with k.loop(0, whole * k.lanes, k.lanes, carry=flat, nonempty=True) as c:
                    step(c, k.lanes)
            if rest:
                step(whole * k.lanes, rest)
        self.put(first, sums)

    def put(self, first: Value, sums: list[list[Var]]) -> None:
        """Add up the lanes of all sums, activate, and store each."""
        k = self.k
        flat = [total.value for row in sums for total in row]
        channels = self.tile.vectors
        for low in range(0, len(flat), k.lanes):
            some = flat[low : low + k.lanes]
            values = activate(k, self.problem.activation, sums_of_lanes(k, some))
            for lane in range(len(some)):
                position, channel = divmod(low + lane, channels)
                out = k.load(k.word_at(self.gather.outs, position), "ptr")
                k.store(k.extract(values, lane), k.at(k.at(out, first), channel))


def sums_of_lanes(k: Kernel, vectors: Sequence[Value]) -> Value:
    """One vector whose lane i is the sum of the lanes of vector i: pairs are folded into one, step by step."""
    lanes = lanes_of(vectors[0].type)
    current = [*vectors, *[k.zero(lanes)] * (lanes - len(vectors))]
    width = lanes  # lanes that still belong to one sum
    while width > 1:
        half = width // 2
        low = [block + lane for block in range(0, lanes, width) for lane in range(half)]
        high = [lane + half for lane in low]
        pairs = len(current) // 2
        lower, upper = [*low, *(lane + lanes for lane in low)], [*high, *(lane + lanes for lane in high)]
        current = [
            k.shuffle(a, b, lower) + k.shuffle(a, b, upper)
            for a, b in zip(current[:pairs], current[pairs:], strict=True)
        ]
        width = half
    return k.shuffle(current[0], current[0], _order(lanes))


def _order(lanes: int) -> list[int]:
    """Which lane of the folded vector holds the sum of vector i (found by folding the numbers themselves)."""
    current = [[number] * lanes for number in range(lanes)]
    width = lanes
    while width > 1:
        half = width // 2
        low = [block + lane for block in range(0, lanes, width) for lane in range(half)]
        pairs = len(current) // 2
        current = [
            [*(a[lane] for lane in low), *(b[lane] for lane in low)]
            for a, b in zip(current[:pairs], current[pairs:], strict=True)
        ]
        width = half
    return [current[0].index(number) for number in range(lanes)]


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """As ``dense``, a group being a block, and every tap by itself."""
    return dense.schedule(problem, tile, target, sizes, threads, blocks=problem.groups, runs=False)


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Multiply-adds or loads, whichever are more; and adding up the lanes."""
    channels = problem.out_channels // problem.groups
    taps = prod(problem.kernel_size) / (prod(problem.stride) if problem.op == "conv_transpose" else 1)
    vectors = -(-(problem.in_channels // problem.groups) // target.lanes(problem.dtype))
    each = taps * vectors * max(channels, 1 + channels / tile.positions) * share_on_data(problem, sizes)
    return sizes.positions * problem.groups * (each + 5 * channels + 8) / CLOCK / threads


DENSE_DOT = Algorithm("dense_dot", fits, variants, emit, pack, schedule, cost, reads=pixels_contiguous)
