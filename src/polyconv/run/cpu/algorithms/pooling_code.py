"""The loops of max and average pooling, for both layouts.

Pooling is separable: the rows of a window are combined first, then the columns of the result, so that neighbouring
windows share the first step. Channels last holds the combined columns of a tile of outputs in registers, a vector of
channels each; where they are too many, or large windows share none, each output is combined on its own, four vectors of
channels at a time. Channels first combines rows into one padded row in scratch, vectors along the width, and then takes
strided vectors from that. Where a row has few outputs (one, for global pooling) channels first combines the window of
one output in as many planes as a vector has lanes: the columns in the lanes, folded at the end into one vector.

Maximum: padding is minus infinity and a NaN wins. Average: sums are divided (not multiplied by a rounded inverse) by
how many positions the window has, from a table for each axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import inf, prod
from typing import NamedTuple

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.record import FIXED_WORDS
from polyconv.run.cpu.algorithms.sliding import ceil_steps
from polyconv.run.cpu.algorithms.turn import every
from polyconv.run.cpu.emit import SUFFIX, Kernel, Value, Var, lanes_of
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

NAMES = (*FIXED_WORDS, "counts: ptr", "batch_stride", "out_batch_stride", "channel_stride", "out_channel_stride",
         "runs", "run", "row_before", "row_length")  # fmt: skip
AXIS_NAMES = ("size", "out_size", "before", "stride", "out_stride", "box", "boxes", "counts_at")
VECTORS = 4  # of channels together, where each output is combined on its own
UNROLLED = 8  # taps of a row written out (channels first), rows of a window (channels last)
ALONE = 25  # positions of a window from which on, where windows share none, each output is combined on its own
SHUFFLED = 4  # largest stride whose vectors are shuffled together; beyond, one output at a time


class Tile(NamedTuple):
    """Outputs of a tile, channels last; 0 where each is combined on its own, and for channels first.

    ``together``: one window of a vector's number of planes at a time (channels first), without scratch.
    """

    pixels: int
    together: bool = False


def columns_of(problem: Problem, pixels: int) -> list[int]:
    """The input columns that so many neighbouring outputs read, from the first's first."""
    stride, dilation = problem.stride[-1], problem.dilation[-1]
    return sorted({p * stride + tap * dilation for p in range(pixels) for tap in range(problem.kernel_size[-1])})


