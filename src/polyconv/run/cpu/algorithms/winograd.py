"""Dense convolution of stride 1 with fewer multiplications: Winograd's minimal filtering on tiles of the picture.

Along each *short* axis (one with several taps) a tile of m outputs reads n = m + r - 1 inputs, transforms them, is
multiplied point by point with the transformed kernel, and transformed back (see ``cook_toom``). Summed over input
channels the products are one matrix product for each point: that is where the time goes, and there are n^d points
for m^d outputs instead of r^d taps each: F(4x4, 3x3) multiplies 36 times where the definition needs 144.

    for a block of T tiles:   V[point, tile, channel] = transform of the tile's inputs
    for each block of output channels, for each point:  M[point, tile, out] = V[point] @ U[point]
    and for each tile:        out = transform back of M[:, tile], + bias, activation

V lies in a thread's scratch where there are many tiles ("run1" does it all, the *fused* way), or in the shared
workspace where there are few and the work is split over output channels ("run0", a barrier, then "run1"). Axes that
are not short keep their taps as a longer sum. A dilated axis is d interleaved pictures: a tile's positions lie d
apart. Inputs on padding are read from a row of zeros, outputs beyond the border are written to a row of trash: every
tile runs the same code.

The result is not exact on integers; see docs/engine.md for the measured error. The order of every sum depends on the
place in the picture alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polyconv.geometry import product
from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.blocks import Blocks, cut, taps_first
from polyconv.run.cpu.algorithms.cook_toom import Matrix, ShortConvolution, short_convolution
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    aligned,
    pixels_contiguous,
    words,
)
from polyconv.run.cpu.emit import Kernel, Value, join
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Problem

ROWS = 14  # tiles held in registers by the matrix product, for two vectors of channels
SHORT = {3: (4, 2), 5: (2,), 7: (4,)}  # taps of an axis -> outputs of a tile, the usual one first
SHARE_OF_L2 = 0.5  # for V of a block of tiles
FEWEST = 16  # channels of a group, in and out
WORTH = 10e-6  # seconds a call must save before exactness on integers is given up
NAMES = (
    *FIXED_WORDS, "starts: ptr", "tiles", "block_tiles", "blocks", "fused", "block_chunks", "chunk", "out_blocks",
    "batch_stride", "out_batch_stride",
)  # fmt: skip
AXIS_NAMES = ("count", "at", "before", "size", "stride", "out_size", "out_stride")  # strides in bytes


@dataclass(frozen=True, slots=True)
class Tile:
    """Outputs of a tile along each axis (0 for an axis whose taps are summed), vectors of channels in registers."""

    outputs: tuple[int, ...]
    vectors: int = 2


def fits(problem: Problem, target: Target) -> str | None:
    """Dense, stride 1, float32, and short kernels."""
    if problem.op != "conv":
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_last":
        return "it reads pixels as rows of channels (channels_last)"
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
class _Shape:
    """What follows from a problem and a tile: the short convolutions, points, summed taps, channels and blocks."""

    problem: Problem
    tile: Tile
    lanes: int

    @property
    def short(self) -> list[ShortConvolution | None]:
        taps = self.problem.kernel_size
        return [short_convolution(m, r) if m else None for m, r in zip(self.tile.outputs, taps, strict=True)]

    @property
    def grid(self) -> tuple[int, ...]:
        """Points along each axis; 1 for a summed one."""
        return tuple(found.points if found else 1 for found in self.short)

    @property
    def points(self) -> int:
        return product(self.grid)

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(m or 1 for m in self.tile.outputs)

    @property
    def summed(self) -> list[tuple[int, ...]]:
        """The taps of the summed axes, as tap numbers along every axis (0 along short ones)."""
        ranges = [range(1 if m else taps) for m, taps in zip(self.tile.outputs, self.problem.kernel_size, strict=True)]
        return list(itertools.product(*ranges))

    @property
    def padded(self) -> int:
        """Input channels rounded up to whole vectors."""
        return -(-self.problem.in_channels // self.lanes) * self.lanes

    @property
    def row(self) -> int:
        """Elements of V for one point of one tile."""
        return self.padded * len(self.summed)

    @property
    def blocks(self) -> Blocks:
        return cut(self.problem.out_channels // self.problem.groups, self.tile.vectors, self.lanes, 4)

    @property
    def width(self) -> int:
        """Lanes of a block, the tail's too: the row of M."""
        return max(sum(self.blocks.main) if self.blocks.full else 0, sum(self.blocks.tail))

    @property
    def depth(self) -> int:
        """Terms of the matrix product: input channels of a group times summed taps."""
        return self.problem.in_channels // self.problem.groups * len(self.summed)


