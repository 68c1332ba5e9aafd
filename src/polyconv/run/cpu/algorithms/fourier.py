"""Dense convolution of stride 1 with long kernels: products of Fourier transforms, tile by tile.

Along each axis with several taps a tile of N inputs is transformed, multiplied with the transformed kernel frequency by
frequency, and transformed back; of the N outputs the first N - taps + 1 are those of the convolution (*overlap and
save*), the others have wrapped around. Summed over input channels the products are one matrix product of complex
numbers for each frequency: that is where the time goes. A real tile of N x N points has N * N / 2 frequencies, whose
products are 4 real ones each: 7x7 with N = 16 multiplies 512 times for 100 outputs, where the definition needs 4900.

    run0, for each tile and vector of channels:   V[frequency, tile, channel] = transform of the tile's inputs
    run1, for each frequency:                     M[frequency, tile, out] = V[frequency] @ U[frequency]
    run2, for each tile and vector of channels:   out = transform back of M[:, tile] + bias, activation

V and M lie in the workspace; where that would be more than a bound, the tiles go through in several rounds, counted by
a word of the workspace. So the transformed weights, many times as large as the weights, are read once a round.

A tile is transformed row by row, from real numbers, into a strip of scratch, then along the axes before. Rows on
padding are zeros. A dilated axis is d interleaved pictures. With channels_first rows are turned in registers, 16
positions of 16 channels at a time.

The result is not exact on integers; ``error_bound`` states the error. The order of every sum depends on the place in
the picture alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

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
from polyconv.run.cpu.algorithms.fourier_tiles import (
    Shape,
    Tile,
    cost,
    obstacle,
    pack,
    rounds_of,
    shape_of_tile,
    variants,
)
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    pixels_contiguous,
    words,
)
from polyconv.run.cpu.algorithms.winograd_planar import rows_contiguous
from polyconv.run.cpu.algorithms.winograd_tiles import tile_starts
from polyconv.run.cpu.emit import Kernel, Value, join
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

NAMES = (
    *FIXED_WORDS, "starts: ptr", "tiles", "round_tiles", "rounds", "v_pitch", "m_pitch", "m_at", "batch_stride",
    "out_batch_stride", "channel_stride", "out_channel_stride",
)  # fmt: skip
AXIS_NAMES = ("count", "at", "before", "size", "stride", "out_size", "out_stride")  # strides in bytes
ROWS = 14  # tiles held in registers by the matrix product
Put = Callable[[Index, Complex], None]
STATE_BYTES = 128  # of the workspace, before V: the number of the round


def reads(problem: Problem, sizes: Sizes) -> bool:
    """Pixels of contiguous channels, or planes of contiguous rows."""
    return pixels_contiguous(problem, sizes) if problem.layout == "channels_last" else rows_contiguous(problem, sizes)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: the three phases, and two that count rounds."""
    shape = shape_of_tile(problem, tile, target)
    forwards, products = _Forwards("run0", shape, target), _Products("run1", shape, target)
    backwards, begin, after = (
        _Backwards("run2", shape, target),
        _Part("begin", shape, target),
        _Part("next", shape, target),
    )
    forwards.write()
    products.write()
    backwards.write()
    begin.k.store(begin.k.integer(0), begin.w["workspace"])
    after.k.store(after.k.load(after.w["workspace"], "i64") + 1, after.w["workspace"])
    return join([part.k for part in (forwards, products, backwards, begin, after)])


