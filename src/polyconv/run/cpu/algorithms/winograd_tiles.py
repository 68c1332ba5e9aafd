"""What Winograd's algorithm makes of a problem: tiles, points, transformed and packed weights, cost, error.

Shared by both layouts; ``winograd`` has the idea.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from polyconv.geometry import product
from polyconv.run.cpu.algorithms.blocks import Blocks, cut, taps_first
from polyconv.run.cpu.algorithms.cook_toom import ShortConvolution, short_convolution
from polyconv.run.cpu.algorithms.record import Sizes, aligned, ceil_div
from polyconv.run.cpu.algorithms.tiles import tile_counts
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Problem

ROWS = 14  # tiles held in registers by the matrix product, for two vectors of channels
SHORT = {3: (4, 2), 5: (2,), 7: (4,)}  # taps of an axis -> outputs of a tile, the usual one first
SHARED = 1.5  # how much longer reading V takes where other threads wrote part of it
SHARE_OF_L2 = 0.5  # for V of a block of tiles
FEWEST = 16  # channels of a group, in and out
TOGETHER = 64  # channels, at least, whose groups are transformed together: the addresses are worked out once for them
READING = 30e9  # bytes of U a second that a core reads from beyond its L2
PACKING = 1.7e-9  # seconds to transform a weight to one point, and put it in its place
WORTH = 10e-6  # seconds a call must save before exactness on integers is given up


class Tile(NamedTuple):
    """Outputs of a tile along each axis (0 for an axis whose taps are summed), vectors of channels in registers."""

    outputs: tuple[int, ...]
    vectors: int = 2


def obstacle(problem: Problem, target: Target) -> str | None:
    """Dense, stride 1, float32, and short kernels."""
    if problem.op != "conv":
        return f"it computes convolutions, not {problem.op}"
    if any(step != 1 for step in problem.stride):
        return f"its tiles overlap for stride 1 only, the stride is {problem.stride}"
    if problem.dtype != "float32":
        return "it rounds more than the definition does: for float64 exactness goes first"
    if min(problem.in_channels, problem.out_channels) // problem.groups < FEWEST:
        return "with so few channels a group, transforming costs more than it saves"
    if not any(taps in SHORT for taps in problem.kernel_size):
        return f"no axis of the kernel {problem.kernel_size} has {' or '.join(map(str, SHORT))} taps"
    if target.vector_registers < 32:
        return "the transforms need 32 vector registers"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """One: the last two short axes are transformed, a third one summed.

    Small tiles (``SHORT`` has them too) win for a few pictures just larger than a tile, by little: not enough to have
    another size of picture wait for more code to be made.
    """
    return tiles_of(problem)[:1]


def tiles_of(problem: Problem) -> list[Tile]:
    """All tiles that can be forced, the usual one first."""
    short = [axis for axis, taps in enumerate(problem.kernel_size) if taps in SHORT][-2:]
    if len(short) == 2 and any(problem.kernel_size[axis] == 7 for axis in short):
        short = short[-1:]
    found = []
    for size in (0, 1):
        outputs = [0] * problem.ndim
        for axis in short:
            choices = SHORT[problem.kernel_size[axis]]
            outputs[axis] = choices[min(size, len(choices) - 1)]
        found.append(Tile(tuple(outputs)))
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Shape:
    """What follows from a problem and a tile: the short convolutions, points, summed taps, channels and blocks."""

    problem: Problem
    tile: Tile
    lanes: int

    @cached_property
    def short(self) -> list[ShortConvolution | None]:
        """The short convolution along each axis; None for a summed one."""
        taps = self.problem.kernel_size
        return [short_convolution(m, r) if m else None for m, r in zip(self.tile.outputs, taps, strict=True)]

    @cached_property
    def transforms(self) -> list[Array]:
        """What transforms the weights along each short axis: [point][tap]."""
        return [np.array([[float(number) for number in row] for row in found.kernel]) for found in self.short if found]

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Points along each axis; 1 for a summed one."""
        return tuple(found.points if found else 1 for found in self.short)

    @cached_property
    def points(self) -> int:
        """Points of a tile: matrix products."""
        return product(self.grid)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of a tile along each axis."""
        return tuple(m or 1 for m in self.tile.outputs)

    @cached_property
    def summed(self) -> list[tuple[int, ...]]:
        """The taps of the summed axes, as tap numbers along every axis (0 along short ones)."""
        ranges = [range(1 if m else taps) for m, taps in zip(self.tile.outputs, self.problem.kernel_size, strict=True)]
        return list(itertools.product(*ranges))

    @cached_property
    def cluster(self) -> int:
        """Groups whose channels lie in V together; the clusters of a layer are worked on one after the other."""
        groups, channels = self.problem.groups, self.problem.in_channels // self.problem.groups
        divisors = [count for count in range(1, groups + 1) if groups % count == 0]
        return next((count for count in divisors if count * channels >= TOGETHER), groups)

    @cached_property
    def clusters(self) -> int:
        """How many; with more than one, every thread transforms what it multiplies."""
        return self.problem.groups // self.cluster

    @cached_property
    def channels(self) -> int:
        """Input channels of a cluster."""
        return self.problem.in_channels // self.clusters

    @cached_property
    def padded(self) -> int:
        """Input channels of a cluster rounded up to whole vectors."""
        return -(-self.channels // self.lanes) * self.lanes

    @cached_property
    def row(self) -> int:
        """Elements of V for one point of one tile."""
        return self.padded * len(self.summed)

    @cached_property
    def blocks(self) -> Blocks:
        """How a group's output channels are cut."""
        return cut(self.problem.out_channels // self.problem.groups, self.tile.vectors, self.lanes, 4)

    @cached_property
    def width(self) -> int:
        """The row of M: lanes of a block, in whole vectors."""
        most = max(sum(self.blocks.main) if self.blocks.full else 0, sum(self.blocks.tail))
        return -(-most // self.lanes) * self.lanes

    @cached_property
    def depth(self) -> int:
        """Terms of the matrix product: input channels of a group times summed taps."""
        return self.problem.in_channels // self.problem.groups * len(self.summed)


@lru_cache(maxsize=256)
def shape_of_tiles(problem: Problem, tile: Tile, target: Target) -> Shape:
    """The facts for a target's vectors."""
    return Shape(problem, tile, target.lanes(problem.dtype))


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, U[out block][point][summed tap][channel][lane], a row of zeros for padding; transformed in float64."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    shape = shape_of_tiles(problem, tile, target)
    blocks, groups, inputs, ndim = shape.blocks, problem.groups, problem.in_channels // problem.groups, problem.ndim
    taps = taps_first(problem, weight).reshape(groups, *problem.kernel_size, inputs, blocks.channels)
    order = sorted(range(ndim), key=lambda axis: shape.short[axis] is None)  # the transformed axes first
    taps = taps.transpose(0, *(1 + axis for axis in order), ndim + 1, ndim + 2)
    biases = groups * blocks.lanes
    size = biases + groups * shape.points * shape.depth * blocks.lanes
    packed = aligned(size + shape.padded, problem.numpy_dtype())
    packed[:biases] = 0
    packed[size:] = 0
    if bias is not None:
        packed[:biases].reshape(groups, blocks.lanes)[:, : blocks.channels] = bias.reshape(groups, blocks.channels)
    at, width = biases, sum(blocks.main)
    for group in range(groups):
        for block in range(blocks.count):
            lanes = width if block < blocks.full else sum(blocks.tail)
            mine = taps[group, ..., block * width : block * width + lanes]
            end = at + shape.points * shape.depth * lanes
            _transform(shape.transforms, mine, packed[at:end].reshape(shape.points, shape.depth, lanes))
            at = end
    return packed


def _transform(transforms: list[Array], taps: Array, out: Array) -> None:
    """One block's weights [tap]...[channel][lane], its leading axes transformed: a piece that stays in the cache."""
    used = taps.shape[-1]
    points: Array = np.ascontiguousarray(taps, np.float64)
    for axis, matrix in enumerate(transforms):
        front = product(points.shape[:axis])
        rest = points.reshape(front, points.shape[axis], -1)
        points = (matrix @ rest).reshape(*points.shape[:axis], matrix.shape[0], *points.shape[axis + 1 :])
    out[..., :used] = points.reshape(*out.shape[:2], used)
    out[..., used:] = 0


def blocking(shape: Shape, target: Target, tiles: int, threads: int, item: int) -> tuple[int, bool]:
    """Tiles of a block; and whether V stays in a thread's scratch (many tiles, or clusters) or is shared (few)."""
    one = shape.points * shape.row * item
    most = int(target.l2_bytes * SHARE_OF_L2) // one
    runs = max(1, min(4, most // ROWS))
    block = ROWS * runs
    if shape.clusters > 1:
        return min(block, tiles), True
    blocks = ceil_div(max(tiles, 1), block)
    if blocks >= threads:  # as many for each thread, of the same size
        block = ceil_div(tiles, ceil_div(blocks, threads) * threads)
    return min(block, tiles), tiles >= 2 * threads * block and most >= ROWS


def chunking(
    shape: Shape, target: Target, fused: bool, block: int, blocks: int, threads: int
) -> tuple[int, int, int, int]:
    """How many output blocks (or clusters, where there are several) an item takes, and the order of the items.

    Returns (chunk, chunks, block_step, chunk_step): the chunk's length, how many there are, and how many items apart
    neighbouring blocks of tiles and neighbouring chunks are. The outer of the two is what threads share out between
    them: tiles (each thread reads its own V, and U once for each of its blocks) or chunks (its own part of U, and all
    of V, for every chunk), whichever reads less.
    """
    count = shape.clusters if shape.clusters > 1 else shape.blocks.count * shape.problem.groups
    chunk = count if fused and shape.clusters == 1 else max(1, count // max(1, 4 * threads // blocks))
    chunks = ceil_div(count, chunk)
    item = shape.problem.numpy_dtype().itemsize
    u = shape.points * shape.depth * shape.blocks.lanes * shape.problem.groups * item
    v = blocks * block * shape.points * shape.row * shape.clusters * item
    by_tiles = u * blocks / threads + v / threads
    kept = u / chunks <= target.l2_bytes // 2
    by_chunks = u / threads * (1 if kept else blocks) + SHARED * v * chunks / threads
    tiles_outer = blocks >= threads and by_tiles < by_chunks
    return (chunk, chunks, chunks, 1) if tiles_outer else (chunk, chunks, 1, blocks)


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: products at nearly the machine's rate, transforms, and reading U once for each block of tiles.

    Made larger, so that the exact algorithms are kept where this one would save little.
    """
    shape = shape_of_tiles(problem, tile, target)
    item = problem.numpy_dtype().itemsize
    tiles = sizes.batch * product(tile_counts(shape.outputs, problem.dilation, sizes.out_size))
    vectors = shape.blocks.vectors * problem.groups
    rate = 0.94 * target.vector_rate
    products = tiles * shape.points * shape.depth * vectors / rate
    moved = tiles * shape.points * (shape.clusters * shape.row / shape.lanes * 4 + vectors * 3.5) / rate
    block, _ = blocking(shape, target, max(tiles, 1), max(threads, 2), item)
    u_bytes = shape.points * shape.depth * shape.blocks.lanes * problem.groups * item
    reading = u_bytes * -(-max(tiles, 1) // block) / READING
    return (1.15 * (max(products, reading) + moved) + WORTH) / threads


def packing(problem: Problem, tile: Tile, target: Target) -> float:
    """Seconds to transform the weights."""
    shape = shape_of_tiles(problem, tile, target)
    return PACKING * shape.points * shape.depth * shape.blocks.lanes * problem.groups


def grain(problem: Problem, tile: Tile, target: Target) -> int:
    """Rows of a tile, of all its interleaved pictures."""
    return (tile.outputs[0] or 1) * (problem.dilation[0] if tile.outputs[0] else 1)


def v_bytes_of(shape: Shape, tiles: int) -> int:
    """V for as many tiles, and the spare row that products of an odd number of rows read."""
    return (tiles * shape.points + 1) * shape.row * shape.problem.numpy_dtype().itemsize


def own_bytes(shape: Shape, block: int, fused: bool) -> int:
    """A thread's own M, with a spare row, and V the fused way."""
    m_bytes = (block * shape.points + 1) * shape.width * shape.problem.numpy_dtype().itemsize
    return m_bytes + (v_bytes_of(shape, block) if fused else 0)


def error_bound(problem: Problem, tile: Tile) -> float:
    """The largest error to expect, over 2^-24 times the largest sum of |weight| |x| of any output.

    Outputs of one tile share rounding errors, so that an output among larger ones has an error of their size.
    Each short axis multiplies the error by how much its transforms can amplify (F(2, 3): 2, F(4, 3): 8); the channels'
    sums add a little. On random data of 64 to 256 channels F(4x4, 3x3) reached 34 and F(2x2, 3x3) 2.9.
    """
    amplified = {(2, 3): 2.0, (4, 3): 8.0, (2, 5): 6.0, (4, 7): 12.0}
    found = [amplified[(m, r)] for m, r in zip(tile.outputs, problem.kernel_size, strict=True) if m]
    return 2 * float(np.prod(found)) + 4
