"""Depthwise convolution of stride 1 with long kernels, by Fourier transforms of tiles; `fourier` has the idea.

Nothing is summed over channels, so a tile of one vector of channels goes there and back without leaving scratch: rows,
then the other axes; along the first of them a column is transformed, multiplied with the transformed kernel and
transformed back at once.
"""

from __future__ import annotations

from collections.abc import Callable

from polyconv.geometry import product
from polyconv.run.cpu.algorithms.fft_code import STRAIGHT, Complex, Index, backward, forward
from polyconv.run.cpu.algorithms.fourier_kernel import Backwards, Forwards, place_words, reads, saving
from polyconv.run.cpu.algorithms.fourier_tiles import (
    Shape,
    Tile,
    common_obstacle,
    cost_depthwise,
    depthwise,
    pack_depthwise,
    packing,
    shape_of_tile,
    variants,
)
from polyconv.run.cpu.algorithms.record import Algorithm, Phase, Schedule, Sizes, whole_only, words
from polyconv.run.cpu.emit import Value
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem


def fits(problem: Problem, target: Target) -> str | None:
    """One input and one output for each group."""
    if problem.op == "conv" and not depthwise(problem):
        return (
            f"it is for one input and output a group, got {problem.groups} groups for {problem.in_channels} channels "
            f"and {problem.out_channels} outputs"
        )
    return common_obstacle(problem, target)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: one function."""
    part = _ThereAndBack("run0", shape_of_tile(problem, tile, target), target)
    part.write()
    return part.k.module()


Product = Callable[[Index, Complex], Complex]


class _ThereAndBack(Forwards, Backwards):
    """A tile's whole way."""

    first_axis = 1

    def write(self) -> None:
        """Items are (vector of channels, tile)."""
        k, w, shape = self.k, self.w, self.shape
        self.weights = k.at(w["packed"], shape.weights_at)
        with k.loop(k.first, k.last) as item:
            block, number = item // w["tiles"], item % w["tiles"]
            self.weights = k.at(w["packed"], block * (shape.frequencies * 2 * shape.lanes) + shape.weights_at)
            spectrum = k.at(k.scratch, spectrum_at(shape))
            self.tile_in(number, block * shape.lanes, spectrum)
            if shape.rows:
                self.turnaround(spectrum)
            self.tile_out(number, block, spectrum)

    def times(self, value: Complex, frequency: Value) -> Complex:
        """A frequency of the tile times that of the kernel."""
        k = self.k
        (a, b), (c, d) = value, self.load_complex(k.at(self.weights, frequency * (2 * self.shape.lanes)))
        return k.fma(b, d * -1.0, a * c), k.fma(b, c, a * d)

    def put_frequency(self, value: Complex, sink: Value, frequency: Value) -> None:
        """One axis alone: the product, next to scratch."""
        self.store_complex(self.times(value, frequency), self.k.at(sink, frequency * (2 * self.shape.lanes)))

    def frequency_pitch(self) -> Index:
        """Of the products of one axis."""
        return 2 * self.shape.lanes

    def turnaround(self, column: Value) -> None:
        """The first axis forwards, products, and backwards; rows without outputs are not kept."""
        k, shape = self.k, self.shape
        length, kept, inner = shape.rows[0], shape.out_rows[0], product(shape.rows[1:])
        with k.loop(0, inner, nonempty=True) as line, k.loop(0, shape.half, nonempty=True) as place:
            at = k.at(k.scratch, line * self.pitch + place * (2 * shape.lanes))
            frequency = line * shape.half + place

            def load(n: Index, at: Value = at) -> Complex:
                return self.load_complex(k.at(at, n * (inner * self.pitch)))

            def store(n: Index, value: Complex, at: Value = at) -> None:
                self.store_complex(value, k.at(at, n * (inner * self.pitch)))

            def product_of(n: Index, value: Complex, frequency: Value = frequency) -> Complex:
                return self.times(value, frequency + n * (inner * shape.half))

            def keep(n: Index, value: Complex, product_of: Product = product_of) -> None:
                self.store_complex(product_of(n, value), k.at(column, n * (2 * shape.lanes)))

            if length > STRAIGHT:
                self.long(length).forward(load, keep)
                self.long(length).backward(lambda n: self.load_complex(k.at(column, n * (2 * shape.lanes))), store)
            else:
                found = [product_of(n, value) for n, value in enumerate(forward(k, [load(n) for n in range(length)]))]
                for n, value in enumerate(backward(k, found)[:kept]):
                    store(n, value)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def spectrum_at(shape: Shape) -> int:
    """Where a column of products lies in scratch, in elements."""
    return shape.trash_at + shape.lanes


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """One phase."""
    shape = shape_of_tile(problem, tile, target)
    tiles, places, axes = place_words(shape, sizes)
    scratch = spectrum_at(shape) + 2 * shape.lanes * max(shape.half, *shape.rows, 0)
    return Schedule(
        words(*places, *axes),
        (Phase("run0", tiles * shape.blocks),),
        scratch * problem.numpy_dtype().itemsize,
        tables=tuple(word for word in places if not isinstance(word, int)),
        reason=saving(shape, tiles),
    )


FOURIER_DEPTHWISE = Algorithm(
    "fourier_depthwise",
    fits,
    variants,
    emit,
    pack_depthwise,
    schedule,
    cost_depthwise,
    reads,
    whole_only,
    packing,
    direct=False,
)
