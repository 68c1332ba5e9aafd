"""Dense convolution of stride 1 with fewer multiplications: Winograd's minimal filtering on tiles of the picture.

Along each *short* axis (one with several taps) a tile of m outputs reads n = m + r - 1 inputs, transforms them, is
multiplied point by point with the transformed kernel, and transformed back (see ``cook_toom``). Summed over input
channels the products are one matrix product for each point: that is where the time goes, and there are n^d points
for m^d outputs instead of r^d taps each: F(4x4, 3x3) multiplies 36 times where the definition needs 144.

    for a block of T tiles:   V[point, tile, channel] = transform of the tile's inputs
    for some blocks of output channels, for each point, for each of the blocks:
                              M[block, point, tile, out] = V[point] @ U[block, point]
    and for each tile:        out = transform back of M[block, :, tile], + bias, activation

V and M lie in a thread's scratch, whatever the threads share out between them (`winograd_tiles.cut_work`): tiles, or,
where those are few, output channels. Axes that are not short keep their taps as a longer sum. A dilated axis is d
interleaved pictures: a tile's positions lie d apart. Inputs on padding are read from a row of zeros, outputs beyond the
border are written to a row of trash: every tile runs the same code.

The result is not exact on integers; see docs/engine.md for the measured error. The order of every sum depends on the
place in the picture alone.
"""

from __future__ import annotations

import itertools
from functools import lru_cache, partial

