"""What the Fourier algorithm makes of a problem: tiles, frequencies, transformed weights, cost, error.

``fourier`` has the idea.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from polyconv.geometry import product
from polyconv.run.cpu.algorithms.blocks import taps_first
from polyconv.run.cpu.algorithms.fft_code import STRAIGHT, half_turns, operations, turns
from polyconv.run.cpu.algorithms.record import Sizes, aligned, ceil_div
from polyconv.run.cpu.algorithms.tiles import tile_counts
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Problem

LENGTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # of a tile along an axis
MOST_POINTS = 4096  # of a tile: one vector of channels of it stays in the L2 cache
FEWEST_TAPS = 5  # along some axis: below, Winograd's tiles are as good
MIDDLING = {1: (3000,), 2: (56, 56), 3: (16, 28, 28)}  # the picture that one tile for all pictures is chosen for
WORKSPACE = 12 << 20  # bytes for the transforms of inputs and outputs; more tiles go in several rounds
MOST_GROWTH = 16  # transformed weights over weights, at most
FEW_WEIGHTS = 16 << 20  # bytes of transformed weights that a cache may still hold
PACKING = 5e-9  # seconds to transform weights, for each number that is packed
WORTH = 20e-6  # seconds a call must save before exactness on integers is given up


class Tile(NamedTuple):
    """The length of the transform along each axis; 1 for an axis of one tap."""

    lengths: tuple[int, ...]


def depthwise(problem: Problem) -> bool:
    """Has every channel a kernel of its own, and one output."""
    return problem.groups == problem.in_channels == problem.out_channels > 1


def obstacle(problem: Problem, target: Target) -> str | None:
    """Not depthwise, and what `common_obstacle` asks."""
    if problem.op == "conv" and depthwise(problem):
        return "its products are sums over channels, and here each channel has a kernel of its own"
    return common_obstacle(problem, target)


def common_obstacle(problem: Problem, target: Target) -> str | None:
    """Stride 1, float32, and long kernels."""
    if problem.op != "conv":
        return f"it computes convolutions, not {problem.op}"
    if any(step != 1 for step in problem.stride):
        return f"its tiles overlap for stride 1 only, the stride is {problem.stride}"
    if problem.dtype != "float32":
        return "it rounds more than the definition does: for float64 exactness goes first"
    if max(problem.kernel_size) < FEWEST_TAPS:
        return f"no axis of the kernel {problem.kernel_size} has {FEWEST_TAPS} taps or more"
    if not tiles_of(problem, target):
        return f"a tile that holds the kernel {problem.kernel_size} has more than {MOST_POINTS} points"
    if problem.layout == "channels_last":
        return None
    if problem.kernel_size[-1] == 1:
        return "along the last axis there is nothing to transform, and planes are read in rows (channels_first)"
    if problem.dilation[-1] > 1:
        return f"planes are read in rows, and the dilation {problem.dilation} puts a tile's columns apart"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """One, the best for a middling picture: another size of picture must not wait for more code."""
    return tiles_of(problem, target)[:1]


@lru_cache(maxsize=256)
def tiles_of(problem: Problem, target: Target) -> tuple[Tile, ...]:
    """The tiles that may be forced, the best for a middling picture first."""
    seconds = cost_depthwise if depthwise(problem) else cost
    choices = [
        [n for n in LENGTHS if taps < n <= max(8 * taps, 8)] if taps > 1 else [1] for taps in problem.kernel_size
    ]  # fmt: skip
    out_size = MIDDLING.get(problem.ndim, (8,) * problem.ndim)
    sizes = Sizes(1, out_size, ((0, 0),) * problem.ndim, out_size, (0,) * (problem.ndim + 2))
    found = []
    for lengths in itertools.product(*choices):
        growth = product(lengths) / product(problem.kernel_size)
        if product(lengths) <= MOST_POINTS and growth <= MOST_GROWTH:
            tile = Tile(lengths)
            found.append((seconds(problem, tile, target, sizes, 1), tile))
    return tuple(tile for _, tile in sorted(found, key=lambda pair: (pair[0], pair[1].lengths)))


class Shape:
    """What follows from a problem and a tile: frequencies, channels, blocks, and the places of things in memory."""

    def __init__(self, problem: Problem, tile: Tile, lanes: int) -> None:
        self.problem, self.tile, self.lanes = problem, tile, lanes

    @cached_property
    def moved(self) -> list[int]:
        """The axes that are transformed; the last of them from real numbers."""
        return [axis for axis, length in enumerate(self.tile.lengths) if length > 1]

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of a tile along each axis: those that no wrapping reaches."""
        return tuple(n - taps + 1 for n, taps in zip(self.tile.lengths, self.problem.kernel_size, strict=True))

    @cached_property
    def half(self) -> int:
        """Complex numbers of a transformed row."""
        return self.tile.lengths[self.moved[-1]] // 2

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Lengths of the transformed axes but the last."""
        return tuple(self.tile.lengths[axis] for axis in self.moved[:-1])

    @cached_property
    def out_rows(self) -> tuple[int, ...]:
        """Outputs along the transformed axes but the last."""
        return tuple(self.outputs[axis] for axis in self.moved[:-1])

    @cached_property
    def frequencies(self) -> int:
        """Complex numbers of a transformed tile: matrix products."""
        return product(self.rows) * self.half

    @cached_property
    def padded(self) -> int:
        """Input channels rounded up to whole vectors."""
        return ceil_div(self.problem.in_channels, self.lanes) * self.lanes

    @cached_property
    def groups(self) -> int:
        """Groups of channels whose blocks are their own; the channels of a depthwise problem lie side by side."""
        return 1 if depthwise(self.problem) else self.problem.groups

    @cached_property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.problem.out_channels // self.groups

    @cached_property
    def group_blocks(self) -> int:
        """Vectors of output channels of a group."""
        return ceil_div(self.group_outputs, self.lanes)

    @cached_property
    def blocks(self) -> int:
        """Vectors of output channels in all."""
        return self.group_blocks * self.groups

    @cached_property
    def depth(self) -> int:
        """Input channels of a sum."""
        return self.problem.in_channels // self.problem.groups

    @cached_property
    def weights_at(self) -> int:
        """Where the transformed weights start in the packed array; before them is the bias."""
        return self.blocks * self.lanes

    @cached_property
    def zeros_at(self) -> int:
        """Where the row of zeros starts in the packed array."""
        return self.weights_at + self.frequencies * self.blocks * self.depth * 2 * self.lanes

    @cached_property
    def length(self) -> int:
        """Real numbers of a row."""
        return 2 * self.half

    @cached_property
    def tables(self) -> dict[str, Array]:
        """Angles that long transforms read from the packed array: of each complex length, and of rows."""
        long = sorted({count for count in (*self.rows, self.half) if count > STRAIGHT})
        found = {str(count): turns(count) for count in long}
        return found | ({"row": half_turns(self.length)} if self.half > STRAIGHT else {})

    def table_at(self, name: str) -> int:
        """Where a table starts in the packed array, behind the row of zeros."""
        names = list(self.tables)
        return self.zeros_at + self.lanes + sum(self.tables[n].size for n in names[: names.index(name)])

    @cached_property
    def packed_size(self) -> int:
        """Elements of the packed array."""
        return self.zeros_at + self.lanes + sum(table.size for table in self.tables.values())

    # -- scratch, in elements: rows of complex numbers, room for a long transform, a row of real ones, a vector of trash
    @cached_property
    def pitch(self) -> int:
        """A row of complex numbers, and a vector more, because else rows would share few sets of the cache."""
        return (2 * self.half + 1) * self.lanes

    @cached_property
    def room_at(self) -> int:
        """Room for a long transform."""
        return product(self.rows) * self.pitch if self.rows else 0

    @cached_property
    def row_at(self) -> int:
        """A row of real numbers, for long ones."""
        return (
            self.room_at
            + max((2 * count for count in (*self.rows, self.half) if count > STRAIGHT), default=0) * self.lanes
        )

    @cached_property
    def trash_at(self) -> int:
        """A vector that is written for nothing."""
        return self.row_at + (ceil_div(self.length, self.lanes) * self.lanes**2 if self.half > STRAIGHT else 0)

    def transform_work(self, channels: int) -> float:
        """Vector instructions of transforming one tile of this many channels, and of nothing else."""
        lengths = [self.tile.lengths[axis] for axis in self.moved]
        points = product(lengths)
        work = (operations(self.half) + 9 * self.half) * points / lengths[-1]
        for length in lengths[:-1]:
            work += (operations(length) + 4 * length) * points / 2 / length
        if self.problem.layout == "channels_first":
            work += 6 * points
        return work * ceil_div(channels, self.lanes)


@lru_cache(maxsize=256)
def shape_of_tile(problem: Problem, tile: Tile, target: Target) -> Shape:
    """The facts for a target's vectors."""
    return Shape(problem, tile, target.lanes(problem.dtype))


