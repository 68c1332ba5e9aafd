"""A window that slides over pixels, with channels in the lanes: the inner loops of depthwise and grouped convolution.

A block is one vector of output channels. A tile is R output rows times P neighbouring pixels of one block, all in
registers. For each input row that the tile sees, and each input column of that row, the input vector is loaded once
and used by every (row, pixel, tap) of the tile that needs it. Taps whose row or column falls on padding are left out:
rows by the bounds of a loop or a branch, columns by a branch each, in tiles that touch a border; other tiles have no
tests at all. So nothing is padded, and a layer which is all border (7x7 on 7x7) does less work, not more.

Where blocks lie side by side in memory a tile is computed for several of them before the next tile: that reads memory
in its order, and the tests for borders are made once.

Every output is bias + the sum over kernel rows, the group's inputs, then taps along the row, each in ascending order,
in one accumulator: the same bits whatever the tile, border or thread.

The code is one function over a *job*: words in scratch that say where things are (`Job`). Positions are those of the
window's own grid; a transposed convolution is one job per output phase.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import gcd
from typing import NamedTuple

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.emit import Kernel, Value, Var

POINTERS = ("x", "out", "weights", "bias")
COUNT = "blocks"
AXIS = ("size", "low", "high", "base", "taps", "pitch", "x_stride", "out_stride")


def job_names(ndim: int) -> tuple[str, ...]:
    """The words of a job. Per axis: input size, range of outputs, input position of tap 0 of output 0, taps, pitches.

    ``x`` is input position 0, ``out`` is output position 0; ``pitch`` is that of the weights. Pitches and strides are
    in elements; of the last axis (and of the rows of a tile) those that `Window` fixes are not read.
    """
    return (*POINTERS, COUNT, *(f"{name}{axis}" for axis in range(ndim) for name in AXIS))


class Tile(NamedTuple):
    """Rows and pixels of a tile, and how many taps of a row are written out (longer rows loop).

    ``gathered``: a block's part of the input is copied to scratch first (channels last).
    """

    rows: int
    pixels: int
    taps: int
    gathered: bool = False


class Window(NamedTuple):
    """What is fixed at code generation. ``kernel`` counts the taps; pitches are elements between neighbouring pixels.

    ``loaded`` channels are read for a pixel and give one vector of ``lanes`` for each of ``spread``: output lane i of
    the n-th takes loaded channel ``spread[n][i]``. ``stored`` lanes are written. With ``several`` a job is for as many
    blocks as it says, tile by tile: elements from one to the next in the input, the output and the weights.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    lanes: int
    loaded: int
    stored: int
    spread: tuple[tuple[int, ...], ...]
    x_pitch: int
    out_pitch: int
    activation: str | None
    several: tuple[int, int, int] | None = None

    @property
    def inputs(self) -> int:
        """Inputs of each output channel."""
        return len(self.spread)


WIDEST_GAP = 4  # between the rows of a tile: with more, pictures are too low for whole tiles


def row_gap(kernel: int, stride: int, dilation: int, rows: int) -> int:
    """From one output row of a tile to the next: those a dilation apart read the same input rows, neighbours do not.

    >>> row_gap(3, 1, 1, 2), row_gap(3, 1, 2, 2), row_gap(3, 2, 4, 2), row_gap(3, 1, 2, 0)
    (1, 2, 2, 1)
    """
    gap = dilation // gcd(stride, dilation)
    return gap if rows > 1 and kernel > 1 and gap <= WIDEST_GAP else 1


Sums = list[list[Var]]  # [row][pixel]
HELD_BACK = 8  # inputs from which on LLVM moves so many loads ahead that sums go to memory