class _Part:
    """One function of the module, and where things lie."""

    def __init__(self, name: str, shape: Shape, target: Target) -> None:
        self.k = k = Kernel(name, target, shape.problem.dtype)
        self.shape, self.problem = shape, shape.problem
        self.planar = shape.problem.layout == "channels_first"
        names = (*NAMES, *(f"{name}{axis}" for axis in range(shape.problem.ndim) for name in AXIS_NAMES))
        self.w = {n.removesuffix(": ptr"): value for n, value in zip(names, k.words(*names), strict=True)}
        self.real = shape.moved[-1]
        self.pitch = shape.pitch

    def round_start(self) -> Value:
        """The first tile of this round."""
        k, w = self.k, self.w
        several = w["rounds"] > 1
        start = k.var(k.integer(0))
        with k.when(several, carry=[start]):
            start.value = k.load(w["workspace"], "i64") * w["round_tiles"]
        return start.value

    def v(self) -> Value:
        """V[frequency][tile][real, imaginary][channel]."""
        return self.k.byte_at(self.w["workspace"], STATE_BYTES)

    def m(self) -> Value:
        """M[frequency][tile][block][real, imaginary][lane]."""
        return self.k.byte_at(self.w["workspace"], self.w["m_at"])

    def m_row(self) -> int:
        """Elements of M for one frequency of one tile."""
        return self.shape.blocks * 2 * self.shape.lanes

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


class _Forwards(_Part):
    """Tiles of the input into V."""

    def write(self) -> None:
        """Items are (tile of the round, vector of channels)."""
        k, w, shape = self.k, self.w, self.shape
        vectors = shape.padded // shape.lanes
        begin = self.round_start()
        with k.loop(k.first, k.last) as item:
            place, channel = item // vectors, (item % vectors) * shape.lanes
            number = begin + place
            with k.when(number < w["tiles"]):
                sink = k.at(self.v(), place * (2 * shape.padded) + channel)
                self.tile(number, channel, sink)

    def tile(self, number: Value, channel: Value, sink: Value) -> None:
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
                self.row(k.byte_at(base, offset), first[self.real], channel, put)

            def nothing(put: Put = put) -> None:
                with k.loop(0, shape.half, nonempty=True) as number:
                    put(number, (k.zero(), k.zero()))

            self.if_there(valid, there, nothing)
        self.other_axes(sink)

    def put_frequency(self, value: Complex, sink: Value, frequency: Value) -> None:
        """One frequency of V."""
        k = self.k
        at = k.at(sink, frequency * self.w["v_pitch"])
        k.store_vector(value[0], at, align=64)
        k.store_vector(value[1], k.at(at, self.shape.padded), align=64)

    def other_axes(self, sink: Value) -> None:
        """The axes before the real one, the first of them into V."""
        k, shape = self.k, self.shape
        for axis in reversed(range(len(shape.rows))):
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
    def row(self, base: Value, first: Value, channel: Value, put: Put) -> None:
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