def _shape(problem: Problem, tile: Tile, target: Target) -> _Shape:
    return _Shape(problem, tile, target.lanes(problem.dtype))


def _numbers(matrix: Matrix) -> Array:
    return np.array([[float(number) for number in row] for row in matrix])


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """Bias, U[out block][point][summed tap][channel][lane], a row of zeros for padding; transformed in float64."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    shape = _shape(problem, tile, target)
    blocks, groups, inputs = shape.blocks, problem.groups, problem.in_channels // problem.groups
    taps = taps_first(problem, weight).reshape(groups, *problem.kernel_size, inputs, blocks.channels)
    transformed: Array = taps.astype(np.float64)
    for axis, found in enumerate(shape.short):
        if found:
            moved = np.tensordot(_numbers(found.kernel), transformed, ([1], [1 + axis]))
            transformed = np.moveaxis(moved, 0, 1 + axis)
    summed_axes = [1 + axis for axis, found in enumerate(shape.short) if not found]
    short_axes = [1 + axis for axis, found in enumerate(shape.short) if found]
    ndim = problem.ndim
    ordered = transformed.transpose(0, *short_axes, *summed_axes, ndim + 1, ndim + 2)
    ordered = ordered.reshape(groups, shape.points, shape.depth, blocks.channels)
    biases = groups * blocks.lanes
    size = biases + groups * shape.points * shape.depth * blocks.lanes
    packed = aligned(size + shape.padded, problem.numpy_dtype())
    packed[:] = 0
    if bias is not None:
        packed[:biases].reshape(groups, blocks.lanes)[:, : blocks.channels] = bias.reshape(groups, blocks.channels)
    _pack_blocks(packed[biases:size].reshape(groups, -1), ordered, blocks)
    return packed


def _pack_blocks(packed: Array, ordered: Array, blocks: Blocks) -> None:
    """Write [group][point][depth][channel] as [group][block][point][depth][lane]."""
    groups, points, depth, _ = ordered.shape
    width = sum(blocks.main)
    whole = blocks.full * width
    main = packed[:, : points * depth * whole].reshape(groups, blocks.full, points, depth, width)
    main[:] = ordered[..., :whole].reshape(groups, points, depth, blocks.full, width).transpose(0, 3, 1, 2, 4)
    if blocks.tail:
        tail = packed[:, points * depth * whole :].reshape(groups, points, depth, sum(blocks.tail))
        tail[..., : blocks.channels - whole] = ordered[..., whole:]


# ---- the loop nests ------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: ``run0`` transforms tiles into the workspace, ``run1`` multiplies (after transforming, if fused)."""
    shape = _shape(problem, tile, target)
    first, second = _Kernel("run0", shape, target), _Kernel("run1", shape, target)
    first.write_transforms()
    second.write_products()
    return join([first.k, second.k])


