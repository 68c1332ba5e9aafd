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

The result is not exact on integers; ``error_bound`` states the error. The order of every sum depends on the place in
the picture alone.
"""

from __future__ import annotations

from polyconv.run.cpu.algorithms.fft_code import Complex, Index
from polyconv.run.cpu.algorithms.fourier_kernel import (
    NAMES,
    Backwards,
    Forwards,
    Part,
    place_words,
    reads,
    saving,
)
from polyconv.run.cpu.algorithms.fourier_tiles import (
    Tile,
    cost,
    obstacle,
    pack,
    packing,
    rounds_of,
    shape_of_tile,
    variants,
)
from polyconv.run.cpu.algorithms.record import Algorithm, Phase, Schedule, Sizes, whole_only, words
from polyconv.run.cpu.emit import Value, join
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

STATE_BYTES = 128  # of the workspace, before V: the number of the round


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: the three phases, and two that count rounds."""
    shape = shape_of_tile(problem, tile, target)
    forwards, products, backwards = (
        _Forwards("run0", shape, target), _Products("run1", shape, target), _Backwards("run2", shape, target)
    )  # fmt: skip
    begin, after = _Rounds("begin", shape, target), _Rounds("next", shape, target)
    forwards.write()
    products.write()
    backwards.write()
    begin.k.store(begin.k.integer(0), begin.w["workspace"])
    after.k.store(after.k.load(after.w["workspace"], "i64") + 1, after.w["workspace"])
    return join([part.k for part in (forwards, products, backwards, begin, after)])


def pairs_in_registers(target: Target) -> int:
    """Pairs of tiles held in registers by the matrix product: a sum is two vectors, weights and data take four."""
    return (target.vector_registers - 4) // 4


class _Rounds(Part):
    """Where V and M lie, and which tiles this round has."""

    names = (*NAMES, "round_tiles", "rounds", "v_pitch", "m_pitch", "m_at")

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


class _Forwards(_Rounds, Forwards):
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
                self.tile_in(number, channel, sink)

    def put_frequency(self, value: Complex, sink: Value, frequency: Value) -> None:
        """One frequency of V."""
        k = self.k
        at = k.at(sink, frequency * self.w["v_pitch"])
        k.store_vector(value[0], at, align=64)
        k.store_vector(value[1], k.at(at, self.shape.padded), align=64)


class _Products(_Rounds):
    """M = V @ U for every frequency."""

    def write(self) -> None:
        """Items are frequencies."""
        k, w, shape = self.k, self.w, self.shape
        pairs = (k.minimum(w["tiles"] - self.round_start(), w["round_tiles"]) + 1) // 2
        most = pairs_in_registers(self.k.target)
        runs = (pairs + (most - 1)) // most
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
                k.switch(count, range(1, most + 1), lambda r: self.product(2 * r, source, right, sink))

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


class _Backwards(_Rounds, Backwards):
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
                self.tile_out(number, block, source)

    def frequency_pitch(self) -> Index:
        """Of M."""
        return self.w["m_pitch"]


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Tiles, rounds, and where V and M lie."""
    shape = shape_of_tile(problem, tile, target)
    item = problem.numpy_dtype().itemsize
    tiles, places, axes = place_words(shape, sizes)
    one, rounds = rounds_of(shape, tiles)
    # a vector more than the tiles take, so that frequencies do not lie a power of two apart
    v_pitch = one * 2 * shape.padded + shape.lanes
    m_pitch = one * 2 * shape.blocks * shape.lanes + shape.lanes
    m_at = STATE_BYTES + shape.frequencies * v_pitch * item
    steps = [Phase("run0", one * shape.padded // shape.lanes), Phase("run1", shape.frequencies)]
    steps.append(Phase("run2", one * shape.blocks))
    phases = steps if rounds == 1 else [Phase("begin", 1), *steps, *[Phase("next", 1), *steps] * (rounds - 1)]
    return Schedule(
        words(*places, one, rounds, v_pitch, m_pitch, m_at, *axes),
        tuple(phases),
        (shape.trash_at + shape.lanes) * item,
        m_at + shape.frequencies * m_pitch * item,
        tuple(word for word in places if not isinstance(word, int)),
        f"{saving(shape, tiles)}, in {rounds} round(s)",
    )


FOURIER = Algorithm(
    "fourier",
    obstacle,
    variants,
    emit,
    pack,
    schedule,
    cost,
    reads,
    whole_only,
    packing,
    ("run0", "run1", "run2", "begin", "next"),
    direct=False,
)
