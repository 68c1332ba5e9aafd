"""The loop nest of Winograd's algorithm that both layouts share: transforms along axes, and the products.

``winograd`` has the idea; it and ``winograd_planar`` say where inputs come from and where outputs go.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from polyconv.run.cpu.algorithms.blocks import fetch_stream
from polyconv.run.cpu.algorithms.cook_toom import Matrix
from polyconv.run.cpu.algorithms.record import FIXED_WORDS
from polyconv.run.cpu.algorithms.winograd_tiles import ROWS, Shape
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.target import Target

NAMES = (
    *FIXED_WORDS, "starts: ptr", "tiles", "block_tiles", "blocks", "fused", "run", "chunk", "out_blocks",
    "block_step", "chunk_step", "chunks", "batch_stride", "out_batch_stride",
)  # fmt: skip
AXIS_NAMES = ("count", "at", "before", "size", "stride", "out_size", "out_stride")  # strides in bytes


def tile_origin(k: Kernel, w: dict[str, Value], ndim: int, number: Value) -> tuple[Value, list[Value]]:
    """The picture and the first output position along each axis of the tile with this number.

    ``w`` are the kernel's words: along each axis how many tiles there are, and where their starts are listed.
    """
    rest = number
    places: list[Value] = []
    for axis in reversed(range(ndim)):
        place = w[f"at{axis}"] + rest % w[f"count{axis}"]
        places.insert(0, k.load(k.word_at(w["starts"], place), "i64"))
        rest = rest // w[f"count{axis}"]
    return rest, places


class WinogradKernel(ABC):
    """The products, and what surrounds them; where inputs come from and outputs go is the layout's."""

    names: tuple[str, ...] = NAMES

    def __init__(self, name: str, shape: Shape, target: Target) -> None:
        self.k = k = Kernel(name, target, shape.problem.dtype)
        self.shape, self.problem = shape, shape.problem
        axes = [f"{name}{axis}" for axis in range(self.problem.ndim) for name in AXIS_NAMES]
        names = (*self.names, *axes)
        values = k.words(*names)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, values, strict=True)}
        self.m = self.place_scratch()

    @abstractmethod
    def place_scratch(self) -> Value:
        """Lay out what comes before M in scratch; returns where M starts."""

    @abstractmethod
    def transform_run(self, cluster: Value, number: Value, place: Value, v: Value) -> None:
        """Transform a cluster's channels of ``run`` tiles from ``number`` on into V of a block, from ``place`` on."""

    @abstractmethod
    def inverse_run(
        self, lanes: tuple[int, ...], stored: int, number: Value, place: Value, bias: Value, channel: Value
    ) -> None:
        """Transform ``run`` tiles of M back, add the bias, activate, and store them."""

    # -- where a tile lies
    def origin(self, number: Value) -> tuple[Value, list[Value]]:
        """The picture and the first output position along each axis of a tile."""
        return tile_origin(self.k, self.w, self.problem.ndim, number)

    # -- the transform of the inputs
    def write_transforms(self) -> None:
        """Items are runs of tiles, of each cluster; the fused way, V is the thread's own and holds one block."""
        k, w, several = self.k, self.w, self.shape.clusters > 1
        runs = w["tiles"] // w["run"]
        with k.loop(k.first, k.last) as item:
            cluster = item // runs if several else k.integer(0)
            number = (item % runs if several else item) * w["run"]
            shared = k.at(w["workspace"], (number // w["block_tiles"]) * self.v_size())
            v = k.select(w["fused"].ne(0), self.own_v(), shared)
            self.transform_run(cluster, number, number % w["block_tiles"], v)

    def v_size(self) -> Value:
        """Elements of V for one block of tiles."""
        return self.w["block_tiles"] * (self.shape.points * self.shape.row)

    def own_v(self) -> Value:
        """Where V starts in scratch, behind M and a row that the products may write for nothing."""
        shape = self.shape
        return self.k.at(self.m, self.w["block_tiles"] * (shape.points * shape.width) + shape.width)

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
        """Items are blocks of tiles and chunks of output blocks (of clusters, where there are several).

        Which of them is innermost is for the words to say: `block_step` and `chunk_step` items apart.
        """
        k, w, shape = self.k, self.w, self.shape
        with k.loop(k.first, k.last) as item:
            block = (item // w["block_step"]) % w["blocks"]
            start = block * w["block_tiles"]
            count = k.minimum(w["tiles"] - start, w["block_tiles"])
            fused = w["fused"].ne(0)
            v = k.select(fused, self.own_v(), k.at(w["workspace"], block * self.v_size()))

            def transform(cluster: Value | None) -> None:
                runs = start // w["run"]
                if cluster is not None:
                    runs = runs + cluster * (w["tiles"] // w["run"])
                k.call("run0", "void", k.args, runs, runs + count // w["run"], k.scratch)

            low = ((item // w["chunk_step"]) % w["chunks"]) * w["chunk"]
            if shape.clusters == 1:
                with k.when(fused):
                    transform(None)
                with k.loop(low, k.minimum(low + w["chunk"], w["out_blocks"])) as out_block:
                    self.multiply(out_block, start, count, v)
            else:
                own = shape.cluster * shape.blocks.count
                with k.loop(low, k.minimum(low + w["chunk"], k.integer(shape.clusters))) as cluster:
                    transform(cluster)
                    with k.loop(cluster * own, (cluster + 1) * own, nonempty=True) as out_block:
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
        place = group % self.shape.cluster if self.shape.clusters > 1 else group
        first = k.at(v, place * (self.problem.in_channels // groups))

        def write(lanes: tuple[int, ...], stored: int) -> None:
            self.products(lanes, u, first, count)
            with k.loop(0, count, self.w["run"], nonempty=True) as place:
                self.inverse_run(lanes, stored, start + place, place, bias, channel)

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
        """M[point] = V[point] @ U[point] for every point, in runs of nearly equal length of up to ROWS tiles.

        An odd number of rows is made even, to halve the code: the row too much is overwritten by what comes next, or
        is the spare one behind M; it reads what lies there.
        """
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
                k.switch(
                    (rows + 1) // 2, range(1, ROWS // 2 + 1), lambda r: self.product(lanes, 2 * r, source, right, sink)
                )

    def product(self, lanes: tuple[int, ...], rows: int, left: Value, right: Value, result: Value) -> None:
        """A few rows of the matrix product, all in registers."""
        k, shape, width = self.k, self.shape, sum(lanes)
        starts = [sum(lanes[:v]) for v in range(len(lanes))]
        sums = [[k.var(k.zero(n)) for n in lanes] for _ in range(rows)]
        flat = [total for row in sums for total in row]
        channels = self.problem.in_channels // self.problem.groups
        u_bytes = shape.points * shape.depth * shape.blocks.lanes * k.bytes

        def terms(tap: Value | int, channel: Value) -> None:
            weights = k.at(right, (channel + tap * channels if len(shape.summed) > 1 else channel) * width)
            data = k.at(left, channel + tap * shape.padded if len(shape.summed) > 1 else channel)
            vectors = [k.load_vector(k.at(weights, at), n) for at, n in zip(starts, lanes, strict=True)]
            fetch_stream(k, weights, lanes, rows, u_bytes)
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