def transformed(shape: Shape, kernel: Array) -> Array:
    """Weights at every frequency, scaled so that outputs come out right: complex, in double precision.

    ``kernel`` is [group][taps of each axis][input][output]; the result is [group][frequency][input][output].
    """
    problem, lengths = shape.problem, shape.tile.lengths
    found = kernel
    for axis, taps in enumerate(problem.kernel_size):
        if axis not in shape.moved:
            continue
        length, last = lengths[axis], axis == shape.moved[-1]
        frequency = 2 * np.arange(length // 2) + 0.5 if last else np.arange(length)
        # the conjugate: a correlation; an axis of real numbers comes back half its length times too large
        matrix = np.exp(2j * np.pi / length * np.outer(frequency, np.arange(taps))) / len(frequency)
        found = np.moveaxis(np.tensordot(matrix, found, ([1], [1 + axis])), 0, 1 + axis)
    return found.reshape(len(kernel), shape.frequencies, *kernel.shape[-2:])


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, U[frequency][block][channel][real, imaginary][lane], a vector of zeros, tables; transformed in float64."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    shape = shape_of_tile(problem, tile, target)
    groups, outputs = problem.groups, problem.out_channels // problem.groups
    packed = aligned(shape.packed_size, problem.numpy_dtype())
    packed[: shape.weights_at] = 0
    packed[shape.zeros_at : shape.zeros_at + shape.lanes] = 0
    for name, table in shape.tables.items():
        packed[shape.table_at(name) :][: table.size] = table.ravel()
    if bias is not None:
        biases = packed[: shape.weights_at].reshape(groups, shape.group_blocks * shape.lanes)
        biases[:, :outputs] = bias.reshape(groups, outputs)
    u = packed[shape.weights_at : shape.zeros_at]
    u = u.reshape(shape.frequencies, groups, shape.group_blocks, shape.depth, 2, shape.lanes)
    taps = taps_first(problem, weight).reshape(groups, *problem.kernel_size, shape.depth, outputs)
    for block in range(shape.group_blocks):  # one at a time: in double precision all of them would take much memory
        low, high = block * shape.lanes, min((block + 1) * shape.lanes, outputs)
        part = transformed(shape, taps[..., low:high]).swapaxes(0, 1)
        u[:, :, block, :, 0, : high - low] = part.real
        u[:, :, block, :, 1, : high - low] = part.imag
        u[:, :, block, :, :, high - low :] = 0
    return packed


def tile_bytes(shape: Shape) -> int:
    """Of one tile's transforms, of inputs and outputs."""
    return shape.frequencies * 2 * (shape.padded + shape.blocks * shape.lanes) * 4


def rounds_of(shape: Shape, tiles: int) -> tuple[int, int]:
    """Tiles of a round (an even number), and rounds."""
    most = max(16, WORKSPACE // tile_bytes(shape))
    rounds = ceil_div(tiles, most)
    one = ceil_div(tiles, rounds)
    return one + one % 2, ceil_div(tiles, one + one % 2)


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: products, transforms, and moving weights and transforms through the caches.

    The exact algorithms' models count the machine's full rate, so they are kept where this one would save little.
    """
    shape = shape_of_tile(problem, tile, target)
    tiles = max(1, sizes.batch * product(tile_counts(shape.outputs, problem.dilation, sizes.out_size)))
    _, rounds = rounds_of(shape, tiles)
    products = tiles * shape.frequencies * 4 * shape.depth * shape.blocks / (0.94 * target.vector_rate)
    weights = 4 * 2 * shape.frequencies * shape.depth * shape.blocks * shape.lanes
    if not sizes.far and weights <= min(FEW_WEIGHTS, target.l3_bytes // 2):  # read beside the products
        products = max(products, rounds * weights / (60e9 if weights <= 2 * target.l2_bytes else 25e9))
    else:
        products += rounds * weights / 12e9
    transforms = tiles * shape.transform_work(problem.in_channels + problem.out_channels) / target.vector_rate
    moved = 2 * tiles * tile_bytes(shape) / 20e9
    return (products + transforms + moved + WORTH) / threads


def pack_depthwise(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, U[block][frequency][real, imaginary][lane], a vector of zeros, tables."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    shape = shape_of_tile(problem, tile, target)
    packed = aligned(shape.packed_size, problem.numpy_dtype())
    packed[:] = 0
    if bias is not None:
        packed[: problem.out_channels] = bias
    for name, table in shape.tables.items():
        packed[shape.table_at(name) :][: table.size] = table.ravel()
    u = packed[shape.weights_at : shape.zeros_at].reshape(shape.blocks, shape.frequencies, 2, shape.lanes)
    taps = weight.reshape(1, problem.out_channels, 1, *problem.kernel_size)
    taps = np.moveaxis(taps, (1, 2), (-1, -2))
    for block in range(shape.blocks):
        part = transformed(shape, taps[..., block * shape.lanes : (block + 1) * shape.lanes])[0, :, 0]
        u[block, :, 0, : part.shape[-1]] = part.real
        u[block, :, 1, : part.shape[-1]] = part.imag
    return packed


def cost_depthwise(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: transforms there and back, products, and reading the transformed weights for every tile."""
    shape = shape_of_tile(problem, tile, target)
    tiles = max(1, sizes.batch * product(tile_counts(shape.outputs, problem.dilation, sizes.out_size)))
    work = shape.transform_work(2 * problem.in_channels) + 6 * shape.frequencies * shape.blocks
    weights = 4 * 2 * shape.frequencies * shape.blocks * shape.lanes
    rate = target.vector_rate if target.vector_registers >= 32 else target.vector_rate / 2
    return (1.15 * tiles * (work / rate + weights / 20e9) + WORTH) / threads


def packing(problem: Problem, tile: Tile, target: Target) -> float:
    """Seconds to transform the weights."""
    return PACKING * shape_of_tile(problem, tile, target).packed_size


def error_bound(problem: Problem, tile: Tile) -> float:
    """The largest error to expect, over 2^-24 times a size of the numbers that are summed.

    That size is the sum over input channels of the root of the kernel's summed squares times that of the inputs' in a
    tile: a transform keeps the sum of squares, and each of its steps rounds to within that. For an output whose taps
    are all of one size it is about the sum of |weight| |x|; an output that meets only small taps of a kernel, or small
    numbers beside large ones, has an error of the large ones' size. Random data reached 0.3, kernels with one large tap
    beside small ones 1.4.
    """
    return 3.0
