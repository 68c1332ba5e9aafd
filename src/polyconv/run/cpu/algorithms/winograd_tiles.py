"""What Winograd's algorithm makes of a problem: tiles, points, transformed and packed weights, cost, error.

Shared by both layouts; ``winograd`` has the idea.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from polyconv.geometry import product
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE, Blocks, cut, taps_first
from polyconv.run.cpu.algorithms.cook_toom import ShortConvolution, kernel_matrix
from polyconv.run.cpu.algorithms.record import FROM_MEMORY, Sizes, Table, aligned, ceil_div, table_of
from polyconv.run.cpu.algorithms.tiles import tile_counts, tile_starts
from polyconv.run.cpu.algorithms.winograd_axes import SHORT, Along, along, effective_taps, place_of_phase
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Pads, Problem

ROWS = 14  # tiles held in registers by the matrix product, for two vectors of channels
FEWEST_ROWS = 5  # fewer tiles in registers take as long as so many
SHARE_OF_L2 = 0.75  # what stays there of what is read in turns
FEWEST = 16  # channels of a group, in and out
TOGETHER = 64  # channels, at least, whose groups are transformed together: the addresses are worked out once for them
READING = 30e9  # bytes a second that a core reads from beyond its L2
FAR = (
    64 << 20
)  # bytes of U up to which that holds, where the L3 is not smaller; it falls to a half at 1.4 times as many
PRODUCTS = 0.9  # of the machine's rate that the products reach with everything in the L2
NARROW = 0.25  # a block of one vector takes so much longer, for each of its multiplications
UNHIDDEN = 0.3  # of what can go on at the same time as something that takes longer
TRANSFORM = 3.2e-9  # seconds a point of a tile, for a vector of input channels
INVERSE = 2.5e-9  # and of output channels
FAR_STRIP = 3  # times as long where the strip of one run does not fit the L1
APART = 3  # times as long for outputs, where phases put them a stride apart
TURNING = 2e-9  # seconds a position of a tile, where planes are turned, for a vector of channels
ITEM = 0.2e-6  # seconds to start one
BORDER = 80e-9  # seconds a plane, where two threads write to one line of it
MOST_RUNS = 4  # of ROWS tiles each that share a reading of U
LARGEST = 4  # times the L2: what a thread's V and M may take, where more than ROWS tiles would share a reading of U
AT_ONCE = 1 << 17  # weights that are transformed to all points at once
PACKING = 1.7e-9  # seconds to transform a weight to one point, and put it in its place
KEPT = 0.75  # times the model's seconds: the exact kernels' models count the full rate, they reach 0.6 to 0.87 of it
KEPT_SPREAD = 0.87  # the same beside `dense_spread`, which counts what it takes
UNUSUAL = 1.15  # times as fast as the usual tile must another be: it is more code, for which a next size would wait
UNUSUAL_FAR = 1.05  # the same where weights come from memory
WORTH = 2e-6  # seconds a call must save before exactness on integers is given up


class Tile(NamedTuple):
    """Outputs of a tile along each axis (0 for an axis whose taps are summed), vectors of channels in registers."""

    outputs: tuple[int, ...]
    vectors: int = 2


def obstacle(problem: Problem, target: Target) -> str | None:
    """Dense, float32, and a few taps that read neighbours."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.dtype != "float32":
        return "it rounds more than the definition does: for float64 exactness goes first"
    if min(problem.in_channels, problem.out_channels) // problem.groups < FEWEST:
        return "with so few channels a group, transforming costs more than it saves"
    if problem.op == "conv_transpose" and (problem.groups > 1 or set(problem.dilation) != {1}):
        return "of transposed layers it computes those of one group without dilation"
    if not any(effective_taps(problem, axis) in SHORT for axis in range(problem.ndim)):
        facts = f"the kernel {problem.kernel_size} with stride {problem.stride} and dilation {problem.dilation}"
        return f"no axis of {facts} has {' or '.join(map(str, SHORT))} taps for neighbouring inputs"
    if target.vector_registers < 32:
        return "the transforms need 32 vector registers"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """The last two short axes are transformed, a third one summed or, with two tiles more, transformed as well.

    Small tiles multiply more, and win where large ones would reach far beyond the border of the picture, or where
    reading their weights takes longer than multiplying.
    """
    taps = [effective_taps(problem, axis) for axis in range(problem.ndim)]
    short = [axis for axis, count in enumerate(taps) if count in SHORT][-2:]
    if len(short) == 2 and any(taps[axis] == 7 for axis in short):
        short = short[-1:]
    found = []
    for size in range(max((len(SHORT[taps[axis]]) for axis in short), default=0)):
        outputs = [0] * problem.ndim
        for axis in short:
            choices = SHORT[taps[axis]]
            outputs[axis] = choices[min(size, len(choices) - 1)]
        found.append(Tile(tuple(outputs)))
    if len(taps) == 3 and all(count in (2, 3, 4) for count in taps):
        usual = found[0].outputs
        found += [Tile((SHORT[taps[0]][0], *usual[1:])), Tile((2, *usual[1:]))]
    return list(dict.fromkeys(found))


