"""The loop nest of Winograd's algorithm that both layouts share: transforms along axes, and the products.

``winograd`` has the idea; it and ``winograd_planar`` say where inputs come from and where outputs go.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from polyconv.geometry import product
from polyconv.run.cpu.algorithms.blocks import fetch_stream
from polyconv.run.cpu.algorithms.cook_toom import Matrix
from polyconv.run.cpu.algorithms.record import FIXED_WORDS
from polyconv.run.cpu.algorithms.winograd_tiles import ROWS, Shape
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.target import Target

NAMES = (
    *FIXED_WORDS, "starts: ptr", "runs: ptr", "places: ptr", "tiles", "block_tiles", "blocks", "run", "chunk",
    "together", "out_blocks", "v_point", "m_point", "m_block", "batch_stride", "out_batch_stride",
)  # fmt: skip
AXIS_NAMES = ("count", "at", "size", "stride", "out_size", "out_stride")  # strides in bytes


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


class Place(NamedTuple):
    """A block of output channels: its phase, number within its group, bias, weights, first input and output channel."""

    phase: Value
    inner: Value
    bias: Value
    u: Value
    inputs: Value
    channel: Value


class Terms(NamedTuple):
    """What a point's products sum: its runs of channels (first, last + 1), and how many channels in all."""

    first: Value
    last: Value
    depth: Value


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
        self, lanes: tuple[int, ...], stored: int, m: Value, number: Value, tile: Value, place: Place
    ) -> None:
        """Transform ``run`` tiles of M back, add the bias, activate, and store them."""

    # -- the transforms of one vector of one tile
    def forward(self, load: Callable[[Value, int], Value], v: Value) -> None:
        """Of inputs: ``load`` gives a point of a plane (plane 0, unless three axes are short), V begins at ``v``.

        The first of three axes is transformed where the planes then lie.
        """
        k, shape, stride = self.k, self.shape, self.w["v_point"]
        matrices = [(axis, found.data) for axis, found in enumerate(shape.short) if found]
        with k.loop(0, shape.planes) as plane:
            into = k.at(v, plane * product(shape.flat) * stride)

            def store(point: int, value: Value) -> None:
                k.store_vector(value, k.at(into, stride * point), align=64)

            along_axes(k, matrices[bool(shape.deep) :], shape.flat, partial(load, plane), store)
        if shape.deep:
            self.across(shape.deep.data, v, stride, k.lanes)

    def backward(self, m: Value, lanes: int, store: Callable[[Value, int, Value], None]) -> None:
        """Of products, vectors of so many lanes from ``m`` on: ``store`` is given each output of each plane."""
        k, shape, stride = self.k, self.shape, self.w["m_point"]
        matrices = [(axis, found.inverse) for axis, found in enumerate(shape.short) if found]
        if shape.deep:
            self.across(shape.deep.inverse, m, stride, lanes)
        with k.loop(0, shape.deep.outputs if shape.deep else 1) as plane:
            source = k.at(m, plane * product(shape.flat) * stride)

            def load(point: int) -> Value:
                return k.load_vector(k.at(source, stride * point), lanes)

            along_axes(k, matrices[bool(shape.deep) :], shape.flat, load, partial(store, plane))

    def across(self, matrix: Matrix, base: Value, stride: Value, lanes: int) -> None:
        """All points of some planes, multiplied along the axis of the planes, in place."""
        k, each = self.k, product(self.shape.flat)
        with k.loop(0, each, nonempty=True) as point:
            column = k.at(base, point * stride)

            def load(plane: int) -> Value:
                return k.load_vector(k.at(column, stride * (plane * each)), lanes)

            def store(plane: int, value: Value) -> None:
                k.store_vector(value, k.at(column, stride * (plane * each)))

            along_axes(k, [(0, matrix)], (len(matrix[0]),), load, store)

    # -- where a tile lies
    def origin(self, number: Value) -> tuple[Value, list[Value]]:
        """The picture and the first output position along each axis of a tile."""
        return tile_origin(self.k, self.w, self.problem.ndim, number)

    def inner(self, phase: Value) -> tuple[Value, Value]:
        """Of an inner phase its first output along a row, and how much more its inputs are shifted."""
        number = len(self.shape.phases) * self.problem.ndim + phase
        return self._pair(number, 0), self._pair(number, 1)

    def first(self, phase: Value, axis: int) -> Value:
        """The first output of a phase along an axis."""
        return self._pair(phase * self.problem.ndim + axis, 0)

    def shift(self, phase: Value, axis: int) -> Value:
        """Where the input lies that a phase's position 0 reads first, along an axis."""
        return self._pair(phase * self.problem.ndim + axis, 1)

    def _pair(self, number: Value, which: int) -> Value:
        return self.k.load(self.k.word_at(self.w["places"], number * 2 + which), "i64")

    def runs_before(self, phase: Value, point: Value) -> Value:
        """How many runs of channels come before a point of a phase, of all phases (`Shape.runs`)."""
        return self.k.load(self.k.word_at(self.w["runs"], (phase * self.shape.products + point) * 2), "i64")

    def depth_before(self, phase: Value, point: Value | int) -> Value:
        """How many terms the products of all points before this one have, of all phases."""
        k, shape = self.k, self.shape
        if shape.is_even:
            return k.integer(0) + point * (len(shape.summed) * shape.inputs)
        return k.load(k.word_at(self.w["runs"], (phase * shape.products + point) * 2 + 1), "i64")

    # -- the transform of the inputs
    def write_transforms(self) -> None:
        """Items are runs of tiles, of each cluster; V is the thread's own and holds one block."""
        k, w, several = self.k, self.w, self.shape.clusters > 1
        runs = w["tiles"] // w["run"]
        with k.loop(k.first, k.last) as item:
            cluster = item // runs if several else k.integer(0)
            number = (item % runs if several else item) * w["run"]
            self.transform_run(cluster, number, number % w["block_tiles"], self.v())

    def v(self) -> Value:
        """Where V starts in scratch, behind M."""
        return self.k.at(self.m, self.w["m_block"] * self.w["together"])

    # -- the products
    def write_products(self) -> None:
        """Items are chunks of output blocks (of clusters, where there are several), and blocks of tiles in each."""
        k, w, shape = self.k, self.w, self.shape
        with k.loop(k.first, k.last) as item:
            start = item % w["blocks"] * w["block_tiles"]
            count = k.minimum(w["tiles"] - start, w["block_tiles"])

            def transform(cluster: Value | None) -> None:
                runs = start // w["run"]
                if cluster is not None:
                    runs = runs + cluster * (w["tiles"] // w["run"])
                k.call("transform", "void", k.args, runs, runs + count // w["run"], k.scratch)

            low = item // w["blocks"] * w["chunk"]
            if shape.clusters == 1:
                transform(None)
                self.multiply(low, k.minimum(low + w["chunk"], w["out_blocks"]), start, count)
            else:
                own = shape.cluster * shape.blocks.count
                with k.loop(low, k.minimum(low + w["chunk"], k.integer(shape.clusters))) as cluster:
                    transform(cluster)
                    self.multiply(cluster * own, (cluster + 1) * own, start, count)

    def multiply(self, low: Value, high: Value, start: Value, count: Value) -> None:
        """Blocks of output channels for one block of tiles, ``together`` at a time.

        Point by point through those, so that V of a point is read from beyond the caches once for all of them; M holds
        the products of all.
        """
        k, w, shape = self.k, self.w, self.shape
        with k.loop(low, high, w["together"]) as first:
            last = k.minimum(first + w["together"], high)
            with k.loop(0, shape.products, nonempty=True) as point, k.loop(first, last, nonempty=True) as out_block:
                place, later = self.place_of(out_block), self.after(out_block, point, first, last)
                row = point % shape.points if shape.inner > 1 else point
                left = k.at(self.v(), row * w["v_point"] + place.inputs)
                result = k.at(self.m, (out_block - first) * w["m_block"] + point * w["m_point"])
                before = self.depth_before(place.phase, point)
                depth = self.depth_before(place.phase, point + 1) - before
                skipped = before - self.depth_before(place.phase, 0)
                source = Terms(self.runs_before(place.phase, point), self.runs_before(place.phase, point + 1), depth)

                def products(lanes: tuple[int, ...], stored: int) -> None:
                    self.products(lanes, source, k.at(place.u, skipped * sum(lanes)), left, result, count, later)

                self.by_width(place, products)
            with k.loop(first, last, nonempty=True) as out_block:
                place = self.place_of(out_block)
                m = k.at(self.m, (out_block - first) * w["m_block"])

                def inverse(lanes: tuple[int, ...], stored: int) -> None:
                    with k.loop(0, count, w["run"], nonempty=True) as tile:
                        self.inverse_run(lanes, stored, m, start + tile, tile, place)

                self.by_width(place, inverse)

    def after(self, out_block: Value, point: Value, first: Value, last: Value) -> Value:
        """Where the weights lie that are read next."""
        k, blocks = self.k, self.shape.blocks
        more = out_block + 1 < last
        place = self.place_of(k.select(more, out_block + 1, first))
        width = k.integer(sum(blocks.main if blocks.full else blocks.tail))
        if blocks.full and blocks.tail:
            width = k.select(place.inner < blocks.full, width, k.integer(sum(blocks.tail)))
        before = self.depth_before(place.phase, k.select(more, point, point + 1)) - self.depth_before(place.phase, 0)
        return k.at(place.u, before * width)

    def place_of(self, out_block: Value) -> Place:
        """Where a block of output channels has its weights, and what it reads."""
        k, shape, blocks, groups = self.k, self.shape, self.shape.blocks, self.problem.groups
        number = out_block // blocks.count if groups * len(shape.phases) > 1 else k.integer(0)
        inner = out_block % blocks.count if groups * len(shape.phases) > 1 else out_block
        phase, group = (number, k.integer(0)) if groups == 1 else (k.integer(0), number)
        lane = group * blocks.lanes + inner * sum(blocks.main)
        before = self.depth_before(phase, 0)
        mine = self.depth_before(phase, shape.products) - before
        member = group % shape.cluster if shape.clusters > 1 else group
        return Place(
            phase,
            inner,
            k.at(self.w["packed"], lane),
            k.at(self.w["packed"], before * blocks.lanes + lane * mine + blocks.lanes * groups),
            member * shape.inputs,
            group * blocks.channels + inner * sum(blocks.main),
        )

    def by_width(self, place: Place, write: Callable[[tuple[int, ...], int], None]) -> None:
        """The code for a block's width; ``write`` is given its vectors, and how many lanes of the last are stored."""
        blocks = self.shape.blocks
        if blocks.full and blocks.tail:
            self.k.choose(
                place.inner < blocks.full,
                lambda: write(blocks.main, blocks.main[-1]),
                lambda: write(blocks.tail, blocks.last_count),
            )
        elif blocks.full:
            write(blocks.main, blocks.main[-1])
        else:
            write(blocks.tail, blocks.last_count)

    def products(
        self,
        lanes: tuple[int, ...],
        terms: Terms,
        right: Value,
        left: Value,
        result: Value,
        count: Value,
        later: Value,
    ) -> None:
        """M = V @ U at one point for one block, in runs of nearly equal length of up to ROWS tiles.

        An odd number of rows is made even, to halve the code: the row too much is overwritten by what comes next, or
        is the spare one behind M; it reads what lies there.
        """
        k, shape = self.k, self.shape
        runs, pairs = (count + (ROWS - 1)) // ROWS, (count + 1) // 2
        with k.loop(0, runs, nonempty=True) as run:
            low = run * pairs // runs * 2
            rows = k.minimum((run + 1) * pairs // runs * 2, count) - low
            source, sink = k.at(left, low * shape.row), k.at(result, low * shape.width)
            part = (runs + (sum(lanes) * k.bytes - 1)) // runs
            mine = k.byte_at(later, run * part * terms.depth)
            k.switch(
                (rows + 1) // 2,
                range(1, ROWS // 2 + 1),
                lambda r: self.product(lanes, 2 * r, terms, source, right, sink, mine, part),
            )

    def product(
        self,
        lanes: tuple[int, ...],
        rows: int,
        terms: Terms,
        left: Value,
        right: Value,
        result: Value,
        later: Value,
        share: Value,
    ) -> None:
        """A few rows of the matrix product, all in registers.

        Weights that do not stay in the L2 are asked for one product ahead: each run asks for its share of them (from
        ``later`` on, ``share`` bytes a turn), so that reading them is spread over all.
        """
        k, shape, width = self.k, self.shape, sum(lanes)
        starts = [sum(lanes[:v]) for v in range(len(lanes))]
        sums = [[k.var(k.zero(n)) for n in lanes] for _ in range(rows)]
        flat = [total for row in sums for total in row]
        fetches = shape.u_bytes > k.target.l2_bytes // 2 and not k.target.slow_vectors

        def multiply(data: Value, channel: Value, turn: Value) -> None:
            weights = k.at(right, turn * width)
            vectors = [k.load_vector(k.at(weights, at), n) for at, n in zip(starts, lanes, strict=True)]
            fetch_stream(k, weights, lanes, rows, shape.u_bytes)
            if fetches:
                k.prefetch(k.byte_at(later, turn * share), locality=2)
            for row, totals in enumerate(sums):
                value = k.load(k.at(k.at(data, channel), row * shape.row))
                for vector, total, n in zip(vectors, totals, lanes, strict=True):
                    total.value = k.fma(vector, k.broadcast(value, n), total.value)

        if shape.is_even and (shape.joins or len(shape.summed) == 1):
            with k.loop(0, len(shape.summed) * shape.inputs, carry=flat, nonempty=True) as channel:
                multiply(left, channel, channel)
        else:
            listed, turn = k.word_at(self.w["runs"], 2 * len(shape.used) + 2), k.var(k.integer(0))
            with k.loop(terms.first, terms.last, carry=[*flat, turn]) as run:
                data = k.at(left, k.load(k.word_at(listed, run * 2), "i64"))
                length = k.load(k.word_at(listed, run * 2 + 1), "i64")
                with k.loop(0, length, carry=flat, nonempty=True) as channel:
                    multiply(data, channel, turn.value + channel)
                turn.value = turn.value + length
        for row, totals in enumerate(sums):
            for at, total in zip(starts, totals, strict=True):
                k.store_vector(total.value, k.at(result, row * shape.width + at))


def along_axes(
    k: Kernel,
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
            for place, value in enumerate(_combined(k, matrix, data)):
                point = (*line[:axis], place, *line[axis + 1 :])
                if step == len(matrices) - 1:
                    store(places[point], value)
                else:
                    found[point] = value
        values, grid, numbers = found, after, places


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