class _Products(_Part):
    """M = V @ U for every frequency."""

    def write(self) -> None:
        """Items are frequencies."""
        k, w, shape = self.k, self.w, self.shape
        pairs = (k.minimum(w["tiles"] - self.round_start(), w["round_tiles"]) + 1) // 2
        runs = (pairs + (ROWS // 2 - 1)) // (ROWS // 2)
        weights = k.at(w["packed"], shape.weights_at)
        width = 2 * shape.lanes
        with k.loop(k.first, k.last) as frequency, k.loop(0, shape.blocks, nonempty=True) as block:
            left = k.at(self.v(), frequency * w["v_pitch"])
            if self.problem.groups > 1:
                left = k.at(left, (block // shape.group_blocks) * shape.depth)
            right = k.at(weights, (frequency * shape.blocks + block) * (shape.depth * width))
            result = k.at(self.m(), frequency * w["m_pitch"] + block * width)
            with k.loop(0, runs, nonempty=True) as run:
                low = run * pairs // runs
                count = (run + 1) * pairs // runs - low
                source, sink = k.at(left, low * (4 * shape.padded)), k.at(result, low * (2 * self.m_row()))
                k.switch(count, range(1, ROWS // 2 + 1), lambda r: self.product(2 * r, source, right, sink))

    def product(self, rows: int, left: Value, right: Value, result: Value) -> None:
        """A few rows of the complex matrix product, all in registers."""
        k, shape, lanes = self.k, self.shape, self.shape.lanes
        sums = [(k.var(k.zero()), k.var(k.zero())) for _ in range(rows)]
        with k.loop(0, shape.depth, carry=[part for pair in sums for part in pair], nonempty=True) as channel:
            at = k.at(right, channel * (2 * lanes))
            re, im = k.load_vector(at, align=64), k.load_vector(k.at(at, lanes), align=64)
            minus = im * -1.0
            data = k.at(left, channel)
            for row, (real, imaginary) in enumerate(sums):
                a = k.broadcast(k.load(k.at(data, row * 2 * shape.padded)))
                b = k.broadcast(k.load(k.at(data, (row * 2 + 1) * shape.padded)))
                real.value = k.fma(b, minus, k.fma(a, re, real.value))
                imaginary.value = k.fma(b, re, k.fma(a, im, imaginary.value))
        for row, (real, imaginary) in enumerate(sums):
            self.store_complex((real.value, imaginary.value), k.at(result, row * self.m_row()))


class _Backwards(_Part):
    """Tiles of M into the output."""

    def write(self) -> None:
        """Items are (tile of the round, vector of output channels)."""
        k, w, shape = self.k, self.w, self.shape
        begin = self.round_start()
        with k.loop(k.first, k.last) as item:
            place, block = item // shape.blocks, item % shape.blocks
            number = begin + place
            with k.when(number < w["tiles"]):
                source = k.at(self.m(), place * self.m_row() + block * (2 * shape.lanes))
                self.tile(number, block, source)

    def tile(self, number: Value, block: Value, source: Value) -> None:
        """One vector of channels of one tile."""
        k, w, shape, lanes = self.k, self.w, self.shape, self.shape.lanes
        picture, places = self.origin(number)
        outputs = self.problem.out_channels // self.problem.groups
        inner = block % shape.group_blocks
        channel = (block // shape.group_blocks) * outputs + inner * lanes
        left = k.integer(outputs) - inner * lanes  # channels of the group from here on
        base = k.byte_at(k.byte_at(w["out"], picture * w["out_batch_stride"]), channel * w["out_channel_stride"])
        bias = k.load_vector(k.at(w["packed"], block * lanes), align=64)
        self.other_axes(source)
        with k.loop(0, product(shape.out_rows), nonempty=True) as row:
            offset, valid = self.row_place(row, shape.out_rows, places, "out_")

            def there(offset: Value = offset, row: Value = row) -> None:
                line = k.at(k.scratch, self.strip_row(row, len(shape.rows)) * self.pitch)
                self.row(source, line, bias, k.byte_at(base, offset), places[self.real], left)

            self.if_there(valid, there, lambda: None)

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

    def other_axes(self, source: Value) -> None:
        """The axes before the real one, the first of them from M; beyond that only rows with outputs count."""
        k, shape = self.k, self.shape
        for axis in range(len(shape.rows)):
            length, kept = shape.rows[axis], shape.out_rows[axis]
            inner, outer = product(shape.rows[axis + 1 :]), product(shape.out_rows[:axis])
            with k.loop(0, outer * inner, nonempty=True) as line, k.loop(0, shape.half, nonempty=True) as place:
                start = self.strip_row(line // inner, axis) + line % inner
                at = k.at(k.scratch, start * self.pitch + place * (2 * shape.lanes))
                first = k.at(source, (start * shape.half + place) * self.w["m_pitch"])

                def load(
                    n: Index, at: Value = at, first: Value = first, inner: int = inner, axis: int = axis
                ) -> Complex:
                    if axis == 0:
                        return self.load_complex(k.at(first, self.w["m_pitch"] * n * (inner * shape.half)))
                    return self.load_complex(k.at(at, n * (inner * self.pitch)))

                def store(n: Index, value: Complex, at: Value = at, inner: int = inner) -> None:
                    self.store_complex(value, k.at(at, n * (inner * self.pitch)))

                if length > STRAIGHT:
                    self.long(length).backward(load, store)
                    continue
                for n, value in enumerate(backward(k, [load(n) for n in range(length)])[:kept]):
                    store(n, value)

    # -- where outputs go
    def row(self, source: Value, line: Value, bias: Value, base: Value, first: Value, left: Value) -> None:
        """The last transform of a row, the bias, the activation; what lies beyond the border is not written."""
        k, shape = self.k, self.shape
        wanted = shape.outputs[self.real]
        write = self.write_planes if self.planar else self.write_pixel
        step = shape.lanes if self.planar else 1

        def load(number: Index) -> Complex:
            if shape.rows:
                return self.load_complex(k.at(line, number * (2 * shape.lanes)))
            return self.load_complex(k.at(source, self.w["m_pitch"] * number))

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
        ragged = (self.problem.out_channels // self.problem.groups) % self.shape.lanes
        position = first + start * self.problem.dilation[self.real]
        pixel = k.byte_at(base, position * w[f"out_stride{self.real}"])
        pixel = k.select(position.below(w[f"out_size{self.real}"]), pixel, k.at(k.scratch, self.shape.trash_at))
        k.store_vector(values[0], pixel, mask=k.mask(left) if ragged else None)

    def write_planes(self, values: list[Value], base: Value, first: Value, start: Index, left: Value) -> None:
        """Up to a vector of positions, turned back, plane by plane; channels beyond the group's are not written."""
        k, w, lanes = self.k, self.w, self.shape.lanes
        ragged = (self.problem.out_channels // self.problem.groups) % lanes
        most = k.minimum(k.integer(self.shape.outputs[self.real]), w[f"out_size{self.real}"] - first)
        count = most - start
        at = k.at(base, first + start)
        for number, value in enumerate(k.transpose([*values, *[k.zero()] * (lanes - len(values))])):
            stored = k.select(k.integer(number) < left, count, k.integer(0)) if ragged else count
            k.store_vector(value, k.byte_at(at, w["out_channel_stride"] * number), mask=k.mask(stored))


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Tiles, rounds, and where V and M lie."""
    shape = shape_of_tile(problem, tile, target)
    item = problem.numpy_dtype().itemsize
    starts = tile_starts(shape.outputs, problem.dilation, sizes.out_size)
    counts = [len(found) for found in starts]
    tiles = sizes.batch * product(counts)
    one, rounds = rounds_of(shape, tiles)
    # a vector more than the tiles take, so that frequencies do not lie a power of two apart
    v_pitch = one * 2 * shape.padded + shape.lanes
    m_pitch = one * 2 * shape.blocks * shape.lanes + shape.lanes
    m_at = STATE_BYTES + shape.frequencies * v_pitch * item
    planar = problem.layout == "channels_first"
    out_unit = item if planar else problem.out_channels * item
    axes, at, out_stride = [], sum(counts), out_unit
    for axis in reversed(range(problem.ndim)):
        at -= counts[axis]
        stride = sizes.x_strides[axis + (2 if planar else 1)] * item
        axes.append(
            [counts[axis], at, sizes.padding[axis][0], sizes.in_size[axis], stride, sizes.out_size[axis], out_stride]
        )
        out_stride *= sizes.out_size[axis]
    table = np.array(list(itertools.chain(*starts)), np.int64)
    plane = out_stride if planar else item
    arguments = words(
        table, tiles, one, rounds, v_pitch, m_pitch, m_at, sizes.x_strides[0] * item,
        out_stride * (problem.out_channels if planar else 1), sizes.x_strides[1] * item if planar else item, plane,
        *itertools.chain(*reversed(axes)),
    )  # fmt: skip
    steps = [Phase("run0", one * shape.padded // shape.lanes), Phase("run1", shape.frequencies)]
    steps.append(Phase("run2", one * shape.blocks))
    phases = steps if rounds == 1 else [Phase("begin", 1), *steps, *[Phase("next", 1), *steps] * (rounds - 1)]
    workspace = m_at + shape.frequencies * m_pitch * item
    saved = product(problem.kernel_size) * product(shape.outputs) / (4 * shape.frequencies)
    weights = 2 * shape.frequencies * shape.depth * shape.blocks * shape.lanes * item
    reason = (
        f"{saved:.2g} times fewer multiplications with {tiles} transforms of {'x'.join(map(str, tile.lengths))} "
        f"in {rounds} round(s); transformed weights {weights / 2**20:.1f} MiB"
    )
    scratch = (shape.trash_at + shape.lanes) * item
    return Schedule(arguments, tuple(phases), scratch, workspace, (table,), reason)


FOURIER = Algorithm("fourier", obstacle, variants, emit, pack, schedule, cost, reads)
