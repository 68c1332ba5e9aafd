"""Tiles to frequencies and back, in both layouts: what the dense and the depthwise Fourier algorithms share.

A tile is transformed row by row, from real numbers, into a strip of scratch, then along the axes before. Rows on
padding are zeros. A dilated axis is d interleaved pictures. With channels_first rows are turned in registers, 16
positions of 16 channels at a time. `fourier` has the idea.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from polyconv.geometry import product
from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.fft_code import (
    STRAIGHT,
    Complex,
    Index,
    Long,
    backward,
    complex_to_real,
    forward,
    real_to_complex,
)
from polyconv.run.cpu.algorithms.fourier_tiles import Shape
from polyconv.run.cpu.algorithms.record import FIXED_WORDS, Sizes, Table, pixels_contiguous, rows_contiguous, table_of
from polyconv.run.cpu.algorithms.tiles import tile_starts
from polyconv.run.cpu.algorithms.winograd_kernel import tile_origin
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

NAMES = (
    *FIXED_WORDS, "starts: ptr", "tiles", "batch_stride", "out_batch_stride", "channel_stride", "out_channel_stride",
)  # fmt: skip
AXIS_NAMES = ("count", "at", "before", "size", "stride", "out_size", "out_stride")  # strides in bytes
Put = Callable[[Index, Complex], None]


def reads(problem: Problem, sizes: Sizes) -> bool:
    """Pixels of contiguous channels, or planes of contiguous rows."""
    return pixels_contiguous(problem, sizes) if problem.layout == "channels_last" else rows_contiguous(problem, sizes)


class Part:
    """One function of the module, and where things lie."""

    names: tuple[str, ...] = NAMES
    first_axis = 0  # of the transformed axes but the last, the first that `axes_in` and `axes_out` handle

    def __init__(self, name: str, shape: Shape, target: Target) -> None:
        self.k = k = Kernel(name, target, shape.problem.dtype)
        self.shape, self.problem = shape, shape.problem
        self.planar = shape.problem.layout == "channels_first"
        names = (*self.names, *(f"{name}{axis}" for axis in range(shape.problem.ndim) for name in AXIS_NAMES))
        self.w = {n.removesuffix(": ptr"): value for n, value in zip(names, k.words(*names), strict=True)}
        self.real = shape.moved[-1]
        self.pitch = shape.pitch

    def origin(self, number: Value) -> tuple[Value, list[Value]]:
        """The picture and the first output position along each axis of a tile."""
        return tile_origin(self.k, self.w, self.problem.ndim, number)

    def row_place(
        self, row: Value, counts: tuple[int, ...], first: list[Value], kind: str
    ) -> tuple[Value, Value | None]:
        """The offset in bytes of one row of a tile along the axes but the last moved one; and whether it is there."""
        k, w = self.k, self.w
        offset, valid, rest = k.integer(0), None, row
        steps = dict(zip(self.shape.moved[:-1], counts, strict=True))
        for axis in reversed(range(self.problem.ndim)):
            if axis == self.real:
                continue
            position = first[axis]
            if axis in steps:
                position = position + (rest % steps[axis]) * self.problem.dilation[axis]
                rest = rest // steps[axis]
            offset = offset + position * w[f"{kind}stride{axis}"]
            inside = position.below(w[f"{kind}size{axis}"])
            valid = inside if valid is None else valid & inside
        return offset, valid

    def if_there(self, valid: Value | None, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """A branch; none where there is nothing to ask."""
        if valid is None:
            yes()
        else:
            self.k.choose(valid, yes, no)

    def long(self, count: int) -> Long:
        """A long transform, with its table and its room in scratch."""
        k, shape = self.k, self.shape
        return Long(k, count, k.at(self.w["packed"], shape.table_at(str(count))), k.at(k.scratch, shape.room_at))

    def half_turn(self, number: Index) -> tuple[Value, Value]:
        """Cosine and sine for one number of a long row."""
        k = self.k
        at = k.at(k.at(self.w["packed"], self.shape.table_at("row")), number * 2)
        return k.broadcast(k.load(at)), k.broadcast(k.load(k.at(at, 1)))

    def of_row(self, number: Index) -> Value:
        """The address of one real number of a long row in scratch."""
        return self.k.at(self.k.at(self.k.scratch, self.shape.row_at), number * self.shape.lanes)

    def load_complex(self, at: Value) -> Complex:
        """From scratch."""
        k, lanes = self.k, self.shape.lanes
        return k.load_vector(at, align=64), k.load_vector(k.at(at, lanes), align=64)

    def store_complex(self, value: Complex, at: Value) -> None:
        """Into scratch."""
        k, lanes = self.k, self.shape.lanes
        k.store_vector(value[0], at, align=64)
        k.store_vector(value[1], k.at(at, lanes), align=64)


class Forwards(Part):
    """Tiles of the input into V."""

    def tile_in(self, number: Value, channel: Value, sink: Value) -> None:
        """One vector of channels of one tile."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        first = [place - w[f"before{axis}"] for axis, place in enumerate(places)]
        base = k.byte_at(k.byte_at(w["x"], picture * w["batch_stride"]), channel * w["channel_stride"])
        direct = not shape.rows  # one axis: nothing but the one row
        with k.loop(0, product(shape.rows), nonempty=True) as row:
            offset, valid = self.row_place(row, shape.rows, first, "")
            line = k.at(k.scratch, row * self.pitch)

            def put(number: Index, value: Complex, line: Value = line) -> None:
                if direct:
                    self.put_frequency(value, sink, k.integer(number))
                else:
                    self.store_complex(value, k.at(line, number * (2 * shape.lanes)))

            def there(offset: Value = offset, put: Put = put) -> None:
                self.row_in(k.byte_at(base, offset), first[self.real], channel, put)

            def nothing(put: Put = put) -> None:
                with k.loop(0, shape.half, nonempty=True) as number:
                    put(number, (k.zero(), k.zero()))

            self.if_there(valid, there, nothing)
        self.axes_in(sink)

    def put_frequency(self, value: Complex, sink: Value, frequency: Value) -> None:
        """One frequency of a whole tile."""
        raise NotImplementedError

    def axes_in(self, sink: Value) -> None:
        """The axes before the real one, the first of them into V."""
        k, shape = self.k, self.shape
        for axis in reversed(range(self.first_axis, len(shape.rows))):
            length, inner, outer = shape.rows[axis], product(shape.rows[axis + 1 :]), product(shape.rows[:axis])
            with k.loop(0, outer * inner, nonempty=True) as line, k.loop(0, shape.half, nonempty=True) as place:
                start = (line // inner) * (length * inner) + line % inner
                at = k.at(k.scratch, start * self.pitch + place * (2 * shape.lanes))

                def load(n: Index, at: Value = at, inner: int = inner) -> Complex:
                    return self.load_complex(k.at(at, n * (inner * self.pitch)))

                def store(
                    n: Index, value: Complex, at: Value = at, inner: int = inner, axis: int = axis,
                    start: Value = start, place: Value = place,
                ) -> None:  # fmt: skip
                    if axis:
                        self.store_complex(value, k.at(at, n * (inner * self.pitch)))
                    else:
                        self.put_frequency(value, sink, (start + n * inner) * shape.half + place)

                if length > STRAIGHT:
                    self.long(length).forward(load, store)
                    continue
                for n, value in enumerate(forward(k, [load(n) for n in range(length)])):
                    store(n, value)

    # -- where inputs come from
    def row_in(self, base: Value, first: Value, channel: Value, put: Put) -> None:
        """One row of a tile, zeros on padding, transformed."""
        k, shape = self.k, self.shape
        if shape.half <= STRAIGHT:
            data = self.planes(base, first, channel) if self.planar else self.pixels(base, first, channel)
            for number, value in enumerate(real_to_complex(k, data)):
                put(number, value)
            return
        step = shape.lanes if self.planar else 1
        with k.loop(0, shape.length, step, nonempty=True) as start:
            vectors = (
                self.turned(base, first, channel, start) if self.planar else [self.pixel(base, first, channel, start)]
            )
            for number, vector in enumerate(vectors):
                k.store_vector(vector, self.of_row(start + number), align=64)

        def load(number: Index) -> Complex:
            c, s = self.half_turn(number)
            low = k.load_vector(self.of_row(number), align=64)
            high = k.load_vector(self.of_row(number + shape.half), align=64)
            # (low - i high)(c - i s)
            return low * c - high * s, (low * s + high * c) * -1.0

        self.long(shape.half).forward(load, put)

    def pixels(self, base: Value, first: Value, channel: Value) -> list[Value]:
        """All pixels of a row."""
        return [self.pixel(base, first, channel, step) for step in range(self.shape.length)]

    def pixel(self, base: Value, first: Value, channel: Value, step: Index) -> Value:
        """A pixel from its address, or that of the zeros."""
        k, w = self.k, self.w
        ragged = self.problem.in_channels % self.shape.lanes
        mask = k.mask(k.integer(self.problem.in_channels) - channel) if ragged else None
        position = first + step * self.problem.dilation[self.real]
        at = k.byte_at(base, position * w[f"stride{self.real}"])
        zeros = k.at(w["packed"], self.shape.zeros_at)
        return k.load_vector(k.select(position.below(w[f"size{self.real}"]), at, zeros), mask=mask)

    def planes(self, base: Value, first: Value, channel: Value) -> list[Value]:
        """All positions of a row."""
        length = self.shape.length
        starts = range(0, length, self.shape.lanes)
        return [value for start in starts for value in self.turned(base, first, channel, start)][:length]

    def turned(self, base: Value, first: Value, channel: Value, start: Index) -> list[Value]:
        """A vector of positions of a vector of channels, turned; channels beyond the last are the last once more."""
        k, w, lanes = self.k, self.w, self.shape.lanes
        most = k.integer(self.problem.in_channels - 1) - channel
        begin = first + start
        mask = (k.indices(lanes) + k.broadcast(begin, lanes)).below(k.broadcast(w[f"size{self.real}"], lanes))
        if self.shape.length % lanes and isinstance(start, int):
            mask = mask & k.mask(min(self.shape.length - start, lanes), lanes)
        rows = []
        for number in range(lanes):
            which = k.minimum(k.integer(number), most) if self.problem.in_channels % lanes else k.integer(number)
            rows.append(k.load_vector(k.at(k.byte_at(base, which * w["channel_stride"]), begin), mask=mask))
        return k.transpose(rows)


class Backwards(Part):
    """Tiles of M into the output."""

    def tile_out(self, number: Value, block: Value, source: Value) -> None:
        """One vector of channels of one tile."""
        k, w, shape, lanes = self.k, self.w, self.shape, self.shape.lanes
        picture, places = self.origin(number)
        outputs = self.shape.group_outputs
        inner = block % shape.group_blocks
        channel = (block // shape.group_blocks) * outputs + inner * lanes
        left = k.integer(outputs) - inner * lanes  # channels of the group from here on
        base = k.byte_at(k.byte_at(w["out"], picture * w["out_batch_stride"]), channel * w["out_channel_stride"])
        bias = k.load_vector(k.at(w["packed"], block * lanes), align=64)
        self.axes_out(source)
        with k.loop(0, product(shape.out_rows), nonempty=True) as row:
            offset, valid = self.row_place(row, shape.out_rows, places, "out_")

            def there(offset: Value = offset, row: Value = row) -> None:
                line = k.at(k.scratch, self.strip_row(row, len(shape.rows)) * self.pitch)
                self.row_out(source, line, bias, k.byte_at(base, offset), places[self.real], left)

            self.if_there(valid, there, lambda: None)

    def frequency_pitch(self) -> Index:
        """Elements from one frequency of a whole tile to the next."""
        raise NotImplementedError

    def strip_row(self, row: Value, axes: int) -> Value:
        """Where a row of outputs lies in scratch, for an index over the outputs along the first few axes."""
        k, shape = self.k, self.shape
        found, rest, pitch = k.integer(0), row, product(shape.rows[axes:])
        for axis in reversed(range(axes)):
            place = rest if axis == 0 else rest % shape.out_rows[axis]
            found = found + place * pitch
            rest = rest // shape.out_rows[axis]
            pitch *= shape.rows[axis]
        return found

    def axes_out(self, source: Value) -> None:
        """The axes before the real one, the first of them from M; beyond that only rows with outputs count."""
        k, shape = self.k, self.shape
        for axis in range(self.first_axis, len(shape.rows)):
            length, kept = shape.rows[axis], shape.out_rows[axis]
            inner, outer = product(shape.rows[axis + 1 :]), product(shape.out_rows[:axis])
            with k.loop(0, outer * inner, nonempty=True) as line, k.loop(0, shape.half, nonempty=True) as place:
                start = self.strip_row(line // inner, axis) + line % inner
                at = k.at(k.scratch, start * self.pitch + place * (2 * shape.lanes))
                first = k.at(source, (start * shape.half + place) * self.frequency_pitch())

                def load(
                    n: Index, at: Value = at, first: Value = first, inner: int = inner, axis: int = axis
                ) -> Complex:
                    if axis == 0:
                        return self.load_complex(k.at(first, self.frequency_pitch() * n * (inner * shape.half)))
                    return self.load_complex(k.at(at, n * (inner * self.pitch)))

                def store(n: Index, value: Complex, at: Value = at, inner: int = inner) -> None:
                    self.store_complex(value, k.at(at, n * (inner * self.pitch)))

                if length > STRAIGHT:
                    self.long(length).backward(load, store)
                    continue
                for n, value in enumerate(backward(k, [load(n) for n in range(length)])[:kept]):
                    store(n, value)

    # -- where outputs go
    def row_out(self, source: Value, line: Value, bias: Value, base: Value, first: Value, left: Value) -> None:
        """The last transform of a row, the bias, the activation; what lies beyond the border is not written."""
        k, shape = self.k, self.shape
        wanted = shape.outputs[self.real]
        write = self.write_planes if self.planar else self.write_pixel
        step = shape.lanes if self.planar else 1

        def load(number: Index) -> Complex:
            if shape.rows:
                return self.load_complex(k.at(line, number * (2 * shape.lanes)))
            return self.load_complex(k.at(source, self.frequency_pitch() * number))

        def done(value: Value) -> Value:
            return activate(k, self.problem.activation, value + bias)

        if shape.half <= STRAIGHT:
            found = [done(value) for value in complex_to_real(k, [load(n) for n in range(shape.half)], wanted)]
            for start in range(0, wanted, step):
                write(found[start : start + step], base, first, start, left)
            return

        def store(number: Index, value: Complex) -> None:
            c, s = self.half_turn(number)
            re, im = value
            k.store_vector(re * c - im * s, self.of_row(number), align=64)
            k.store_vector((re * s + im * c) * -1.0, self.of_row(number + shape.half), align=64)

        self.long(shape.half).backward(load, store)
        with k.loop(0, wanted, step, nonempty=True) as begin:
            values = [done(k.load_vector(self.of_row(begin + number), align=64)) for number in range(step)]
            write(values, base, first, begin, left)

    def write_pixel(self, values: list[Value], base: Value, first: Value, start: Index, left: Value) -> None:
        """One pixel; beyond the border a vector of scratch."""
        k, w = self.k, self.w
        ragged = self.shape.group_outputs % self.shape.lanes
        position = first + start * self.problem.dilation[self.real]
        pixel = k.byte_at(base, position * w[f"out_stride{self.real}"])
        pixel = k.select(position.below(w[f"out_size{self.real}"]), pixel, k.at(k.scratch, self.shape.trash_at))
        k.store_vector(values[0], pixel, mask=k.mask(left) if ragged else None)

    def write_planes(self, values: list[Value], base: Value, first: Value, start: Index, left: Value) -> None:
        """Up to a vector of positions, turned back, plane by plane; channels beyond the group's are not written."""
        k, w, lanes = self.k, self.w, self.shape.lanes
        ragged = self.shape.group_outputs % lanes
        most = k.minimum(k.integer(self.shape.outputs[self.real]), w[f"out_size{self.real}"] - first)
        count = most - start
        at = k.at(base, first + start)
        for number, value in enumerate(k.transpose([*values, *[k.zero()] * (lanes - len(values))])):
            stored = k.select(k.integer(number) < left, count, k.integer(0)) if ragged else count
            k.store_vector(value, k.byte_at(at, w["out_channel_stride"] * number), mask=k.mask(stored))


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def place_words(shape: Shape, sizes: Sizes) -> tuple[int, list[int | Table], list[int]]:
    """Tiles in all, the words of `NAMES` but the fixed ones, and those of every axis."""
    problem, item = shape.problem, shape.problem.numpy_dtype().itemsize
    starts = tile_starts(shape.outputs, problem.dilation, sizes.out_size)
    counts = [len(found) for found in starts]
    tiles = sizes.batch * product(counts)
    planar = problem.layout == "channels_first"
    axes, at, out_stride = [], sum(counts), item if planar else problem.out_channels * item
    for axis in reversed(range(problem.ndim)):
        at -= counts[axis]
        stride = sizes.x_strides[axis + (2 if planar else 1)] * item
        axes.append(
            [counts[axis], at, sizes.padding[axis][0], sizes.in_size[axis], stride, sizes.out_size[axis], out_stride]
        )
        out_stride *= sizes.out_size[axis]
    table = table_of(itertools.chain(*starts))
    picture = out_stride * problem.out_channels if planar else out_stride
    strides = [sizes.x_strides[0] * item, picture, sizes.x_strides[1] * item if planar else item]
    return tiles, [table, tiles, *strides, out_stride if planar else item], list(itertools.chain(*reversed(axes)))


def saving(shape: Shape, tiles: int) -> str:
    """What `explain` says first."""
    problem = shape.problem
    saved = product(problem.kernel_size) * product(shape.outputs) / (4 * shape.frequencies)
    size = 2 * shape.frequencies * shape.depth * shape.blocks * shape.lanes * problem.numpy_dtype().itemsize
    lengths = "x".join(map(str, shape.tile.lengths))
    return (
        f"{saved:.2g} times fewer multiplications with {tiles} transforms of {lengths}, "
        f"transformed weights {size / 2**20:.1f} MiB"
    )
