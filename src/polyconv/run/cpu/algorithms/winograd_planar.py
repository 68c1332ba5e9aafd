"""Winograd's algorithm for channels_first arrays: tiles in a row are fed from a small turned strip of their input.

A run is some tiles side by side along the last axis. For each vector of channels the rows that the run reads are turned
in registers into a strip of scratch, position by position with the channels side by side and zeros on padding; there
the transforms work as they do for pixels. Outputs go the same way back: a strip of the run's outputs for each vector of
output channels, turned and written plane by plane. Tiles beyond the end of a row fill up its last run; their outputs
are not written.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

from polyconv.geometry import product
from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.record import (
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    ceil_div,
    rows_contiguous,
    table_of,
    words,
)
from polyconv.run.cpu.algorithms.tiles import tile_starts
from polyconv.run.cpu.algorithms.winograd_kernel import NAMES, WinogradKernel, along_axes
from polyconv.run.cpu.algorithms.winograd_tiles import (
    Tile,
    cost,
    cut_work,
    grain,
    obstacle,
    pack,
    packing,
    reason,
    rounding,
    shape_of_tiles,
    variants,
)
from polyconv.run.cpu.emit import Value, join
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

COLUMNS = 44  # output positions of a run, about: its strip stays in the L1 cache


def fits(problem: Problem, target: Target) -> str | None:
    """Planes."""
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    return obstacle(problem, target)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: ``transform`` transforms runs, ``run0`` calls it for a block of them, and multiplies."""
    shape = shape_of_tiles(problem, tile, target)
    first, second = PlaneKernel("transform", shape, target), PlaneKernel("run0", shape, target)
    first.write_transforms()
    second.write_products()
    return join([first.k, second.k])


