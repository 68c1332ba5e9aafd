"""Convolution of channels_first arrays without memory of its own: masks, addresses and sums stay in registers.

The products of ``dense_rows``, whose list of taps and copied pixels are left out: which lanes of a tap lie on data is
worked out anew for each block of output channels, and pixels are read where they lie. With a stride along the row the
vectors that hold a tap's pixels are shuffled together. For layers whose arrays are so small that any scratch would be a
large part of them (``record.allowance``).

Every output is bias + the sum over taps, then input channels, as in ``dense``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from polyconv.run.cpu.algorithms import dense_rows
from polyconv.run.cpu.algorithms.dense_rows import Body, Place, RowsKernel, Tile, pack
from polyconv.run.cpu.algorithms.record import Algorithm, Schedule, Sizes, ceil_div, rows_contiguous
from polyconv.run.cpu.algorithms.turn import every
from polyconv.run.cpu.emit import SUFFIX, Value, Var, vector_of
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

SHUFFLED = 4  # the largest stride along the row whose vectors are shuffled together; beyond, lanes are read one by one


def fits(problem: Problem, target: Target) -> str | None:
    """Planes."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.layout != "channels_first":
        return "it reads planes (channels_first)"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """Those of ``dense_rows`` of one vector or, where nothing is shuffled, two: rows are short."""
    most = 2 if problem.op == "conv_transpose" or problem.stride[-1] == 1 else 1
    return [tile for tile in dense_rows.variants(problem, target) if tile.vectors <= most]


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: items as in ``dense_rows``."""
    return _Kernel(problem, tile, target).write()


class _Kernel(RowsKernel):
    """Writes the kernel: the list of taps is the schedule's own."""

    record: dict[str, Value]  # of the phase
    source: Value  # the pixel of the tile's first position
    origins: list[Value]  # its coordinates in the input

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        super().__init__(problem, tile, target)
        self.may_copy = False

    def point(self, phase: dict[str, Value], source: Value, place: Place, origins: list[Value]) -> Value:
        """How many taps there are; what they read is found when their turn comes."""
        self.record, self.source, self.origins = phase, source, origins
        return phase["taps"]

    def body(self, place: Place, active: Value, stride: Value, channel: Value, first: Value) -> Body:
        """The innermost code."""
        return _Body(self, place, active, stride, channel, first)


class _Body(Body):
    """The innermost code: ``write(vectors, channels)``."""

    parent: _Kernel

    def taps(self, sums: list[list[Var]], weights: Value) -> None:
        """Those that meet data along the outer axes; their masks, then all input channels."""
        parent = self.parent
        k, w, last, vectors = parent.k, parent.w, parent.problem.ndim - 1, len(sums[0])
        flat = [total for row in sums for total in row]
        with k.loop(0, self.active, carry=flat) as number:
            tap = k.word_at(w["table"], parent.record["taps_at"] + number * (2 + last + 1))
            meets = k.integer(1)
            for axis, origin in enumerate(parent.origins):
                shift = k.load(k.word_at(tap, 2 + axis), "i64")
                meets = meets & k.convert((origin + shift).below(w[f"size{axis}"]), "zext", "i64")
            with k.when(meets.ne(0), carry=flat):
                column = self.place.start * parent.step + k.load(k.word_at(tap, 2 + last), "i64")
                source = k.byte_at(parent.source, k.load(k.word_at(tap, 1), "i64") + self.first * self.stride)
                at = k.at(weights, k.load(tap, "i64") * w["channels"] * len(sums))
                valid = [self.on_data(column, reach) for reach in self.reaches(vectors)]
                with k.loop(0, w["channels"], carry=flat, nonempty=True) as c:
                    values = self.values(k.byte_at(source, c * self.stride), valid)
                    self.products(sums, values, k.at(at, c * len(sums)))

    def reaches(self, vectors: int) -> list[Value]:
        """Which positions of the row, from the tile's first, each vector that is read holds: one vector a stride."""
        k, step = self.parent.k, self.parent.step
        if step > SHUFFLED:
            return [k.indices(k.lanes) * k.broadcast(k.integer(step), k.lanes)]
        return [
            k.indices(k.lanes) + k.broadcast(k.integer(number * k.lanes), k.lanes) for number in range(vectors * step)
        ]

    def on_data(self, column: Value, reach: Value) -> Value:
        """Which of these lie in the picture."""
        k, size = self.parent.k, self.parent.w[f"size{self.parent.problem.ndim - 1}"]
        return (reach + k.broadcast(column, k.lanes)).below(k.broadcast(size, k.lanes))

    def values(self, pixels: Value, valid: list[Value]) -> list[Value]:
        """The tile's pixels of one channel, a stride apart."""
        k, step = self.parent.k, self.parent.step
        if step > SHUFFLED:
            offsets = self.reaches(1)[0] * k.broadcast(k.integer(k.bytes), k.lanes)
            pointers = k.broadcast(pixels, k.lanes)
            pointers = k.emit(f"getelementptr i8, {pointers!r}, {offsets!r}", vector_of("ptr", k.lanes))
            name = f"llvm.masked.gather.v{k.lanes}{SUFFIX[k.scalar]}.v{k.lanes}p0"
            return [k.call(name, k.zero().type, pointers, f"i32 {k.bytes}", valid[0], k.zero())]
        read = [k.load_vector(k.at(pixels, number * k.lanes), mask=mask) for number, mask in enumerate(valid)]
        return [every(k, read[first : first + step], 0, step) for first in range(0, len(read), step)]


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """As for ``dense_rows``, without scratch."""
    return dense_rows.schedule(problem, tile, target, sizes, threads)._replace(scratch_bytes=0)


TAP_CYCLES = 15  # to find what a tile's tap reads


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """As for ``dense_rows``, and what each block of channels does again for each tap, and reading with a stride."""
    found = dense_rows.cost(problem, tile, target, sizes, threads)
    step = 1 if problem.op == "conv_transpose" else problem.stride[-1]
    taps = prod(problem.kernel_size) / (prod(problem.stride) if problem.op == "conv_transpose" else 1)
    blocks = dense_rows.blocks_of(problem, tile).count * problem.groups
    apart = problem.stride[-1] if problem.op == "conv_transpose" else 1
    vectors = ceil_div(ceil_div(max(sizes.out_size[-1], 1), apart), target.lanes(problem.dtype))
    rows = sizes.positions / max(sizes.out_size[-1], 1) * apart
    reading = 0.0 if step == 1 else 2.0 * step if step <= SHUFFLED else target.lanes(problem.dtype)
    each = ceil_div(vectors, tile.vectors) * TAP_CYCLES + vectors * reading * problem.in_channels / problem.groups
    return found + rows * blocks * taps * each / CLOCK / threads


IN_PLACE_PLANAR = Algorithm("in_place_planar", fits, variants, emit, pack, schedule, cost, rows_contiguous)