class _Kernel:
    def __init__(self, name: str, shape: _Shape, target: Target) -> None:
        self.k = k = Kernel(name, target, shape.problem.dtype)
        self.shape, self.problem = shape, shape.problem
        axes = [f"{name}{axis}" for axis in range(self.problem.ndim) for name in AXIS_NAMES]
        names = (*NAMES, *axes)
        values = k.words(*names)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, values, strict=True)}
        self.sources = k.scratch  # pointers of a tile's inputs, then of its outputs
        self.sinks = k.word_at(k.scratch, shape.points * len(shape.summed))
        self.trash = k.byte_at(k.scratch, _pointer_bytes(shape))
        self.m = k.at(self.trash, _trash_lanes(shape))

    # -- where a tile lies
    def origin(self, number: Value) -> tuple[Value, list[Value]]:
        """The picture and the first output position along each axis of a tile."""
        k, w = self.k, self.w
        rest = number
        places: list[Value] = []
        for axis in reversed(range(self.problem.ndim)):
            place = w[f"at{axis}"] + rest % w[f"count{axis}"]
            places.insert(0, k.load(k.word_at(w["starts"], place), "i64"))
            rest = rest // w[f"count{axis}"]
        return rest, places

    def point_inputs(self, number: Value) -> None:
        """Write the addresses of all inputs of a tile, [summed tap][point]; padding is the row of zeros."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        base = k.byte_at(w["x"], picture * w["batch_stride"])
        zeros = k.at(w["packed"], self.zeros_at())
        reaches = []
        for axis, found in enumerate(shape.short):
            dilation = self.problem.dilation[axis]
            count = found.points if found else self.problem.kernel_size[axis]
            start = places[axis] - w[f"before{axis}"]
            positions = [start + step * dilation for step in range(count)]
            reaches.append([(p * w[f"stride{axis}"], p.below(w[f"size{axis}"])) for p in positions])
        for tap_number, tap in enumerate(shape.summed):
            for point_number, point in enumerate(itertools.product(*map(range, shape.grid))):
                picks = [reach[t + p] for reach, t, p in zip(reaches, tap, point, strict=True)]
                offset, valid = picks[0]
                for more, also in picks[1:]:
                    offset, valid = offset + more, valid & also
                pointer = k.select(valid, k.byte_at(base, offset), zeros)
                k.store(pointer, k.word_at(self.sources, tap_number * shape.points + point_number))

    def zeros_at(self) -> int:
        shape = self.shape
        lanes = shape.blocks.lanes * self.problem.groups
        return lanes + lanes * shape.points * shape.depth

    def point_outputs(self, number: Value) -> None:
        """Write the addresses of all outputs of a tile; those beyond the border are trash."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        base = k.byte_at(w["out"], picture * w["out_batch_stride"])
        reaches = []
        for axis, count in enumerate(shape.outputs):
            positions = [places[axis] + step * self.problem.dilation[axis] for step in range(count)]
            reaches.append([(p * w[f"out_stride{axis}"], p.below(w[f"out_size{axis}"])) for p in positions])
        for place, output in enumerate(itertools.product(*map(range, shape.outputs))):
            picks = [reach[o] for reach, o in zip(reaches, output, strict=True)]
            offset, valid = picks[0]
            for more, also in picks[1:]:
                offset, valid = offset + more, valid & also
            k.store(k.select(valid, k.byte_at(base, offset), self.trash), k.word_at(self.sinks, place))

    # -- the transform of the inputs
    def write_transforms(self) -> None:
        """Items are tiles."""
        k, w = self.k, self.w
        with k.loop(k.first, k.last) as number:
            block = number // w["block_tiles"]
            size = w["block_tiles"] * (self.shape.points * self.shape.row)
            self.transform(number, number % w["block_tiles"], k.at(w["workspace"], block * size))

    def transform(self, number: Value, place: Value, v: Value) -> None:
        """Transform one tile into its place in a block of V."""
        k, shape = self.k, self.shape
        self.point_inputs(number)
        stride = self.w["block_tiles"] * shape.row  # from point to point
        target = k.at(v, place * shape.row)
        whole, rest = divmod(self.problem.in_channels, shape.lanes)
        with k.loop(0, len(shape.summed)) as tap:
            sources = k.word_at(self.sources, tap * shape.points)
            sink = k.at(target, tap * shape.padded)
            if whole:
                with k.loop(0, whole * shape.lanes, shape.lanes, nonempty=True) as channel:
                    self.transform_vector(sources, channel, None, k.at(sink, channel), stride)
            if rest:
                self.transform_vector(
                    sources, k.integer(whole * shape.lanes), rest, k.at(sink, whole * shape.lanes), stride
                )

    def transform_vector(self, sources: Value, channel: Value, count: int | None, sink: Value, stride: Value) -> None:
        """One vector of channels of one tile."""
        k = self.k

        def load(point: int) -> Value:
            pixel = k.load(k.word_at(sources, point), "ptr")
            return k.load_vector(k.at(pixel, channel), count=count)

        def store(point: int, value: Value) -> None:
            k.store_vector(value, k.at(sink, stride * point), align=64)

        short = [(axis, found.data) for axis, found in enumerate(self.shape.short) if found]
        self.along_axes(short, self.shape.grid, load, store)

    def along_axes(
        self,
        matrices: list[tuple[int, Matrix]],
        grid: tuple[int, ...],
        load: Callable[[int], Value],
        store: Callable[[int, Value], None],
    ) -> None:
        """Multiply along each axis; the first axis as it is loaded, the last as it is stored."""
        values: dict[tuple[int, ...], Value] = {}
        numbers = {point: number for number, point in enumerate(itertools.product(*map(range, grid)))}
        for step, (axis, matrix) in enumerate(matrices):
            after = tuple(len(matrix) if number == axis else size for number, size in enumerate(grid))
            places = {point: number for number, point in enumerate(itertools.product(*map(range, after)))}
            found: dict[tuple[int, ...], Value] = {}
            for line in itertools.product(*(range(1 if number == axis else size) for number, size in enumerate(grid))):
                points = [(*line[:axis], place, *line[axis + 1 :]) for place in range(grid[axis])]
                data = [values[point] if step else load(numbers[point]) for point in points]
                for place, value in enumerate(_combined(self.k, matrix, data)):
                    point = (*line[:axis], place, *line[axis + 1 :])
                    if step == len(matrices) - 1:
                        store(places[point], value)
                    else:
                        found[point] = value
            values, grid, numbers = found, after, places

    # -- the products
    def write_products(self) -> None:
        """Items are (chunk of output blocks, block of tiles), tiles innermost."""
        k, w, shape = self.k, self.w, self.shape
        own = k.at(self.m, w["block_tiles"] * (shape.points * shape.width))
        with k.loop(k.first, k.last) as item:
            block = item % w["blocks"]
            start = block * w["block_tiles"]
            count = k.minimum(w["tiles"] - start, w["block_tiles"])
            fused = w["fused"].ne(0)
            shared = k.at(w["workspace"], start * (shape.points * shape.row))
            v = k.select(fused, own, shared)
            with k.when(fused), k.loop(0, count, nonempty=True) as place:
                self.transform(start + place, place, own)
            low = (item // w["blocks"]) * w["chunk"]
            with k.loop(low, k.minimum(low + w["chunk"], w["out_blocks"])) as out_block:
                self.multiply(out_block, start, count, v)

    def multiply(self, out_block: Value, start: Value, count: Value, v: Value) -> None:
        """One block of output channels for one block of tiles: choose the code for its width."""
        k, blocks, groups = self.k, self.shape.blocks, self.problem.groups
        group = out_block // blocks.count if groups > 1 else k.integer(0)
        inner = out_block % blocks.count if groups > 1 else out_block
        lane = group * blocks.lanes + inner * sum(blocks.main)
        channel = group * blocks.channels + inner * sum(blocks.main)
        bias = k.at(self.w["packed"], lane)
        u = k.at(self.w["packed"], lane * (self.shape.points * self.shape.depth) + blocks.lanes * groups)
        first = k.at(v, group * (self.problem.in_channels // groups))

        def write(lanes: tuple[int, ...], stored: int) -> None:
            self.products(lanes, u, first, count)
            with k.loop(0, count, nonempty=True) as place:
                self.point_outputs(start + place)
                self.inverse(lanes, stored, place, bias, channel)

        if blocks.full and blocks.tail:
            k.choose(
                inner < blocks.full,
                lambda: write(blocks.main, blocks.main[-1]),
                lambda: write(blocks.tail, blocks.last_count),
            )
        elif blocks.full:
            write(blocks.main, blocks.main[-1])
        else:
            write(blocks.tail, blocks.last_count)

    def products(self, lanes: tuple[int, ...], u: Value, v: Value, count: Value) -> None:
        """M[point] = V[point] @ U[point] for every point, in runs of nearly equal length of up to ROWS tiles."""
        k, w, shape = self.k, self.w, self.shape
        runs = (count + (ROWS - 1)) // ROWS
        with k.loop(0, shape.points, nonempty=True) as point:
            left = k.at(v, point * (w["block_tiles"] * shape.row))
            right = k.at(u, point * (shape.depth * sum(lanes)))
            result = k.at(self.m, point * (w["block_tiles"] * shape.width))
            with k.loop(0, runs, nonempty=True) as run:
                low = run * count // runs
                rows = (run + 1) * count // runs - low
                source, sink = k.at(left, low * shape.row), k.at(result, low * shape.width)
                k.switch(rows, range(1, ROWS + 1), lambda r: self.product(lanes, r, source, right, sink))

    def product(self, lanes: tuple[int, ...], rows: int, left: Value, right: Value, result: Value) -> None:
        """A few rows of the matrix product, all in registers."""
        k, shape, width = self.k, self.shape, sum(lanes)
        starts = [sum(lanes[:v]) for v in range(len(lanes))]
        sums = [[k.var(k.zero(n)) for n in lanes] for _ in range(rows)]
        flat = [total for row in sums for total in row]
        channels = self.problem.in_channels // self.problem.groups

        def terms(tap: Value | int, channel: Value) -> None:
            weights = k.at(right, (channel + tap * channels if len(shape.summed) > 1 else channel) * width)
            data = k.at(left, channel + tap * shape.padded if len(shape.summed) > 1 else channel)
            vectors = [k.load_vector(k.at(weights, at), n) for at, n in zip(starts, lanes, strict=True)]
            for row, totals in enumerate(sums):
                value = k.load(k.at(data, row * shape.row))
                for vector, total, n in zip(vectors, totals, lanes, strict=True):
                    total.value = k.fma(vector, k.broadcast(value, n), total.value)

        if len(shape.summed) > 1:
            with (
                k.loop(0, len(shape.summed), carry=flat, nonempty=True) as tap,
                k.loop(0, channels, carry=flat, nonempty=True) as channel,
            ):
                terms(tap, channel)
        else:
            with k.loop(0, channels, carry=flat, nonempty=True) as channel:
                terms(0, channel)
        for row, totals in enumerate(sums):
            for at, total in zip(starts, totals, strict=True):
                k.store_vector(total.value, k.at(result, row * shape.width + at))

    # -- back to outputs
    def inverse(self, lanes: tuple[int, ...], stored: int, place: Value, bias: Value, channel: Value) -> None:
        """Transform one tile of M back, add the bias, apply the activation and store."""
        k, w, shape = self.k, self.w, self.shape
        stride = w["block_tiles"] * shape.width
        row = k.at(self.m, place * shape.width)
        short = [(axis, found.inverse) for axis, found in enumerate(shape.short) if found]
        at = 0
        for number, n in enumerate(lanes):
            added = k.load_vector(k.at(bias, at), n)
            last = number == len(lanes) - 1

            def load(point: int, at: int = at, n: int = n) -> Value:
                return k.load_vector(k.at(row, stride * point + at), n)

            def store(output: int, value: Value, at: int = at, added: Value = added, last: bool = last) -> None:
                sink = k.load(k.word_at(self.sinks, output), "ptr")
                done = activate(k, self.problem.activation, value + added)
                k.store_vector(done, k.at(sink, channel + at), count=stored if last else None)

            self.along_axes(short, shape.grid, load, store)
            at += n


def _combined(k: Kernel, matrix: Matrix, data: list[Value]) -> list[Value]:
    """Matrix @ data; two rows that differ in signs only share their sums of the terms that agree, and of the others."""
    results: list[Value | None] = [None] * len(matrix)
    for number, row in enumerate(matrix):
        if results[number] is not None:
            continue
        for other in range(number + 1, len(matrix)):
            same = [a == b for a, b in zip(row, matrix[other], strict=True)]
            mirrored = all(a in (b, -b) for a, b in zip(row, matrix[other], strict=True))
            if mirrored and results[other] is None and any(same) and not all(same):
                even = _dot(k, [a if keep else type(a)(0) for a, keep in zip(row, same, strict=True)], data)
                odd = _dot(k, [type(a)(0) if keep else a for a, keep in zip(row, same, strict=True)], data)
                if even is not None and odd is not None:
                    results[number], results[other] = even + odd, even - odd
                break
        if results[number] is None:
            results[number] = _dot(k, list(row), data)
    return [k.zero() if value is None else value for value in results]


def _dot(k: Kernel, row: Sequence[object], data: list[Value]) -> Value | None:
    """A sum of products with constants; None for no terms."""
    total: Value | None = None
    terms = [(float(number), value) for number, value in zip(row, data, strict=True) if number]  # type: ignore[arg-type]
    for number, value in sorted(terms, key=lambda term: term[0] != 1):
        if total is None:
            total = value if number == 1 else value * number
        elif abs(number) == 1:
            total = total + value if number == 1 else total - value
        else:
            total = k.fma(value, k.constant(number, value.type), total)
    return total


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _pointer_bytes(shape: _Shape) -> int:
    """Scratch for the addresses of one tile, rounded up to a cache line."""
    return -(-8 * (shape.points * len(shape.summed) + product(shape.outputs)) // 64) * 64


def _trash_lanes(shape: _Shape) -> int:
    return -(-(shape.problem.out_channels + 2 * shape.lanes) // 16) * 16


def _starts(shape: _Shape, out_size: tuple[int, ...]) -> list[list[int]]:
    """The first output position of each tile along each axis; dilated axes picture by interleaved picture."""
    found = []
    for count, dilation, size in zip(shape.outputs, shape.problem.dilation, out_size, strict=True):
        if count == 1:
            found.append(list(range(size)))
        else:
            found.append([s for rest in range(min(dilation, size)) for s in range(rest, size, dilation * count)])
    return found


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Tiles, blocks of tiles, and whether each thread transforms for itself."""
    shape = _shape(problem, tile, target)
    item = problem.numpy_dtype().itemsize
    starts = _starts(shape, sizes.out_size)
    counts = [len(list_) for list_ in starts]
    tiles = sizes.batch * product(counts)
    out_blocks = shape.blocks.count * problem.groups
    block, fused = _blocking(shape, target, tiles, out_blocks, threads, item)
    blocks = -(-tiles // block)
    chunk = out_blocks if fused else max(1, out_blocks // max(1, 4 * threads // blocks))
    chunks = -(-out_blocks // chunk)
    out_stride, at = problem.out_channels * item, sum(counts)
    axes: list[int] = []
    for axis in reversed(range(problem.ndim)):
        at -= counts[axis]
        axes[:0] = [counts[axis], at, sizes.padding[axis][0], sizes.in_size[axis], sizes.x_strides[axis + 1] * item]
        axes[5:5] = [sizes.out_size[axis], out_stride]
        out_stride *= sizes.out_size[axis]
    table = np.array(list(itertools.chain(*starts)), np.int64)
    arguments = words(
        table, tiles, block, blocks, int(fused), chunks, chunk, out_blocks, sizes.x_strides[0] * item, out_stride, *axes
    )
    v_bytes = blocks * block * shape.points * shape.row * item
    m_bytes = block * shape.points * shape.width * item
    scratch = _pointer_bytes(shape) + _trash_lanes(shape) * item + m_bytes + (v_bytes // blocks if fused else 0)
    steps = [Phase("run1", blocks * chunks)]
    if not fused:
        steps.insert(0, Phase("run0", tiles))
    name = "x".join(map(str, shape.outputs))
    saved = product(problem.kernel_size) * product(shape.outputs) / (shape.points * len(shape.summed))
    reason = f"{saved:.2g} times fewer multiplications with {tiles} tiles of {name}, " + (
        f"{block} at a time" if fused else "all transformed first"
    )
    return Schedule(arguments, tuple(steps), scratch, 0 if fused else v_bytes, (table,), reason)


def _blocking(shape: _Shape, target: Target, tiles: int, out_blocks: int, threads: int, item: int) -> tuple[int, bool]:
    """Tiles of a block; and whether V stays in a thread's scratch (many tiles) or is shared (few)."""
    one = shape.points * shape.row * item
    most = int(target.l2_bytes * SHARE_OF_L2) // one
    runs = max(1, min(4, most // ROWS))
    block = ROWS * runs
    if tiles >= 2 * threads * block and most >= ROWS:
        return block, True
    return min(block, tiles), False


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: products at nearly the machine's rate, transforms, and reading U once for each block of tiles.

    Made larger, so that the exact algorithms are kept where this one would save little.
    """
    shape = _shape(problem, tile, target)
    item = problem.numpy_dtype().itemsize
    tiles = sizes.batch * product(
        [
            sum(-(-(size - r) // (d * m)) for r in range(min(d, size))) if m > 1 else size
            for size, d, m in zip(sizes.out_size, problem.dilation, shape.outputs, strict=True)
        ]
    )
    vectors = shape.blocks.vectors * problem.groups
    products = tiles * shape.points * shape.depth * vectors / 3.3e9
    moved = tiles * shape.points * (shape.row / shape.lanes * 4 + vectors * 3.5) / 3.3e9
    block, _ = _blocking(shape, target, max(tiles, 1), vectors, max(threads, 2), item)
    u_bytes = shape.points * shape.depth * shape.blocks.lanes * problem.groups * item
    reading = u_bytes * -(-max(tiles, 1) // block) / 45e9
    return (1.15 * (max(products, reading) + moved) + WORTH) / threads


def error_bound(problem: Problem, tile: Tile) -> float:
    """The largest error to expect, over 2^-24 times the largest sum of |weight| |x| of any output.

    Outputs of one tile share rounding errors, so that an output among larger ones has an error of their size.
    Each short axis multiplies the error by how much its transforms can amplify (F(2, 3): 2, F(4, 3): 8); the channels'
    sums add a little. On random data of 64 to 256 channels F(4x4, 3x3) reached 34 and F(2x2, 3x3) 2.9.
    """
    amplified = {(2, 3): 2.0, (4, 3): 8.0, (2, 5): 6.0, (4, 7): 12.0}
    found = [amplified[(m, r)] for m, r in zip(tile.outputs, problem.kernel_size, strict=True) if m]
    return 2 * float(np.prod(found)) + 4


WINOGRAD = Algorithm("winograd", fits, variants, emit, pack, schedule, cost, pixels_contiguous)
