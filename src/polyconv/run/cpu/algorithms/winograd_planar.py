"""Winograd's algorithm for channels_first arrays: tiles in a row are fed from a small turned strip of their input.

A run is some tiles side by side along the last axis. For each vector of channels the rows that the run reads are turned
in registers into a strip of scratch, position by position with the channels side by side and zeros on padding; there
the transforms work as they do for pixels. Outputs go the same way back: a strip of the run's outputs for each vector of
output channels, turned and written plane by plane. Tiles beyond the end of a row fill up its last run; their outputs
are not written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from polyconv.geometry import product
from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import winograd_axes
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE
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
from polyconv.run.cpu.algorithms.winograd_kernel import NAMES, Place, WinogradKernel
from polyconv.run.cpu.algorithms.winograd_tiles import (
    Tile,
    cost,
    cut_work,
    grain,
    obstacle,
    pack,
    packing,
    phase_places,
    reason,
    rounding,
    shape_of_tiles,
    variants,
)
from polyconv.run.cpu.emit import Value, join
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

COLUMNS = 44  # output positions of a run, about: its strip stays in the L1 cache
LONGEST = 66  # of a run where shorter ones would compute tiles that lie beyond the row


def fits(problem: Problem, target: Target) -> str | None:
    """Planes."""
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    reason = obstacle(problem, target)
    if reason is None and problem.op == "conv_transpose":
        last = winograd_axes.along(problem, problem.ndim - 1, variants(problem, target)[0].outputs[-1])
        if last.phases > 1 < last.parts:
            return f"of the {problem.kernel_size[-1]} taps along a row it would have to sum some"
    return reason


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
        phase, group = (cluster, k.integer(0)) if len(shape.phases) > 1 else (k.integer(0), cluster)
        base = k.byte_at(w["x"], picture * w["batch_stride"] + group * w["channel_stride"] * shape.channels)
        target = k.at(v, place * shape.row)
        whole, rest = divmod(shape.channels, shape.lanes)
        along = shape.axes[-1]
        inside = shape.inner if shape.inner > 1 else along.parts if along.short else 1  # that read one strip
        with k.loop(0, len(shape.summed), inside) as part:
            origin = self.part_origin(phase, part, places)

            def vector(channel: Value, count: int) -> None:
                planes = k.byte_at(base, channel * w["channel_stride"])
                self.fill(planes, origin, count)
                with k.loop(0, inside) as more, k.loop(0, w["run"], nonempty=True) as step:
                    more_shift = self.inner(more)[1] if shape.inner > 1 else more * along.part_step
                    column = (self.start(number + step) - places[-1]) * along.in_step + more_shift
                    sink = k.at(target, (part + more) * shape.padded)
                    self.transform_tile(column, k.at(k.at(sink, channel), step * shape.row))

            if whole:
                with k.loop(0, whole * shape.lanes, shape.lanes, nonempty=True) as channel:
                    vector(channel, shape.lanes)
            if rest:
                vector(k.integer(whole * shape.lanes), rest)

    def part_origin(self, phase: Value, part: Value, places: list[Value]) -> list[Value]:
        """The input position of a run's first point, for a part of the sum."""
        origin: list[Value] = []
        for axis, found in reversed(list(enumerate(self.shape.axes))):
            first = places[axis] * found.in_step + self.shift(phase, axis)
            if axis == self.problem.ndim - 1 and self.shape.inner > 1:
                part = part // self.shape.inner
            elif found.parts > 1:
                first = first + (part % found.parts) * found.part_step
                part = part // found.parts
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
                position = origin[axis] + (rest % shape.grid[axis]) * shape.axes[axis].point_step
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

    def transform_tile(self, column: Value, v: Value) -> None:
        """One vector of channels of one tile, from the strip."""
        k, w, shape = self.k, self.w, self.shape
        base, rows = k.at(self.strip, column * shape.lanes), product(shape.flat[:-1])

        def load(plane: Value, point: int) -> Value:
            row, along = divmod(point, shape.grid[-1])
            place = w["columns"] * (plane * rows + row) + along * shape.axes[-1].point_step
            return k.load_vector(k.at(base, place * shape.lanes), align=64)

        self.forward(load, v)

    # -- outputs
    def inverse_run(
        self, lanes: tuple[int, ...], stored: int, m: Value, number: Value, tile: Value, place: Place
    ) -> None:
        """Transform the run's tiles back into a strip for each vector of channels, and turn that into planes."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        base = k.byte_at(w["out"], picture * w["out_batch_stride"])
        at = 0
        for index, n in enumerate(lanes):
            added, used = k.load_vector(k.at(place.bias, at), n), stored if index == len(lanes) - 1 else n
            planes = k.byte_at(base, (place.channel + at) * w["plane"])
            self.at_planes(place.phase, places, partial(self.ask_for, planes, used))
            with k.loop(0, shape.inner) as inner, k.loop(0, w["run"], nonempty=True) as step:
                column = (self.start(number + step) - places[-1]) * shape.axes[-1].out_step
                source = k.at(m, inner * (w["m_point"] * shape.points) + (tile + step) * shape.width + at)
                self.inverse_tile(n, source, added, column + self.inner(inner)[0] if shape.inner > 1 else column)
            self.at_planes(place.phase, places, partial(self.write_planes, planes, n, used))
            at += n

    def inverse_tile(self, lanes: int, source: Value, added: Value, column: Value) -> None:
        """One vector of channels of one tile of M, into the strip."""
        k, w, shape = self.k, self.w, self.shape
        sink, rows = k.at(self.sink, column * lanes), product(shape.outputs[1:-1]) if shape.deep else 0

        def store(plane: Value, output: int, value: Value) -> None:
            row, along = divmod(output, shape.outputs[-1])
            place = w["out_columns"] * (plane * rows + row) + along * shape.axes[-1].apart * shape.axes[-1].out_step
            k.store_vector(activate(k, self.problem.activation, value + added), k.at(sink, place * lanes))

        self.backward(source, lanes, store)

    def at_planes(self, phase: Value, places: list[Value], write: Callable[[Value, Value, Value], None]) -> None:
        """For each row of a run's outputs: its number, where it starts in a plane, and how many columns it has."""
        k, w, shape, last = self.k, self.w, self.shape, self.problem.ndim - 1
        column = places[last] * shape.axes[last].out_step
        left = k.minimum(w[f"out_size{last}"] - column, w["used_columns"])  # the next run may be another thread's
        with k.loop(0, product(shape.outputs[:-1]), nonempty=True) as row:
            rest, offset, columns = row, column * k.bytes, left
            for axis in reversed(range(last)):
                along = shape.axes[axis]
                position = (places[axis] + (rest % shape.outputs[axis]) * along.apart) * along.out_step
                position = position + self.first(phase, axis)
                rest = rest // shape.outputs[axis]
                offset = offset + position * w[f"out_stride{axis}"]
                columns = k.select(position.below(w[f"out_size{axis}"]), columns, k.integer(0))
            write(row, offset, columns)

    def ask_for(self, planes: Value, used: int, row: Value, offset: Value, columns: Value) -> None:
        """Ask for the lines of some planes that a row of outputs will take: each is in a page of its own."""
        k = self.k
        with k.loop(0, columns, CACHE_LINE // k.bytes) as column:
            for index in range(used):
                plane = k.byte_at(planes, self.w["plane"] * index + offset)
                k.prefetch(k.at(plane, column), write=True)

    def write_planes(self, planes: Value, lanes: int, used: int, row: Value, offset: Value, columns: Value) -> None:
        """A row of the strip of one vector of channels, into their planes."""
        k, w = self.k, self.w
        source = k.at(self.sink, row * w["out_columns"] * lanes)
        with k.loop(0, columns, lanes) as column:
            mask = k.mask(columns - column, lanes)
            rows = [k.load_vector(k.at(source, (column + place) * lanes), lanes) for place in range(lanes)]
            for index, values in enumerate(k.transpose(rows)[:used]):
                k.store_vector(values, k.at(k.byte_at(planes, w["plane"] * index + offset), column), mask=mask)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _runs(outputs: int, dilation: int, starts: list[int], size: int, step: int = 1) -> tuple[int, list[int]]:
    """Tiles of a run along the last axis, and the starts of a row's tiles filled up to whole runs.

    Positions are a ``step`` apart in the inputs, or in the outputs.

    The ``dilation`` tiles that interleave cover outputs without a gap: they stay together.

    >>> _runs(4, 1, [0, 4, 8], 9), _runs(4, 2, [0, 8, 1], 9)
    ((3, [0, 4, 8]), (3, [0, 1, 8]))
    >>> _runs(4, 1, list(range(0, 60, 4)), 60)[0]  # one of fifteen tiles, not two of eight
    15
    >>> run, starts = _runs(4, 5, [rest + 20 * group for rest in range(5) for group in range(5)], 100)
    >>> run, len(starts), starts[:run]
    (10, 30, [0, 1, 2, 3, 4, 20, 21, 22, 23, 24])
    """
    period = outputs * dilation if outputs > 1 else 1
    groups, together = ceil_div(size, period), dilation if outputs > 1 else 1
    runs = max(1, ceil_div(groups * period * step, COLUMNS))
    each = max(1, ceil_div(groups, runs))
    if runs > 1:
        more = ceil_div(groups, runs - 1)
        if more * (runs - 1) < each * runs and more * period * step <= LONGEST:
            runs, each = runs - 1, more
    if each >= groups:
        return len(starts), sorted(starts)
    runs = ceil_div(groups, each)
    return each * together, [group * period + rest for group in range(runs * each) for rest in range(together)]


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Runs, blocks of them, and whether each thread transforms for itself."""
    shape = shape_of_tiles(problem, tile, target)
    item = shape.item
    starts, along = shape.starts(sizes.out_size), shape.axes[-1]
    positions, step = shape.positions(sizes.out_size)[-1], max(along.in_step, along.out_step)
    run, starts[-1] = _runs(shape.outputs[-1], along.apart, starts[-1], positions, step)
    counts = [len(found) for found in starts]
    tiles = sizes.batch * product(counts)
    out_blocks = shape.blocks.count * problem.groups
    work = cut_work(shape, target, tiles, run, threads)
    spread = max(starts[-1][:run]) - starts[-1][0]
    placed = phase_places(shape, sizes.padding)
    reach = (shape.grid[-1] - 1) * along.point_step + ((along.parts - 1) * along.part_step if along.short else 0)
    reach += max([int(shift) for shift in placed[-2 * shape.inner + 1 :: 2]])
    columns = _whole(spread * along.in_step + reach + 1, shape.lanes)
    used_columns = (spread + (shape.outputs[-1] - 1) * along.apart + 1) * along.out_step
    out_columns = _whole(used_columns, shape.lanes)
    sinks_at = product(shape.grid[:-1]) * columns * shape.lanes * item
    m_at = sinks_at + product(shape.outputs[:-1]) * out_columns * shape.lanes * item
    plane = sizes.out_plane * item
    table = table_of(itertools.chain(*starts))
    arguments = words(
        table, shape.runs, placed, tiles, work.block, work.blocks, run, work.chunk, work.together, out_blocks,
        work.v_point, work.m_point, work.m_block, sizes.x_strides[0] * item, plane * problem.out_channels,
        sizes.x_strides[1] * item, plane, columns, out_columns, used_columns, sinks_at, m_at,
        *_axes(sizes, counts, item),
    )  # fmt: skip
    text = partial(reason, shape, tiles, work.block, f", {run} turned together")
    return Schedule(arguments, (Phase("run0", work.items),), m_at + work.bytes, 0, (table, shape.runs, placed), text)


def _whole(count: int, lanes: int) -> int:
    """Rounded up to whole vectors."""
    return ceil_div(count, lanes) * lanes


def _axes(sizes: Sizes, counts: Sequence[int], item: int) -> list[int]:
    """The words of every axis."""
    words_, at, out_stride = [], sum(counts), item
    for axis in reversed(range(len(counts))):
        at -= counts[axis]
        words_.append(
            [counts[axis], at, sizes.in_size[axis], sizes.x_strides[axis + 2] * item,
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