from polyconv.geometry import product
from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms.record import Algorithm, Phase, Schedule, Sizes, pixels_contiguous, table_of, words
from polyconv.run.cpu.algorithms.winograd_kernel import Place, WinogradKernel
from polyconv.run.cpu.algorithms.winograd_tiles import (
    Shape,
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


def fits(problem: Problem, target: Target) -> str | None:
    """Pixels that are rows of channels."""
    if problem.layout != "channels_last":
        return "it reads pixels as rows of channels (channels_last)"
    return obstacle(problem, target)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: ``transform`` transforms tiles, ``run0`` calls it for a block of them, and multiplies."""
    shape = shape_of_tiles(problem, tile, target)
    first, second = PixelKernel("transform", shape, target), PixelKernel("run0", shape, target)
    first.write_transforms()
    second.write_products()
    return join([first.k, second.k])


class PixelKernel(WinogradKernel):
    """Inputs and outputs through tables of addresses, one for each point of a tile."""

    def place_scratch(self) -> Value:
        """Addresses of a tile's inputs, then of its outputs, and a row of trash."""
        k, shape = self.k, self.shape
        self.sources = k.scratch
        self.sinks = k.word_at(k.scratch, shape.points * len(shape.summed))
        self.trash = k.byte_at(k.scratch, _pointer_bytes(shape))
        return k.at(self.trash, _trash_lanes(shape))

    def point_inputs(self, cluster: Value, number: Value) -> None:
        """Write the addresses of all inputs of a tile, [part][point]; padding is the row of zeros."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        base, phase = k.byte_at(w["x"], picture * w["batch_stride"]), k.integer(0)
        if len(shape.phases) > 1:
            phase = cluster
        else:
            base = k.at(base, cluster * shape.channels)
        zeros = k.at(w["packed"], self.zeros_at())
        reaches: list[dict[int, tuple[Value, Value]]] = []
        for axis, found in enumerate(shape.axes):
            start = places[axis] * found.in_step + self.shift(phase, axis)
            steps = {
                p * found.point_step + i * found.part_step for p in range(shape.grid[axis]) for i in range(found.parts)
            }
            positions = {step: start + step for step in sorted(steps)}
            reaches.append({step: (p * w[f"stride{axis}"], p.below(w[f"size{axis}"])) for step, p in positions.items()})
        for part_number, parts in enumerate(shape.summed):
            for point_number, point in enumerate(itertools.product(*map(range, shape.grid))):
                picks = [
                    reach[p * found.point_step + i * found.part_step]
                    for reach, found, i, p in zip(reaches, shape.axes, parts, point, strict=True)
                ]
                offset, valid = picks[0]
                for more, also in picks[1:]:
                    offset, valid = offset + more, valid & also
                pointer = k.select(valid, k.byte_at(base, offset), zeros)
                k.store(pointer, k.word_at(self.sources, part_number * shape.points + point_number))

    def zeros_at(self) -> int:
        """Where the row of zeros starts in the packed array."""
        shape = self.shape
        return shape.blocks.lanes * self.problem.groups + shape.u_size

    def point_outputs(self, phase: Value, number: Value) -> None:
        """Write the addresses of all outputs of a tile; those beyond the border are trash."""
        k, w, shape = self.k, self.w, self.shape
        picture, places = self.origin(number)
        base = k.byte_at(w["out"], picture * w["out_batch_stride"])
        reaches = []
        for axis, count in enumerate(shape.outputs):
            found = shape.axes[axis]
            start = places[axis] * found.out_step + self.first(phase, axis)
            positions = [start + step * (found.apart * found.out_step) for step in range(count)]
            reaches.append([(p * w[f"out_stride{axis}"], p.below(w[f"out_size{axis}"])) for p in positions])
        for place, output in enumerate(itertools.product(*map(range, shape.outputs))):
            picks = [reach[o] for reach, o in zip(reaches, output, strict=True)]
            offset, valid = picks[0]
            for more, also in picks[1:]:
                offset, valid = offset + more, valid & also
            k.store(k.select(valid, k.byte_at(base, offset), self.trash), k.word_at(self.sinks, place))

    def transform_run(self, cluster: Value, number: Value, place: Value, v: Value) -> None:
        """Runs are single tiles here."""
        k, shape = self.k, self.shape
        self.point_inputs(cluster, number)
        target = k.at(v, place * shape.row)
        whole, rest = divmod(shape.channels, shape.lanes)
        with k.loop(0, len(shape.summed)) as part:
            sources = k.word_at(self.sources, part * shape.points)
            sink = k.at(target, part * shape.padded)
            if whole:
                with k.loop(0, whole * shape.lanes, shape.lanes, nonempty=True) as channel:
                    self.transform_vector(sources, channel, None, k.at(sink, channel))
            if rest:
                self.transform_vector(sources, k.integer(whole * shape.lanes), rest, k.at(sink, whole * shape.lanes))

    def transform_vector(self, sources: Value, channel: Value, count: int | None, v: Value) -> None:
        """One vector of channels of one tile."""
        k, each = self.k, product(self.shape.flat)

        def load(plane: Value, point: int) -> Value:
            pixel = k.load(k.word_at(sources, plane * each + point), "ptr")
            return k.load_vector(k.at(pixel, channel), count=count)

        self.forward(load, v)

    # -- back to outputs
    def inverse_run(
        self, lanes: tuple[int, ...], stored: int, m: Value, number: Value, tile: Value, place: Place
    ) -> None:
        """Runs are single tiles here."""
        k, shape = self.k, self.shape
        self.point_outputs(place.phase, number)
        row = k.at(m, tile * shape.width)
        each = product(shape.outputs[1:]) if shape.deep else 0
        at = 0
        for index, n in enumerate(lanes):
            added = k.load_vector(k.at(place.bias, at), n)
            last = index == len(lanes) - 1

            def store(
                plane: Value, output: int, value: Value, at: int = at, added: Value = added, last: bool = last
            ) -> None:
                sink = k.load(k.word_at(self.sinks, plane * each + output), "ptr")
                done = activate(k, self.problem.activation, value + added)
                k.store_vector(done, k.at(sink, place.channel + at), count=stored if last else None)

            self.backward(k.at(row, at), n, store)
            at += n


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _pointer_bytes(shape: Shape) -> int:
    """Scratch for the addresses of one tile, rounded up to a cache line."""
    return -(-8 * (shape.points * len(shape.summed) + product(shape.outputs)) // 64) * 64


def _trash_lanes(shape: Shape) -> int:
    return -(-(shape.problem.out_channels + 2 * shape.lanes) // 16) * 16


@lru_cache(maxsize=256)
def _fixed_bytes(shape: Shape) -> int:
    """Scratch besides V and M."""
    return _pointer_bytes(shape) + _trash_lanes(shape) * shape.item


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Tiles, blocks of tiles, and whether each thread transforms for itself."""
    shape = shape_of_tiles(problem, tile, target)
    item = shape.item
    starts = shape.starts(sizes.out_size)
    counts = [len(found) for found in starts]
    tiles = sizes.batch * product(counts)
    out_blocks = shape.blocks.count * problem.groups
    work = cut_work(shape, target, tiles, 1, threads)
    out_stride, at = problem.out_channels * item, sum(counts)
    axes: list[int] = []
    for axis in reversed(range(problem.ndim)):
        at -= counts[axis]
        axes[:0] = [counts[axis], at, sizes.in_size[axis], sizes.x_strides[axis + 1] * item]
        axes[4:4] = [sizes.out_size[axis], out_stride]
        out_stride *= sizes.out_size[axis]
    table = table_of(itertools.chain(*starts))
    placed = phase_places(shape, sizes.padding)
    arguments = words(
        table, shape.runs, placed, tiles, work.block, work.blocks, 1, work.chunk, work.together, out_blocks,
        work.v_point, work.m_point, work.m_block, sizes.x_strides[0] * item, out_stride, *axes,
    )  # fmt: skip
    text = partial(reason, shape, tiles, work.block)
    return Schedule(
        arguments, (Phase("run0", work.items),), _fixed_bytes(shape) + work.bytes, 0, (table, shape.runs, placed), text
    )


WINOGRAD = Algorithm(
    "winograd",
    fits,
    variants,
    emit,
    pack,
    schedule,
    cost,
    pixels_contiguous,
    grain,
    packing,
    rounding=rounding,
    direct=False,
)