class Slide:
    """Writes the function of one window and tile: ``void name(ptr job, i64, i64, ptr)``."""

    def __init__(self, kernel: Kernel, window: Window, tile: Tile) -> None:
        self.k, self.window, self.tile = kernel, window, tile
        self.ndim = len(window.kernel)
        names = job_names(self.ndim)
        self.w = {
            name: kernel.load(kernel.word_at(kernel.args, place), "ptr" if name in POINTERS else "i64")
            for place, name in enumerate(names)
        }
        self.held: dict[int, Value] = {}
        place = self.ndim - 2
        self.gap = 1
        if place >= 0:
            self.gap = row_gap(window.kernel[place], window.stride[place], window.dilation[place], tile.rows)

    def write(self) -> None:
        """The loops over the output box, outermost axis first."""
        self.outer(0, self.w["x"], self.w["out"], self.w["weights"], [])

    # ---- axes before the rows ------------------------------------------------------------------------------------
    def outer(self, axis: int, x: Value, out: Value, weights: Value, rows: list[_Taps]) -> None:
        """Loop over the outputs of an outer axis; the taps of all of them are looped over inside the tile."""
        k, w = self.k, self.w
        last = self.ndim - 1
        if axis == last:
            self.row_of_tiles(x, out, weights, rows, None)
            return
        if axis == last - 1 and self.tile.rows:
            self.groups_of_rows(x, out, weights, rows)
            return
        with k.loop(w[f"low{axis}"], w[f"high{axis}"]) as place:
            taps = _Taps(self, axis, place)
            inner_out = k.at(out, place * w[f"out_stride{axis}"])
            self.outer(axis + 1, x, inner_out, weights, [*rows, taps])

    def groups_of_rows(self, x: Value, out: Value, weights: Value, rows: list[_Taps]) -> None:
        """The rows of a tile together: groups of R output rows a gap apart, the last ones perhaps cut short."""
        k, w, axis, gap = self.k, self.w, self.ndim - 2, self.gap
        low, high, height = w[f"low{axis}"], w[f"high{axis}"], self.tile.rows

        def tiles(start: Value) -> None:
            count = (high - start + (gap - 1)) // gap if gap > 1 else high - start
            group = _Rows(start, k.minimum(k.integer(height), count))
            self.row_of_tiles(x, k.at(out, start * w[f"out_stride{axis}"]), weights, rows, group)

        with k.loop(low, high, height * gap) as first:
            if gap == 1:
                tiles(first)
            else:
                with k.loop(first, k.minimum(first + gap, high)) as start:
                    tiles(start)

    # ---- tiles ---------------------------------------------------------------------------------------------------
    def row_of_tiles(self, x: Value, out: Value, weights: Value, rows: list[_Taps], group: _Rows | None) -> None:
        """All tiles along the last axis; the last one, where it is cut short, skips the columns beyond the input."""
        k, w, window, axis = self.k, self.w, self.window, self.ndim - 1
        low, high, width = w[f"low{axis}"], w[f"high{axis}"], self.tile.pixels
        columns = (width - 1) * window.stride[-1] + (window.kernel[-1] - 1) * window.dilation[-1]
        with k.loop(low, high, width) as start:
            count = k.minimum(k.integer(width), high - start)
            column = start * window.stride[-1] + w[f"base{axis}"]
            spot = _Spot(
                k.at(x, column * window.x_pitch), k.at(out, start * window.out_pitch), weights, w["bias"], column, count
            )
            inside = (column >= 0) & (column + columns < w[f"size{axis}"]) & (count >= width)
            if group:
                inside = inside & (group.count >= self.tile.rows)
            k.choose(
                inside,
                lambda spot=spot: self.over_blocks(spot, rows, group, True),  # type: ignore[misc]
                lambda spot=spot: self.over_blocks(spot, rows, group, False),  # type: ignore[misc]
            )

    def over_blocks(self, spot: _Spot, rows: list[_Taps], group: _Rows | None, inside: bool) -> None:
        """The tile of one block, or of several that lie side by side."""
        if self.window.several is None:
            self.body(spot, rows, group, inside)
            return
        k, (x_step, out_step, weights_step) = self.k, self.window.several
        with k.loop(0, self.w[COUNT], nonempty=True) as block:
            moved = _Spot(
                k.at(spot.x, block * x_step),
                k.at(spot.out, block * out_step),
                k.at(spot.weights, block * weights_step),
                k.at(spot.bias, block * self.window.lanes),
                spot.column,
                spot.count,
            )
            self.body(moved, rows, group, inside)

    def body(self, spot: _Spot, rows: list[_Taps], group: _Rows | None, inside: bool) -> None:
        """One tile: sum, activate, store."""
        height = self.tile.rows if group else 1
        bias = self.k.load_vector(spot.bias, self.window.lanes)
        sums = [[self.k.var(bias) for _ in range(self.tile.pixels)] for _ in range(height)]
        flat = [total for line in sums for total in line]
        self.over_rows(
            rows, spot.x, spot.weights, flat, lambda x, weights: self.rows(spot, x, weights, group, sums, inside)
        )
        self.store(spot, group, sums, inside)

    def over_rows(
        self, rows: list[_Taps], x: Value, weights: Value, flat: list[Var], write: Callable[[Value, Value], None]
    ) -> None:
        """Nested loops over the kernel positions of the outer axes that meet data."""
        if not rows:
            write(x, weights)
            return
        k, taps = self.k, rows[0]
        pitch = self.w[f"pitch{taps.axis}"]
        with k.loop(taps.low, taps.high, carry=flat) as tap:
            at = k.at(x, (taps.first + tap * taps.dilation) * self.w[f"x_stride{taps.axis}"])
            self.over_rows(rows[1:], at, k.at(weights, tap * pitch), flat, write)

    # ---- rows ----------------------------------------------------------------------------------------------------
    def rows(self, spot: _Spot, x: Value, weights: Value, group: _Rows | None, sums: Sums, inside: bool) -> None:
        """The input rows of a tile."""
        k, w, window = self.k, self.w, self.window
        if group is None:
            self.row(spot, x, [(sums[0], weights)], inside)
            return
        axis = self.ndim - 2
        stride, dilation = window.stride[axis], window.dilation[axis]
        first = group.place * stride + w[f"base{axis}"]
        pitch = window.kernel[-1] * window.inputs * window.lanes
        users: dict[int, list[tuple[int, int]]] = {}
        for line, tap in product(range(len(sums)), range(window.kernel[axis])):
            users.setdefault(line * self.gap * stride + tap * dilation, []).append((line, tap))
        for reach in sorted(users):
            position = first + reach
            pairs = [(sums[line], k.at(weights, tap * pitch)) for line, tap in users[reach]]
            touched = [total for line, _ in users[reach] for total in sums[line]]
            with k.when(position.below(w[f"size{axis}"]), carry=touched):
                self.row(spot, k.at(x, position * w[f"x_stride{axis}"]), pairs, inside)

    def row(self, spot: _Spot, x: Value, pairs: list[tuple[list[Var], Value]], inside: bool) -> None:
        """One input row, for the lines of the tile that use it (each with its weights): chunks of taps."""
        k, window, most = self.k, self.window, self.tile.taps
        pitch, flat = window.inputs * window.lanes, [total for line, _ in pairs for total in line]
        whole, rest = divmod(window.kernel[-1], most)
        if window.kernel[-1] <= most:
            self.columns(spot, x, spot.column, pairs, window.kernel[-1], inside)
            return
        with k.loop(0, whole, carry=flat, nonempty=True) as chunk:
            shift = chunk * (most * window.dilation[-1])
            moved = [(line, k.at(weights, chunk * (most * pitch))) for line, weights in pairs]
            self.columns(spot, k.at(x, shift * window.x_pitch), spot.column + shift, moved, most, inside)
        if rest:
            done = whole * most
            shift = k.integer(done * window.dilation[-1])
            moved = [(line, k.at(weights, done * pitch)) for line, weights in pairs]
            self.columns(spot, k.at(x, shift * window.x_pitch), spot.column + shift, moved, rest, inside)

    def columns(
        self, spot: _Spot, x: Value, column: Value, pairs: list[tuple[list[Var], Value]], taps: int, inside: bool
    ) -> None:
        """The columns of one row and some taps: each is loaded once and used by every pixel that needs it."""
        k, w, window = self.k, self.w, self.window
        users: dict[int, list[tuple[int, int]]] = {}
        for pixel, tap in product(range(self.tile.pixels), range(taps)):
            users.setdefault(pixel * window.stride[-1] + tap * window.dilation[-1], []).append((pixel, tap))
        for number, order in enumerate(window.spread):
            weights = [
                [
                    k.load_vector(k.at(at, (tap * window.inputs + number) * window.lanes), window.lanes)
                    for tap in range(taps)
                ]
                for _, at in pairs
            ]
            for reach in sorted(users):

                def use(
                    reach: int = reach, order: tuple[int, ...] = order, weights: list[list[Value]] = weights
                ) -> None:
                    value = self.load(k.at(x, reach * window.x_pitch), order)
                    for (line, _), vectors in zip(pairs, weights, strict=True):
                        for pixel, tap in users[reach]:
                            line[pixel].value = k.fma(value, vectors[tap], line[pixel].value)

                if inside:
                    use()
                    continue
                touched = [line[pixel] for line, _ in pairs for pixel in sorted({pixel for pixel, _ in users[reach]})]
                with k.when((column + reach).below(w[f"size{self.ndim - 1}"]), carry=touched):
                    use()
            if inside and window.inputs >= HELD_BACK:
                k.barrier([total for line, _ in pairs for total in line])

    def load(self, x: Value, order: tuple[int, ...]) -> Value:
        """The channels of one pixel, spread over the lanes."""
        k, window = self.k, self.window
        width = max(window.lanes, 1 << (window.loaded - 1).bit_length())
        vector = k.load_vector(x, width, count=window.loaded)
        return vector if order == tuple(range(width)) else k.shuffle(vector, vector, order)

    def store(self, spot: _Spot, group: _Rows | None, sums: Sums, inside: bool) -> None:
        """Activate and write the tile; in a tile cut short, only what there is of it."""
        k, window = self.k, self.window
        for number, line in enumerate(sums):
            out = spot.out if not number else k.at(spot.out, self.w[f"out_stride{self.ndim - 2}"] * (number * self.gap))

            def pixels(line: list[Var] = line, out: Value = out) -> None:
                for pixel, total in enumerate(line):

                    def one(pixel: int = pixel, total: Var = total) -> None:
                        value = activate(k, window.activation, total.value, apart=())
                        k.store_vector(value, k.at(out, pixel * window.out_pitch), count=window.stored)

                    if inside or not pixel:
                        one()
                    else:
                        with k.when(spot.count > pixel):
                            one()

            if inside or not number or group is None:
                pixels()
            else:
                with k.when(group.count > number):
                    pixels()


class _Taps:
    """The taps of one outer axis that meet data, for one output position."""

    def __init__(self, parent: Slide, axis: int, place: Value) -> None:
        k, w, window = parent.k, parent.w, parent.window
        self.axis, self.dilation = axis, window.dilation[axis]
        self.first = place * window.stride[axis] + w[f"base{axis}"]
        self.low = ceil_steps(k, k.integer(0) - self.first, self.dilation)
        self.high = k.minimum(ceil_steps(k, w[f"size{axis}"] - self.first, self.dilation), w[f"taps{axis}"])


def ceil_steps(k: Kernel, value: Value, divisor: int) -> Value:
    """``ceil(max(value, 0) / divisor)``."""
    return (k.maximum(value, 0) + (divisor - 1)) // divisor


class _Rows:
    """A group of output rows: the first, and how many of them there are."""

    def __init__(self, place: Value, count: Value) -> None:
        self.place, self.count = place, count


class _Spot:
    """Where a tile lies: input and output of its first pixel, its first column, and how many pixels there are."""

    def __init__(self, x: Value, out: Value, weights: Value, bias: Value, column: Value, count: Value) -> None:
        self.x, self.out, self.weights, self.bias, self.column, self.count = x, out, weights, bias, column, count