def tile_of(problem: Problem, target: Target) -> Tile:
    """The fewest outputs, a power of two, that read hardly more columns each than eight do.

    Columns are held in registers, at most three quarters of them. Tiles share what their windows have in common; beyond
    that, longer ones only read more places of memory at a time, unless there are few channels to a place.
    """
    if problem.layout == "channels_first" or problem.kernel_size[-1] > 3 * target.vector_registers:
        return Tile(0)
    columns = {pixels: len(columns_of(problem, pixels)) for pixels in range(2, 9)}
    held = [pixels for pixels, count in columns.items() if count <= target.vector_registers * 3 // 4]
    if not held:
        return Tile(0)
    vectors = -(-problem.in_channels // target.lanes(problem.dtype))
    shares = problem.stride[-1] <= (problem.kernel_size[-1] - 1) * problem.dilation[-1]
    if not shares and prod(problem.kernel_size) >= ALONE and vectors >= 2 * VECTORS:
        return Tile(0)
    best = min(columns[pixels] / pixels for pixels in held)
    enough = [p for p in (2, 4) if p in held and columns[p] <= 1.25 * best * p and p * vectors >= held[-1]]
    return Tile(enough[0] if enough else held[-1])


def write(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function over items (picture, box of outputs, run of channels)."""
    kind = _Last if problem.layout == "channels_last" else _Together if tile.together else _First
    return kind(problem, tile, target).module()


class _Pool:
    """What both layouts share: items, windows, combining, dividing."""

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        self.problem, self.tile, self.ndim = problem, tile, problem.ndim
        self.k = k = Kernel("run0", target, problem.dtype)
        axes = [f"{name}{axis}" for axis in range(self.ndim) for name in AXIS_NAMES]
        names = (*NAMES, *axes)
        self.w = {name.removesuffix(": ptr"): value for name, value in zip(names, k.words(*names), strict=True)}
        self.average = problem.op == "avg_pool"

    def module(self) -> str:
        k, w = self.k, self.w
        with k.loop(k.first, k.last) as item:
            rest, run = item // w["runs"], item % w["runs"]
            low: list[Value] = []
            for axis in reversed(range(self.ndim)):
                low.insert(0, (rest % w[f"boxes{axis}"]) * w[f"box{axis}"])
                rest = rest // w[f"boxes{axis}"]
            high = [k.minimum(at + w[f"box{axis}"], w[f"out_size{axis}"]) for axis, at in enumerate(low)]
            first = run * w["run"]
            last = k.minimum(first + w["run"], self.problem.in_channels)
            x, out = k.at(w["x"], rest * w["batch_stride"]), k.at(w["out"], rest * w["out_batch_stride"])
            self.box(x, out, first, last, low, high)
        return k.module()

    def box(self, x: Value, out: Value, first: Value, last: Value, low: list[Value], high: list[Value]) -> None:
        raise NotImplementedError

    # ---- windows ---------------------------------------------------------------------------------------------------
    def outer(
        self, x: Value, out: Value, low: list[Value], high: list[Value], write: Callable[[_Row], None],
        rows: tuple[_Range, ...] = (), count: Value | None = None,
    ) -> None:  # fmt: skip
        """Loop over the outputs of all axes but the last; ``write`` gets the ranges of taps that meet data."""
        k, w, axis = self.k, self.w, len(rows)
        if axis == self.ndim - 1:
            write(_Row(x, out, rows, count))
            return
        with k.loop(low[axis], high[axis]) as place:
            inner = k.at(out, place * w[f"out_stride{axis}"])
            more = self.counted(axis, place, count)
            self.outer(x, inner, low, high, write, (*rows, self.range(axis, place)), more)

    def range(self, axis: int, place: Value) -> _Range:
        """The taps of an output that meet data along an axis."""
        k, problem, size = self.k, self.problem, self.w[f"size{axis}"]
        dilation = problem.dilation[axis]
        first = place * problem.stride[axis] - self.w[f"before{axis}"]
        low = ceil_steps(k, k.integer(0) - first, dilation)
        high = k.minimum(ceil_steps(k, size - first, dilation), problem.kernel_size[axis])
        return _Range(axis, first, low, high)

    def counted(self, axis: int, place: Value, count: Value | None) -> Value | None:
        """Positions of a window so far, times those along this axis; None where nothing is divided."""
        if not self.average:
            return None
        mine = self.k.load(self.k.at(self.w["counts"], self.w[f"counts_at{axis}"] + place))
        return mine if count is None else count * mine

    def over(self, rows: Sequence[_Range], x: Value, sums: list[Var], write: Callable[[Value], None]) -> None:
        """Nested loops over the taps of some axes."""
        if not rows:
            write(x)
            return
        k, found = self.k, rows[0]
        with k.loop(found.low, found.high, carry=sums) as tap:
            position = found.first + tap * self.problem.dilation[found.axis]
            self.over(rows[1:], k.at(x, position * self.w[f"stride{found.axis}"]), sums, write)

    # ---- arithmetic ------------------------------------------------------------------------------------------------
    def start(self, lanes: int | None = None) -> Value:
        """What a window begins with."""
        return self.k.number(0.0 if self.average else -inf, lanes)

    def combine(self, total: Value, value: Value) -> Value:
        """The sum; or the larger, where a NaN wins (and of a zero either sign)."""
        k = self.k
        if self.average:
            return total + value
        name = f"llvm.maximum.v{lanes_of(total.type)}{SUFFIX[k.scalar]}"
        k.declarations.add(f"declare {total.type} @{name}({total.type}, {total.type})")
        return k.emit(f"call nsz {total.type} @{name}({value!r}, {total!r})", total.type)

    def finish(self, total: Value, count: Value | None) -> Value:
        """Divide and activate."""
        return activate(self.k, self.problem.activation, total if count is None else total / count, apart=())


class _Range(NamedTuple):
    """Taps low .. high - 1 of an axis meet data; tap 0 would read position ``first``."""

    axis: int
    first: Value
    low: Value
    high: Value


class _Row:
    """One row of outputs along the last axis."""

    def __init__(self, x: Value, out: Value, rows: tuple[_Range, ...], count: Value | None) -> None:
        self.x, self.out, self.rows, self.count = x, out, rows, count


class _Last(_Pool):
    """Channels last: a vector of channels in the lanes."""

    def box(self, x: Value, out: Value, first: Value, last: Value, low: list[Value], high: list[Value]) -> None:
        def row(row: _Row) -> None:
            if self.tile.pixels:
                self.row_of_tiles(row, first, last, low[-1], high[-1])
            else:
                self.row_of_outputs(row, first, last, low[-1], high[-1])

        self.outer(x, out, low, high, row)

    def over_channels(
        self, first: Value, last: Value, vectors: int, write: Callable[[Value, int, Value | None], None]
    ) -> None:
        """Channels in groups of vectors, then single vectors, then what remains under a mask."""
        k, lanes = self.k, self.k.lanes
        at = k.var(first)
        if vectors > 1:
            with k.loop(first, last - (vectors * lanes - 1), vectors * lanes, carry=[at]) as channel:
                write(channel, vectors, None)
                at.value = channel + vectors * lanes
        with k.loop(at.value, last - (lanes - 1), lanes, carry=[at]) as channel:
            write(channel, 1, None)
            at.value = channel + lanes
        if self.problem.in_channels % lanes:
            rest = at.value
            with k.when(rest < last):
                write(rest, 1, k.mask(last - rest))

    # ---- small windows -------------------------------------------------------------------------------------------
    @property
    def unrolled(self) -> bool:
        """Are the rows of a window that lies on data written out."""
        return prod(self.problem.kernel_size[:-1]) <= UNROLLED

    def row_of_tiles(self, row: _Row, first: Value, last: Value, low: Value, high: Value) -> None:
        """Tiles along the last axis, the last one moved back to overlap."""
        k, w, width, channels = self.k, self.w, self.tile.pixels, self.problem.in_channels
        reach = columns_of(self.problem, width)[-1]
        with k.loop(low, high, width) as start:
            place = k.maximum(k.minimum(start, high - width), low)
            count = k.minimum(k.integer(width), high - low)
            column = place * self.problem.stride[-1] - w[f"before{self.ndim - 1}"]
            inside = (column >= 0) & (column + reach < w[f"size{self.ndim - 1}"]) & (count >= width)
            for taps in row.rows if self.unrolled else ():
                inside = inside & taps.low.eq(0) & taps.high.eq(self.problem.kernel_size[taps.axis])
            x, out = k.at(row.x, column * channels), k.at(row.out, place * channels)

            def block(channel: Value, vectors: int, mask: Value | None) -> None:
                def body(inside: bool) -> None:
                    spot = _Row(k.at(x, channel), k.at(out, channel), row.rows, row.count)
                    self.tile_of_outputs(spot, place, column, count, mask, inside)

                k.choose(inside, lambda: body(True), lambda: body(False))

            self.over_channels(first, last, 1, block)

    def tile_of_outputs(
        self, row: _Row, place: Value, column: Value, count: Value, mask: Value | None, inside: bool
    ) -> None:
        """Combine the rows of each column, then the columns of each output."""
        k, problem, size = self.k, self.problem, self.w[f"size{self.ndim - 1}"]
        channels = problem.in_channels
        columns = {at: k.var(self.start()) for at in columns_of(problem, self.tile.pixels)}

        def whole_row(x: Value, first: bool) -> None:
            for at, total in columns.items():
                value = k.load_vector(k.at(x, at * channels), mask=mask)
                total.value = value if first else self.combine(total.value, value)

        def one_row(x: Value) -> None:
            for at, total in columns.items():

                def use(at: int = at, total: Var = total) -> None:
                    value = k.load_vector(k.at(x, at * channels), mask=mask)
                    total.value = self.combine(total.value, value)

                if inside:
                    use()
                else:
                    with k.when((column + at).below(size), carry=[total]):
                        use()

        if inside and self.unrolled:
            for number, taps in enumerate(product(*(range(problem.kernel_size[found.axis]) for found in row.rows))):
                x = row.x
                for found, tap in zip(row.rows, taps, strict=True):
                    x = k.at(x, (found.first + tap * problem.dilation[found.axis]) * self.w[f"stride{found.axis}"])
                whole_row(x, first=not (number or self.average))  # a sum starts at 0, also for the sign of a zero
        else:
            self.over(row.rows, row.x, list(columns.values()), one_row)
        for pixel in range(self.tile.pixels):

            def output(pixel: int = pixel) -> None:
                reads = [pixel * problem.stride[-1] + t * problem.dilation[-1] for t in range(problem.kernel_size[-1])]
                total = columns[reads[0]].value
                for at in reads[1:]:
                    total = self.combine(total, columns[at].value)
                divisor = self.counted(self.ndim - 1, place + pixel, row.count)
                k.store_vector(self.finish(total, divisor), k.at(row.out, pixel * channels), mask=mask)

            if inside or not pixel:
                output()
            else:
                with k.when(count > pixel):
                    output()

    # ---- large windows -------------------------------------------------------------------------------------------
    def row_of_outputs(self, row: _Row, first: Value, last: Value, low: Value, high: Value) -> None:
        """Each output on its own."""
        k, axis, channels = self.k, self.ndim - 1, self.problem.in_channels
        with k.loop(low, high) as place:
            taps, divisor = self.range(axis, place), self.counted(axis, place, row.count)
            out = k.at(row.out, place * channels)

            def block(channel: Value, vectors: int, mask: Value | None) -> None:
                sums = [k.var(self.start()) for _ in range(vectors)]

                def one(x: Value) -> None:
                    for number, total in enumerate(sums):
                        value = k.load_vector(k.at(x, number * k.lanes), mask=mask)
                        total.value = self.combine(total.value, value)

                self.over((*row.rows, taps), k.at(row.x, channel), sums, one)
                for number, total in enumerate(sums):
                    at = k.at(k.at(out, channel), number * k.lanes)
                    k.store_vector(self.finish(total.value, divisor), at, mask=mask)

            self.over_channels(first, last, VECTORS, block)


class _First(_Pool):
    """Channels first: positions of a row in the lanes."""

    def box(self, x: Value, out: Value, first: Value, last: Value, low: list[Value], high: list[Value]) -> None:
        k, w, line = self.k, self.w, self.k.scratch
        before, size = w["row_before"], w[f"size{self.ndim - 1}"]
        with k.loop(0, before) as at:
            k.store(self.edge(), k.at(line, at))
        with k.loop(before + (size + (k.lanes - 1)) // k.lanes * k.lanes, w["row_length"]) as at:
            k.store(self.edge(), k.at(line, at))
        rest = k.mask(size % k.lanes)  # the same for every row
        with k.loop(first, last) as channel:
            plane, target = k.at(x, channel * w["channel_stride"]), k.at(out, channel * w["out_channel_stride"])
            self.outer(plane, target, low, high, lambda row: self.row(row, rest, low[-1], high[-1]))

    def edge(self) -> Value:
        """What padding holds, as a scalar."""
        return self.k.constant(0.0 if self.average else -inf, self.k.scalar)

    def row(self, row: _Row, rest: Value, low: Value, high: Value) -> None:
        """Combine input rows into the line in scratch, then strided vectors of it into outputs."""
        k, size = self.k, self.w[f"size{self.ndim - 1}"]
        line = k.at(k.scratch, self.w["row_before"])
        whole = size - size % k.lanes

        def vector(at: Value, vectors: int, mask: Value | None) -> None:
            sums = [k.var(self.start()) for _ in range(vectors)]

            def one(x: Value) -> None:
                for number, total in enumerate(sums):
                    value = k.load_vector(k.at(x, number * k.lanes), mask=mask, other=self.start() if mask else None)
                    total.value = self.combine(total.value, value)

            self.over(row.rows, k.at(row.x, at), sums, one)
            for number, total in enumerate(sums):
                k.store_vector(total.value, k.at(line, at + number * k.lanes))

        pairs = size - size % (2 * k.lanes)
        with k.loop(0, pairs, 2 * k.lanes) as at:
            vector(at, 2, None)
        with k.loop(pairs, whole, k.lanes) as at:
            vector(at, 1, None)
        with k.when(whole < size):
            vector(whole, 1, rest)
        self.outputs(row, low, high)

    def outputs(self, row: _Row, low: Value, high: Value) -> None:
        """The row of outputs, from the line."""
        k, w, problem = self.k, self.w, self.problem
        stride = problem.stride[-1]
        origin = k.at(k.scratch, w["row_before"] - w[f"before{self.ndim - 1}"])
        if stride > SHUFFLED:
            with k.loop(low, high) as place:
                total = self.taps(k.at(origin, place * stride), 1)
                self.put(total, row, place, k.mask(1, 1), 1)
            return
        with k.loop(low, high, k.lanes) as place:
            total = self.taps(k.at(origin, place * stride), k.lanes)
            count = k.minimum(high - place, k.lanes)
            self.put(total, row, place, k.mask(count), k.lanes)

    def taps(self, x: Value, lanes: int) -> Value:
        """Combine the columns of ``lanes`` windows."""
        k, length, dilation = self.k, self.problem.kernel_size[-1], self.problem.dilation[-1]
        known: dict[int, Value] = {}
        total = k.var(self.strided(known, x, 0, lanes))
        if length <= UNROLLED:
            for tap in range(1, length):
                total.value = self.combine(total.value, self.strided(known, x, tap * dilation, lanes))
            return total.value
        with k.loop(1, length, carry=[total], nonempty=True) as number:
            total.value = self.combine(total.value, self.strided({}, k.at(x, number * dilation), 0, lanes))
        return total.value

    def strided(self, known: dict[int, Value], x: Value, reach: int, lanes: int) -> Value:
        """Every stride-th element from ``reach`` on; vectors already read are taken from ``known``."""
        k, stride = self.k, self.problem.stride[-1]
        if lanes == 1 or stride == 1:
            return k.load_vector(k.at(x, reach), lanes)
        start = reach - reach % stride
        for piece in range(stride):
            at = start + piece * lanes
            if at not in known:
                known[at] = k.load_vector(k.at(x, at), lanes)
        pieces = [known[start + piece * lanes] for piece in range(stride)]
        return every(k, pieces, reach % stride, stride)

    def put(self, total: Value, row: _Row, place: Value, mask: Value, lanes: int) -> None:
        """Divide, activate, store."""
        k, axis = self.k, self.ndim - 1
        divisor: Value | None = None
        if self.average:
            at = k.at(self.w["counts"], self.w[f"counts_at{axis}"] + place)
            divisor = k.load_vector(at, lanes, mask=mask, other=k.number(1.0, lanes))
            if row.count is not None:
                divisor = divisor * k.broadcast(row.count, lanes)
        k.store_vector(self.finish(total, divisor), k.at(row.out, place), mask=mask)


class _Together(_Pool):
    """Channels first, few outputs: one window of several planes at a time, its columns in the lanes."""

    def box(self, x: Value, out: Value, first: Value, last: Value, low: list[Value], high: list[Value]) -> None:
        k, w = self.k, self.w
        with k.loop(first, last, k.lanes) as channel:
            used = k.minimum(last - channel, k.lanes)
            plane, sink = k.at(x, channel * w["channel_stride"]), k.at(out, channel * w["out_channel_stride"])

            def write(row: _Row, used: Value = used) -> None:
                self.row(row, used, low[-1], high[-1])

            self.outer(plane, sink, low, high, write)

    def row(self, row: _Row, used: Value, low: Value, high: Value) -> None:
        """A row of outputs of ``used`` planes."""
        k, w, axis = self.k, self.w, self.ndim - 1
        apart = [k.minimum(k.integer(number), used - 1) * w["channel_stride"] for number in range(k.lanes)]
        with k.loop(low, high) as place:
            columns = self.range(axis, place)
            sums = [k.var(self.start()) for _ in apart]
            width = k.maximum(columns.high - columns.low, 0)

            def stretch(x: Value, length: Value, sums: list[Var] = sums) -> None:
                """So many neighbours of every plane."""
                with k.loop(0, length, k.lanes, carry=sums) as at:
                    mask = k.mask(length - at)
                    for total, offset in zip(sums, apart, strict=True):
                        value = k.load_vector(k.at(k.at(x, offset), at), mask=mask, other=self.start())
                        total.value = self.combine(total.value, value)

            def one(x: Value, sums: list[Var] = sums) -> None:
                """One position of every plane."""
                for total, offset in zip(sums, apart, strict=True):
                    value = k.load_vector(k.at(x, offset), count=1, other=self.start())
                    total.value = self.combine(total.value, value)

            def rows(columns: _Range = columns, width: Value = width, sums: list[Var] = sums) -> None:
                if self.problem.dilation[axis] > 1:
                    self.over((*row.rows, columns), row.x, sums, one)
                    return
                x = k.at(row.x, columns.first + columns.low)
                self.over(row.rows, x, sums, lambda x: stretch(x, width))

            def joined(width: Value = width, sums: list[Var] = sums) -> None:
                lines = row.rows[-1]
                x = k.at(row.x, (lines.first + lines.low) * w[f"stride{axis - 1}"])
                length = k.maximum(lines.high - lines.low, 0) * width
                self.over(row.rows[:-1], x, sums, lambda x: stretch(x, length))

            if (
                row.rows and self.problem.dilation[axis - 1] == 1 == self.problem.dilation[axis]
            ):  # whole rows follow one another
                size = w[f"size{axis}"]
                whole = k.convert(width.eq(size), "zext", "i64") & k.convert(
                    w[f"stride{axis - 1}"].eq(size), "zext", "i64"
                )
                k.choose(whole.ne(0), joined, rows, carry=sums)
            else:
                rows()
            self.put(row, place, [total.value for total in sums], used)

    def put(self, row: _Row, place: Value, sums: list[Value], used: Value) -> None:
        """Fold the lanes, divide, activate, store."""
        k, w = self.k, self.w
        turned = k.transpose(sums)
        while len(turned) > 1:
            turned = [self.combine(a, b) for a, b in zip(turned[::2], turned[1::2], strict=True)]
        count = self.counted(self.ndim - 1, place, row.count)
        found = self.finish(turned[0], None if count is None else k.broadcast(count))
        sink = k.at(row.out, place)

        def one_by_one() -> None:
            for number in range(k.lanes):
                with k.when(used > number):
                    k.store(k.extract(found, number), k.at(sink, w["out_channel_stride"] * number))

        k.choose(w["out_channel_stride"].eq(1), lambda: k.store_vector(found, sink, mask=k.mask(used)), one_by_one)