class PlaneKernel(WinogradKernel):
    """Inputs and outputs through turned strips."""

    names = (*NAMES, "channel_stride", "plane", "columns", "out_columns", "used_columns", "sinks_at", "m_at")

    def place_scratch(self) -> Value:
        """The strip of inputs, then that of outputs."""
        k = self.k
        self.strip, self.sink = k.scratch, k.byte_at(k.scratch, self.w["sinks_at"])
        return k.byte_at(k.scratch, self.w["m_at"])

    # -- inputs
    def transform_run(self, cluster: Value, number: Value, place: Value, v: Value) -> None:
        """Turn the run's input and transform its tiles, one vector of channels after the other."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        base = k.byte_at(w["x"], picture * w["batch_stride"] + cluster * w["channel_stride"] * shape.channels)
        target = k.at(v, place * shape.row)
        whole, rest = divmod(shape.channels, shape.lanes)
        with k.loop(0, len(shape.summed)) as tap:
            origin = self.tap_origin(tap, places)
            sink = k.at(target, tap * shape.padded)

            def vector(channel: Value, count: int) -> None:
                planes = k.byte_at(base, channel * w["channel_stride"])
                self.fill(planes, origin, count)
                with k.loop(0, w["run"], nonempty=True) as step:
                    column = self.start(number + step) - places[-1]
                    self.transform_tile(column, k.at(k.at(sink, channel), step * shape.row))

            if whole:
                with k.loop(0, whole * shape.lanes, shape.lanes, nonempty=True) as channel:
                    vector(channel, shape.lanes)
            if rest:
                vector(k.integer(whole * shape.lanes), rest)

    def tap_origin(self, tap: Value, places: list[Value]) -> list[Value]:
        """The input position of a run's first point, moved along summed axes by a tap."""
        origin: list[Value] = []
        for axis in reversed(range(self.problem.ndim)):
            first = places[axis] - self.w[f"before{axis}"]
            taps = self.problem.kernel_size[axis]
            if self.shape.short[axis] is None and taps > 1:
                first = first + (tap % taps) * self.problem.dilation[axis]
                tap = tap // taps
            origin.insert(0, first)
        return origin

    def start(self, number: Value) -> Value:
        """A tile's first output position along the last axis."""
        k, w, last = self.k, self.w, self.problem.ndim - 1
        return k.load(k.word_at(w["starts"], w[f"at{last}"] + number % w[f"count{last}"]), "i64")

    def fill(self, planes: Value, origin: list[Value], channels: int) -> None:
        """The strip: for each row of points, all columns; zeros on padding."""
        k, w, shape, last = self.k, self.w, self.shape, self.problem.ndim - 1
        with k.loop(0, product(shape.grid[:-1]), nonempty=True) as row:
            rest, offset, valid = row, k.integer(0), None
            for axis in reversed(range(last)):
                position = origin[axis] + (rest % shape.grid[axis]) * self.problem.dilation[axis]
                rest = rest // shape.grid[axis]
                offset = offset + position * w[f"stride{axis}"]
                inside = position.below(w[f"size{axis}"])
                valid = inside if valid is None else valid & inside
            # a row on padding is one whose columns are all beyond the end
            size = w[f"size{last}"] if valid is None else k.select(valid, w[f"size{last}"], k.integer(0))
            source = k.byte_at(planes, offset)
            sink = k.at(self.strip, row * w["columns"] * shape.lanes)
            with k.loop(0, w["columns"], k.lanes, nonempty=True) as column:
                self.turn_in(k.at(source, origin[last] + column), origin[last] + column, size, channels, sink, column)

    def turn_in(self, source: Value, first: Value, size: Value, channels: int, sink: Value, column: Value) -> None:
        """A vector of positions of every channel becomes a vector of channels of every position."""
        k, lanes = self.k, self.shape.lanes
        mask = (k.indices(lanes) + k.broadcast(first, lanes)).below(k.broadcast(size, lanes))
        rows = [
            k.load_vector(k.byte_at(source, self.w["channel_stride"] * channel), mask=mask)
            if channel < channels
            else k.zero()
            for channel in range(lanes)
        ]
        for position, values in enumerate(k.transpose(rows)):
            k.store_vector(values, k.at(sink, (column + position) * lanes), align=64)

    def transform_tile(self, column: Value, sink: Value) -> None:
        """One vector of channels of one tile, from the strip."""
        k, w, shape = self.k, self.w, self.shape
        base = k.at(self.strip, column * shape.lanes)
        stride = w["v_point"]

        def load(point: int) -> Value:
            row, along = divmod(point, shape.grid[-1])
            place = w["columns"] * row + along * self.problem.dilation[-1]
            return k.load_vector(k.at(base, place * shape.lanes), align=64)

        def store(point: int, value: Value) -> None:
            k.store_vector(value, k.at(sink, stride * point), align=64)

        short = [(axis, found.data) for axis, found in enumerate(shape.short) if found]
        along_axes(k, short, shape.grid, load, store)

    # -- outputs
    def inverse_run(
        self, lanes: tuple[int, ...], stored: int, m: Value, number: Value, place: Value, bias: Value, channel: Value
    ) -> None:
        """Transform the run's tiles back into a strip for each vector of channels, and turn that into planes."""
        k, w = self.k, self.w
        picture, places = self.origin(number)
        base = k.byte_at(w["out"], picture * w["out_batch_stride"])
        at = 0
        for index, n in enumerate(lanes):
            added = k.load_vector(k.at(bias, at), n)
            with k.loop(0, w["run"], nonempty=True) as step:
                column = self.start(number + step) - places[-1]
                self.inverse_tile(n, k.at(m, (place + step) * self.shape.width + at), added, column)
            used = stored if index == len(lanes) - 1 else n
            self.write_planes(n, used, k.byte_at(base, (channel + at) * w["plane"]), places)
            at += n

    def inverse_tile(self, lanes: int, source: Value, added: Value, column: Value) -> None:
        """One vector of channels of one tile of M, into the strip."""
        k, w, shape = self.k, self.w, self.shape
        stride = w["m_point"]
        sink = k.at(self.sink, column * lanes)

        def load(point: int) -> Value:
            return k.load_vector(k.at(source, stride * point), lanes)

        def store(output: int, value: Value) -> None:
            row, along = divmod(output, shape.outputs[-1])
            place = w["out_columns"] * row + along * self.problem.dilation[-1]
            k.store_vector(activate(k, self.problem.activation, value + added), k.at(sink, place * lanes))

        short = [(axis, found.inverse) for axis, found in enumerate(shape.short) if found]
        along_axes(k, short, shape.grid, load, store)

    def write_planes(self, lanes: int, used: int, planes: Value, places: list[Value]) -> None:
        """The strip of one vector of channels, row by row, into their planes."""
        k, w, shape, last = self.k, self.w, self.shape, self.problem.ndim - 1
        left = k.minimum(w[f"out_size{last}"] - places[last], w["used_columns"])  # the next run may be another thread's
        with k.loop(0, product(shape.outputs[:-1]), nonempty=True) as row:
            rest, offset, columns = row, places[last] * self.k.bytes, left
            for axis in reversed(range(last)):
                position = places[axis] + (rest % shape.outputs[axis]) * self.problem.dilation[axis]
                rest = rest // shape.outputs[axis]
                offset = offset + position * w[f"out_stride{axis}"]
                columns = k.select(position.below(w[f"out_size{axis}"]), columns, k.integer(0))
            sink = k.byte_at(planes, offset)
            source = k.at(self.sink, row * w["out_columns"] * lanes)
            with k.loop(0, columns, lanes) as column:
                mask = k.mask(columns - column, lanes)
                rows = [k.load_vector(k.at(source, (column + place) * lanes), lanes) for place in range(lanes)]
                for index, values in enumerate(k.transpose(rows)[:used]):
                    k.store_vector(values, k.at(k.byte_at(sink, w["plane"] * index), column), mask=mask)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _runs(outputs: int, dilation: int, starts: list[int], size: int) -> tuple[int, list[int]]:
    """Tiles of a run along the last axis, and the starts of a row's tiles filled up to whole runs.

    The ``dilation`` tiles that interleave cover outputs without a gap: they stay together.

    >>> _runs(4, 1, [0, 4, 8], 9), _runs(4, 2, [0, 8, 1], 9)
    ((3, [0, 4, 8]), (3, [0, 1, 8]))
    >>> run, starts = _runs(4, 5, [rest + 20 * group for rest in range(5) for group in range(5)], 100)
    >>> run, len(starts), starts[:run]
    (10, 30, [0, 1, 2, 3, 4, 20, 21, 22, 23, 24])
    """
    period = outputs * dilation if outputs > 1 else 1
    groups, together = ceil_div(size, period), dilation if outputs > 1 else 1
    runs = max(1, ceil_div(groups * period, COLUMNS))
    each = max(1, ceil_div(groups, runs))
    if each >= groups:
        return len(starts), sorted(starts)
    runs = ceil_div(groups, each)
    return each * together, [group * period + rest for group in range(runs * each) for rest in range(together)]


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Runs, blocks of them, and whether each thread transforms for itself."""
    shape = shape_of_tiles(problem, tile, target)
    item = shape.item
    starts = tile_starts(shape.outputs, problem.dilation, sizes.out_size)
    run, starts[-1] = _runs(shape.outputs[-1], problem.dilation[-1], starts[-1], sizes.out_size[-1])
    counts = [len(found) for found in starts]
    tiles = sizes.batch * product(counts)
    out_blocks = shape.blocks.count * problem.groups
    work = cut_work(shape, target, tiles, run, threads)
    reach = shape.grid[-1] - 1
    spread = max(starts[-1][:run]) - starts[-1][0]
    dilation = problem.dilation[-1]
    columns = _whole(spread + reach * dilation + 1, shape.lanes)
    used_columns = spread + (shape.outputs[-1] - 1) * dilation + 1
    out_columns = _whole(used_columns, shape.lanes)
    sinks_at = product(shape.grid[:-1]) * columns * shape.lanes * item
    m_at = sinks_at + product(shape.outputs[:-1]) * out_columns * shape.lanes * item
    plane = sizes.out_plane * item
    table = table_of(itertools.chain(*starts))
    arguments = words(
        table, tiles, work.block, work.blocks, run, work.chunk, work.together, out_blocks, work.v_point, work.m_point,
        work.m_block, sizes.x_strides[0] * item, plane * problem.out_channels, sizes.x_strides[1] * item, plane,
        columns, out_columns, used_columns, sinks_at, m_at, *_axes(sizes, counts, item),
    )  # fmt: skip
    text = partial(reason, shape, tiles, work.block, f", {run} turned together")
    return Schedule(arguments, (Phase("run0", work.items),), m_at + work.bytes, 0, (table,), text)


def _whole(count: int, lanes: int) -> int:
    """Rounded up to whole vectors."""
    return ceil_div(count, lanes) * lanes


def _axes(sizes: Sizes, counts: Sequence[int], item: int) -> list[int]:
    """The words of every axis."""
    words_, at, out_stride = [], sum(counts), item
    for axis in reversed(range(len(counts))):
        at -= counts[axis]
        words_.append(
            [counts[axis], at, sizes.padding[axis][0], sizes.in_size[axis], sizes.x_strides[axis + 2] * item,
             sizes.out_size[axis], out_stride]
        )  # fmt: skip
        out_stride *= sizes.out_size[axis]
    return list(itertools.chain(*reversed(words_)))


WINOGRAD_PLANAR = Algorithm(
    "winograd_planar",
    fits,
    variants,
    emit,
    pack,
    schedule,
    cost,
    rows_contiguous,
    grain,
    packing,
    rounding=rounding,
    direct=False,
)