class Shape:
    """What follows from a problem and a tile: the short convolutions, points, summed taps, channels and blocks.

    There is one of each (`shape_of_tiles`), so that what is remembered of it is found without comparing.
    """

    def __init__(self, problem: Problem, tile: Tile, lanes: int) -> None:
        self.problem, self.tile, self.lanes = problem, tile, lanes

    @cached_property
    def axes(self) -> list[Along]:
        """What tiles read and write along each axis."""
        return [along(self.problem, axis, outputs) for axis, outputs in enumerate(self.tile.outputs)]

    @cached_property
    def short(self) -> list[ShortConvolution | None]:
        """The short convolution along each axis; None for a summed one."""
        return [axis.short for axis in self.axes]

    @cached_property
    def transforms(self) -> list[Array]:
        """What transforms the weights along each short axis: [point][tap]."""
        return [np.array(kernel_matrix(found.outputs, found.taps), float) for found in self.short if found]

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Points along each axis; 1 for a summed one."""
        return tuple([found.points if found else 1 for found in self.short])

    @cached_property
    def deep(self) -> ShortConvolution | None:
        """The first of three short axes, which is transformed by itself: all at once need too many registers."""
        return self.short[0] if all(self.short) and len(self.short) > 2 else None

    @cached_property
    def flat(self) -> tuple[int, ...]:
        """The grid of what is transformed at once."""
        return (1, *self.grid[1:]) if self.deep else self.grid

    @cached_property
    def planes(self) -> int:
        """How many of it make a tile."""
        return self.grid[0] if self.deep else 1

    @cached_property
    def points(self) -> int:
        """Points of a tile: matrix products."""
        return product(self.grid)

    @cached_property
    def inner(self) -> int:
        """Phases along a row that are worked on together, so that planes are written in whole vectors."""
        return self.axes[-1].phases if self.problem.layout == "channels_first" else 1

    @cached_property
    def products(self) -> int:
        """Matrix products of a tile: one for each point, of each of the inner phases."""
        return self.points * self.inner

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of a tile along each axis."""
        return tuple(m or 1 for m in self.tile.outputs)

    @cached_property
    def summed(self) -> list[tuple[int, ...]]:
        """What is transformed one by one: the number of the part along every axis.

        Where there are inner phases, each has its own; the last number is the phase's (and its only part is 0).
        """
        counts = [axis.parts for axis in self.axes]
        return list(itertools.product(*map(range, (*counts[:-1], self.inner if self.inner > 1 else counts[-1]))))

    @cached_property
    def phases(self) -> list[tuple[int, ...]]:
        """Convolutions one after the other: the number of the phase along every axis (0 where phases are inner)."""
        counts = [axis.phases for axis in self.axes]
        return list(itertools.product(*map(range, (*counts[:-1], 1 if self.inner > 1 else counts[-1]))))

    @cached_property
    def every_phase(self) -> list[tuple[int, ...]]:
        """The inner phases of each phase, one after the other."""
        return [(*phase[:-1], phase[-1] + inner) for phase in self.phases for inner in range(self.inner)]

    @cached_property
    def used(self) -> list[list[int]]:
        """For each point of each phase, which of ``summed`` are not zero there."""
        grid = list(itertools.product(*map(range, self.grid)))
        return [
            [number for number, parts in enumerate(self.summed) if self._reads(phase, parts, point)]
            for phase in self.every_phase
            for point in grid
        ]

    def _reads(self, phase: tuple[int, ...], parts: tuple[int, ...], point: tuple[int, ...]) -> bool:
        """Is the product of some parts at a point anything but zero."""
        if self.inner > 1:
            if parts[-1] != phase[-1]:
                return False
            parts = (*parts[:-1], 0)
        return all(axis.reads(*facts) for axis, *facts in zip(self.axes, phase, parts, point, strict=True))

    @cached_property
    def is_even(self) -> bool:
        """Does every point multiply every part, in one phase."""
        return len(self.every_phase) == 1 and all(len(found) == len(self.summed) for found in self.used)

    @cached_property
    def terms(self) -> int:
        """Parts that are multiplied, over all phases and points."""
        return sum(map(len, self.used))

    @cached_property
    def joins(self) -> bool:
        """Do neighbouring parts of a row of V follow one another without a gap."""
        return self.inputs == self.padded

    @cached_property
    def runs(self) -> Table:
        """What each product sums, in runs that lie in one piece in a row of V.

        How many runs, and how many channels of all parts, come before each point of each phase; then where each run
        starts in a row, and how many channels it has.
        """
        before: list[int] = [0, 0]
        found: list[int] = []
        for parts in self.used:
            for place, number in enumerate(parts):
                if self.joins and place and parts[place - 1] == number - 1:
                    found[-1] += self.inputs
                else:
                    found += [number * self.padded, self.inputs]
            before += [len(found) // 2, before[-1] + len(parts) * self.inputs]
        return table_of(before + found)

    def starts(self, out_size: tuple[int, ...]) -> list[list[int]]:
        """The first position of each tile along each axis."""
        return tile_starts(self.outputs, self.apart, self.positions(out_size))

    def tiles(self, out_size: tuple[int, ...]) -> int:
        """How many tiles a picture has, of each phase."""
        return product(tile_counts(self.outputs, self.apart, self.positions(out_size)))

    def positions(self, out_size: tuple[int, ...]) -> tuple[int, ...]:
        """Along each axis, of the phase that has most."""
        if len(self.every_phase) == 1:
            return out_size
        return tuple([ceil_div(size, axis.out_step) for size, axis in zip(out_size, self.axes, strict=True)])

    @cached_property
    def apart(self) -> tuple[int, ...]:
        """Positions between neighbouring outputs of a tile along each axis."""
        return tuple(axis.apart for axis in self.axes)

    @cached_property
    def cluster(self) -> int:
        """Groups whose channels lie in V together; the clusters of a layer are worked on one after the other."""
        groups, channels = self.problem.groups, self.problem.in_channels // self.problem.groups
        divisors = [count for count in range(1, groups + 1) if groups % count == 0]
        return next((count for count in divisors if count * channels >= TOGETHER), groups)

    @cached_property
    def clusters(self) -> int:
        """How many, or how many phases; with more than one, every thread transforms what it multiplies."""
        return self.problem.groups // self.cluster * len(self.phases)

    @cached_property
    def channels(self) -> int:
        """Input channels of a cluster."""
        return self.problem.in_channels // (self.problem.groups // self.cluster)

    @cached_property
    def padded(self) -> int:
        """Input channels of a cluster rounded up to whole vectors."""
        return -(-self.channels // self.lanes) * self.lanes

    @cached_property
    def row(self) -> int:
        """Elements of V for one point of one tile, at a distance that spreads tiles over the sets of a cache."""
        return spread(self.padded * len(self.summed), self.problem.numpy_dtype().itemsize)

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
    def places(self) -> int:
        """Outputs of a tile."""
        return product(self.outputs)

    @cached_property
    def turned(self) -> int:
        """Positions that a tile in a row of tiles reads, of planes: its columns overlap the next one's."""
        return product(self.grid[:-1]) * self.outputs[-1]

    @cached_property
    def strip_bytes(self) -> int:
        """The least that a run of tiles is turned into, of planes: those of a dilated row stay together."""
        last = self.axes[-1]
        return product(self.grid[:-1]) * self.outputs[-1] * last.apart * last.in_step * self.lanes * self.item

    @cached_property
    def usual(self) -> Tile:
        """The tile that is fastest for most pictures."""
        return Tile(tuple([SHORT[found.taps][0] if found else 0 for found in self.short]))

    @cached_property
    def item(self) -> int:
        """Bytes of an element."""
        return self.problem.numpy_dtype().itemsize

    @cached_property
    def count(self) -> int:
        """Output blocks; clusters, where there are several."""
        return self.clusters if self.clusters > 1 else self.blocks.count * self.problem.groups

    @cached_property
    def vectors(self) -> int:
        """Vectors of output channels, of all phases."""
        return self.blocks.vectors * self.problem.groups * len(self.phases)

    @cached_property
    def narrow(self) -> float:
        """How much longer products take where a block has one vector, and waits for its loads."""
        alone = len(self.blocks.tail) == 1 and bool(self.blocks.full)
        return 1 + NARROW * alone / self.blocks.vectors

    @cached_property
    def u_size(self) -> int:
        """The transformed weights."""
        return self.terms * self.inputs * self.blocks.lanes * self.problem.groups

    @cached_property
    def u_bytes(self) -> int:
        """The bytes of the transformed weights."""
        return self.u_size * self.item

    @cached_property
    def inputs(self) -> int:
        """Input channels of a group."""
        return self.problem.in_channels // self.problem.groups

    @cached_property
    def depth(self) -> float:
        """Terms of a matrix product, on average: input channels of a group times parts."""
        return self.inputs * self.terms / (self.products * len(self.phases))


@lru_cache(maxsize=256)
def shape_of_tiles(problem: Problem, tile: Tile, target: Target) -> Shape:
    """The facts for a target's vectors."""
    return Shape(problem, tile, target.lanes(problem.dtype))


@lru_cache(maxsize=256)
def phase_places(shape: Shape, padding: Pads) -> Table:
    """For each phase and axis its first output, and how its inputs are shifted; then those of the inner phases.

    Where phases are inner a phase has what they all have: output 0, and the least shift.
    """
    last = shape.problem.ndim - 1
    inner = [place_of_phase(shape.problem, last, number, padding[last][0]) for number in range(shape.inner)]
    least = min(shift for _, shift in inner)
    found: list[int] = []
    for phase in shape.phases:
        for axis, (number, (before, _)) in enumerate(zip(phase, padding, strict=True)):
            shared = axis == last and shape.inner > 1
            found += (0, least) if shared else place_of_phase(shape.problem, axis, number, before)
    return table_of([*found, *itertools.chain(*((first, shift - least) for first, shift in inner))])


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, U[out block][point][summed tap][channel][lane], a row of zeros for padding; transformed in float64."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    return pack_points(shape_of_tiles(problem, tile, target), weight, bias)


def pack_points(shape: Shape, weight: Array, bias: Array | None) -> Array:
    """`pack` for a shape."""
    problem = shape.problem
    blocks, groups, inputs = shape.blocks, problem.groups, shape.inputs
    taps = taps_first(problem, weight).reshape(groups, *problem.kernel_size, inputs, blocks.channels)
    biases = groups * blocks.lanes
    size = biases + shape.u_size
    packed = aligned(size + shape.padded, problem.numpy_dtype())
    packed[:biases] = 0
    packed[size:] = 0
    if bias is not None:
        packed[:biases].reshape(groups, blocks.lanes)[:, : blocks.channels] = bias.reshape(groups, blocks.channels)
    at, width = biases, sum(blocks.main)
    for start in range(0, len(shape.every_phase), shape.inner):
        phases = range(start, start + shape.inner)
        ordered = [(_ordered(shape, shape.every_phase[phase], taps), _kept(shape, phase)) for phase in phases]
        for group, block in itertools.product(range(groups), range(blocks.count)):
            lanes = width if block < blocks.full else sum(blocks.tail)
            for mine, used in ordered:
                terms = shape.points * len(shape.summed) if used is None else len(used)
                end = at + terms * inputs * lanes
                piece = mine[group, ..., block * width : block * width + lanes]
                _transform(shape.transforms, piece, used, packed[at:end].reshape(terms, inputs, lanes))
                at = end
    return packed


def _kept(shape: Shape, phase: int) -> list[int] | None:
    """Which of a phase's [point][part] are not zero; None for all."""
    if shape.is_even:
        return None
    parts = len(shape.summed) // shape.inner
    used = shape.used[phase * shape.points : (phase + 1) * shape.points]
    return [point * parts + number // shape.inner for point, some in enumerate(used) for number in some]


def _ordered(shape: Shape, phase: tuple[int, ...], taps: Array) -> Array:
    """A phase's taps as [group][tap of a part, along each short axis]...[part, along each axis]...[channel][lane]."""
    ndim = shape.problem.ndim
    for axis, (found, number) in enumerate(zip(shape.axes, phase, strict=True)):
        count = taps.shape[1 + 2 * axis]
        rows = [[*part, *(count,) * (found.length - len(part))] for part in found.taps[number]]  # no tap: zeros
        order = [rows[part][tap] for tap in range(found.length) for part in range(found.parts)]
        if order != list(range(count)):
            if max(order, default=0) == count:
                taps = np.concatenate([taps, np.zeros_like(taps.take([0], 1 + 2 * axis))], 1 + 2 * axis)
            taps = taps.take(order, 1 + 2 * axis)
        before, after = taps.shape[: 1 + 2 * axis], taps.shape[2 + 2 * axis :]
        taps = taps.reshape(*before, found.length, found.parts, *after)
    return taps.transpose(
        0, *(1 + 2 * axis for axis in range(ndim)), *(2 + 2 * axis for axis in range(ndim)), -2, -1
    ).reshape(
        taps.shape[0],
        *(found.length for found in shape.axes if found.short),
        *(found.parts for found in shape.axes),
        *taps.shape[-2:],
    )


def _transform(transforms: list[Array], taps: Array, used: list[int] | None, out: Array) -> None:
    """One block's weights [tap]...[part]...[channel][lane], its leading axes transformed.

    Some channels at a time, so that what is between stays in the cache. ``used``: which of [point][part] are kept; None
    for all.
    """
    channels, lanes = taps.shape[-2:]
    each = max(1, AT_ONCE // (product([len(matrix) for matrix in transforms]) * lanes))
    for low in range(0, channels, each):
        high = min(low + each, channels)
        points: Array = np.ascontiguousarray(taps[..., low:high, :], np.float64)
        for axis, matrix in enumerate(transforms):
            front = product(points.shape[:axis])
            rest = points.reshape(front, points.shape[axis], -1)
            points = (matrix @ rest).reshape(*points.shape[:axis], matrix.shape[0], *points.shape[axis + 1 :])
        found = points.reshape(-1, high - low, lanes)
        if used is None:
            out[:, low:high, :lanes] = found
        else:
            for place, number in enumerate(used):
                out[place, low:high, :lanes] = found[number]
    out[..., lanes:] = 0


def spread(elements: int, item: int) -> int:
    """A distance of at least so many elements: an odd number of cache lines, if it is whole lines at all."""
    lines, rest = divmod(elements * item, CACHE_LINE)
    return elements if rest or lines % 2 else elements + CACHE_LINE // item


class Cut(NamedTuple):
    """How the work is cut into items, and what a thread keeps.

    An item is a ``block`` of tiles for a ``chunk`` of output blocks (of clusters of groups, where there are several);
    the blocks of one chunk follow one another. It transforms its tiles' inputs into V, and multiplies with ``together``
    output blocks at a time, point by point. ``v_point`` and ``m_point`` are the elements from point to point,
    ``m_block`` those from output block to output block.
    """

    block: int
    blocks: int
    chunk: int
    chunks: int
    together: int
    v_point: int
    m_point: int
    m_block: int
    bytes: int  # of V and M
    seconds: float  # of the thread that has most to do

    @property
    def items(self) -> int:
        """How many there are."""
        return self.blocks * self.chunks


@lru_cache(maxsize=1024)
def cut_work(shape: Shape, target: Target, tiles: int, run: int, threads: int) -> Cut:
    """The fastest way by the model: who reads what part of U how often, and who transforms what.

    Where tiles are divided among the threads each reads all of U, once for each of its blocks; where output channels
    are, each transforms all tiles for itself: that takes less time than reading what another core has just written.

    Args:
        shape: what is computed.
        target: the machine.
        tiles: how many, a multiple of ``run``.
        run: tiles that stay together.
        threads: that share the work.
    """
    room, budget, found = LARGEST * target.l2_bytes, target.l2_bytes // 2, []
    streams = shape.clusters == 1 and shape.u_bytes > budget
    rate, parts, halves = PRODUCTS * target.vector_rate, 1, []
    while parts < min(threads, shape.count):
        halves.append(parts)
        parts *= 2
    for parts in (*halves, min(threads, shape.count)):
        chunk = -(-shape.count // parts)
        share = -(-threads // -(-shape.count // chunk))  # threads that divide the tiles
        last = 0
        for runs in range(1, MOST_RUNS + 1):
            block = _block(tiles, run, ROWS * runs, share)
            if block == last:
                continue
            last, m_bytes = block, shape.products * block * shape.width * shape.item
            several = budget // m_bytes if streams else 1
            for together in (1, several if several < chunk else chunk) if several > 1 < chunk else (1,):
                seconds, used = _model(shape, target, rate, tiles, block, chunk, together, threads)
                found.append((used if used > room else room, seconds, block, chunk, together))
    _, seconds, block, chunk, together = min(found)
    return _cut(shape, tiles, block, chunk, together, seconds)


def _least_seconds(shape: Shape, target: Target, tiles: int) -> float:
    """What no way of cutting the work takes less than, of all threads together: the terms of `_model` that add up.

    All of them are products and transforms of every point; the share of a millionth is for rounding.
    """
    each = shape.products * shape.vectors * (shape.depth / (PRODUCTS * target.vector_rate) + INVERSE)
    each += shape.points * TRANSFORM * shape.row / shape.lanes * shape.clusters
    return tiles * each * (1 - 1e-6)


def _block(tiles: int, run: int, most: int, share: int) -> int:
    """Tiles of a block: whole runs, up to about ``most`` tiles, as many blocks for each of ``share``."""
    most = most if most > run else run
    blocks = -(-tiles // (most * share)) * share or 1
    return run * -(-tiles // (run * blocks)) or run


def _model(
    shape: Shape,
    target: Target,
    rate: float,
    tiles: int,
    block: int,
    chunk: int,
    together: int,
    threads: int,
    far: bool = False,
) -> tuple[float, int]:
    """Seconds of the thread that has most to do, and bytes of V and M.

    What is read again is read from beyond the L2 as far as it and what is read in between do not fit there; where
    weights are ``far``, once from memory. Called for every way at every new size: plain arithmetic.
    """
    most, points = int(SHARE_OF_L2 * target.l2_bytes), shape.points
    mine = -(-(-(-tiles // block) * -(-shape.count // chunk)) // threads)
    part, passes, products = chunk / shape.count, chunk / together, shape.products
    clusters = chunk if shape.clusters > 1 else 1
    v, m, u = points * block * shape.row * shape.item, products * block * shape.width * shape.item, shape.u_bytes * part
    m *= together
    rows, least = block + block % 2, FEWEST_ROWS * -(-block // ROWS)
    vectors = shape.vectors * part
    multiplying = (rows if rows > least else least) * products * shape.depth * vectors * shape.narrow / rate
    over, again = v + m + u / passes - most, u + v + m - most  # bytes too many for V and M, and for U, to stay
    missing = (again if again < u else u) if again > 0 else 0
    if over > 0:
        missing += passes * ((v if v < over else over) + 3 * (m if m < over else over))
    held = target.l3_bytes if target.l3_bytes < FAR else FAR
    slower = (shape.u_bytes - held) / (0.4 * held)
    reading = missing / READING * (1 if slower < 0 else 1 + slower if slower < 1 else 2)
    moving = block * (points * TRANSFORM * shape.row / shape.lanes * clusters + products * INVERSE * vectors)
    borders = 0.0
    if shape.problem.layout == "channels_first":
        outputs = shape.places * shape.inner * (APART if shape.inner > 1 else 1)
        turning = TURNING if shape.strip_bytes <= target.l1_bytes else FAR_STRIP * TURNING
        moving += block * turning * (shape.turned * shape.row / shape.lanes * clusters + outputs * vectors)
        if chunk * threads > shape.count and threads > 1:  # tiles are divided
            borders = BORDER * shape.problem.out_channels * part
    if v > most:
        moving += 3 * clusters * (v - most) / READING  # fetched to be written, written, read
    more, less = (multiplying, reading) if multiplying > reading else (reading, multiplying)
    each, later = more + UNHIDDEN * less, 0.0
    if far:  # the first item of a chunk reads its weights from memory, those after it find them nearer
        fetching = max(reading, u / FROM_MEMORY)
        first = max(multiplying, fetching) + UNHIDDEN * min(multiplying, fetching)
        later = (first - each) * -(-mine // -(-tiles // block))
    return mine * (ITEM + each + moving) + later + borders, v + m


def _cut(shape: Shape, tiles: int, block: int, chunk: int, together: int, seconds: float = 0.0) -> Cut:
    """A way to cut the work: how it lies in memory."""
    item, blocks, chunks = shape.item, max(1, ceil_div(tiles, block)), ceil_div(shape.count, chunk)
    v_point, m_point = spread(block * shape.row, item), spread(block * shape.width, item)
    m_block = shape.products * m_point + shape.width
    size = (shape.points * v_point + shape.row + together * m_block) * item
    return Cut(block, blocks, chunk, chunks, together, v_point, m_point, m_block, size, seconds)


def reason(shape: Shape, tiles: int, block: int, more: str = "") -> str:
    """What ``explain()`` says."""
    name = "x".join(map(str, shape.outputs))
    taps = product(shape.problem.kernel_size)
    saved = taps * product(shape.outputs) / shape.terms
    return f"{saved:.2g} times fewer multiplications with {tiles} tiles of {name}{more}, {block} at a time"


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds of the threads together: products, transforms, and reading U once for each block of tiles."""
    several, shape = max(threads, 2), shape_of_tiles(problem, tile, target)
    tiles = sizes.batch * shape.tiles(sizes.out_size)
    if shape.usual == tile:
        seconds = _seconds(shape, target, tiles, several, sizes.far)
    else:
        usual = shape_of_tiles(problem, shape.usual, target)
        count = sizes.batch * usual.tiles(sizes.out_size)
        usually = _seconds(usual, target, count, several, sizes.far)
        seconds, better = _least_seconds(shape, target, tiles), UNUSUAL_FAR if sizes.far else UNUSUAL
        if usually >= better * seconds:
            seconds = _seconds(shape, target, tiles, several, sizes.far)
        if usually < better * seconds:
            seconds = 1.001 * usually  # not instead of it
    return beside_exact(problem, seconds, threads)


def _seconds(shape: Shape, target: Target, tiles: int, threads: int, far: bool) -> float:
    """Of all threads together, with the work cut as it is for weights that are near."""
    work = cut_work(shape, target, tiles, 1, threads)
    if not far:
        return work.seconds * threads
    rate, ways = PRODUCTS * target.vector_rate, (work.block, work.chunk, work.together)
    return _model(shape, target, rate, tiles, *ways, threads, far=True)[0] * threads


def beside_exact(problem: Problem, seconds: float, threads: int) -> float:
    """What to compare with the exact algorithms' costs, for the seconds of all threads together.

    Their models count the machine's full rate. They are kept where this one would save less than a tenth or so.
    """
    kept = KEPT_SPREAD if problem.op == "conv_transpose" and problem.layout == "channels_first" else KEPT
    return (kept * seconds + WORTH) / threads


def packing(problem: Problem, tile: Tile, target: Target) -> float:
    """Seconds to transform the weights."""
    shape = shape_of_tiles(problem, tile, target)
    return PACKING * shape.u_size


def grain(problem: Problem, tile: Tile, target: Target) -> int:
    """Rows of a tile, of all its interleaved pictures, or of all phases."""
    first = shape_of_tiles(problem, tile, target).axes[0]
    return (tile.outputs[0] or 1) * (first.apart if first.short else 1) * first.out_step


def rounding(tile: Tile) -> tuple[int, ...]:
    """Larger tiles round more."""
    return tile.outputs


def error_bound(problem: Problem, tile: Tile) -> float:
    """The largest error to expect, over 2^-24 times the largest sum of |weight| |x| of any output.

    Outputs of one tile share rounding errors, so that an output among larger ones has an error of their size.
    Each of two short axes multiplies the error by how much its transforms can amplify (F(2, 3): 2, F(4, 3): 8); a third
    one, and the channels' sums, add a little. On random data of 64 to 256 channels F(4x4, 3x3) reached 34 and
    F(2x2, 3x3) 2.9.
    """
    amplified = {
        (2, 2): 1.5,
        (3, 2): 2.0,
        (4, 2): 4.0,
        (2, 3): 2.0,
        (3, 3): 4.0,
        (4, 3): 8.0,
        (2, 4): 2.0,
        (3, 4): 3.0,
        (2, 5): 6.0,
        (4, 7): 12.0,
    }
    found = [amplified[m, effective_taps(problem, axis)] for axis, m in enumerate(tile.outputs) if m]
    return 2 * float(np.prod(sorted(found)[-2:])) + 4
