"""Dense convolution of channels_first arrays, turned around as a whole: planes to pixels, then as ``dense``.

The input is first transposed in registers into the workspace, pixel by pixel with the channels side by side, the
threads sharing it out. The products are those of ``dense`` then, with its regions and its order of work, and the sums
are transposed on their way to the planes of the output. Beside ``dense_planar``, which turns a strip at a time, the
input is turned once whatever overlaps, and the order of work is free; but it makes a way through the caches.

Pixels lie a cache line further apart than their channels ask for where they would share sets of the L1 cache.
"""

from __future__ import annotations

from math import prod

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import dense, dense_planar, may_turn
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE
from polyconv.run.cpu.algorithms.dense import Body, DenseKernel, Tile, blocks_of, pack
from polyconv.run.cpu.algorithms.dense_planar import variants
from polyconv.run.cpu.algorithms.gather import GROUP
from polyconv.run.cpu.algorithms.record import (
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    ceil_div,
    rows_contiguous,
    share,
)
from polyconv.run.cpu.emit import Kernel, Value, Var, join, vector_of
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

# rows: contiguous stretches of pixels, of ``length``, cut into parts; x_plane: bytes between planes of the input
EXTRA = ("plane", "length", "parts", "part", "x_batch", "x_plane", "pitch")
NAMES = (*dense.NAMES, *EXTRA)
AXIS_NAMES = (*dense.AXIS_NAMES, "rows", "x_stride")  # rows along this axis (1 where they are one), bytes between them


def fits(problem: Problem, target: Target) -> str | None:
    """As ``dense_planar``, where it may pay."""
    if not may_turn(problem):
        return "it is for layers with many weights or dilation"
    return dense_planar.fits(problem, target)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: ``run0`` turns the input around, ``run1`` multiplies."""
    turning = Kernel("run0", target, problem.dtype)
    _write_turning(turning, problem)
    multiplying = TurnedKernel(problem, tile, target)
    multiplying.k.name = "run1"
    multiplying.write()
    return join([turning, multiplying.k])


def _word_names(problem: Problem) -> list[str]:
    """All words of ``args``."""
    return [*NAMES, *(f"{name}{axis}" for axis in range(problem.ndim) for name in AXIS_NAMES)]


# ---- planes to pixels ----------------------------------------------------------------------------------------------
def _write_turning(k: Kernel, problem: Problem) -> None:
    """Items are parts of rows of pixels."""
    names = _word_names(problem)
    w = {name.removesuffix(": ptr"): value for name, value in zip(names, k.words(*names), strict=True)}
    with k.loop(k.first, k.last) as item:
        row = item // w["parts"]
        start = (item % w["parts"]) * w["part"]
        stop = k.minimum(start + w["part"], w["length"])
        source, rest = w["x"], row
        for axis in reversed(range(problem.ndim)):
            source = k.byte_at(source, (rest % w[f"rows{axis}"]) * w[f"x_stride{axis}"])
            rest = rest // w[f"rows{axis}"]
        source = k.byte_at(source, rest * w["x_batch"])
        sink = k.byte_at(w["workspace"], row * w["length"] * w["pitch"])
        _turn_part(k, problem, w, source, sink, start, stop)


def _turn_part(
    k: Kernel, problem: Problem, w: dict[str, Value], source: Value, sink: Value, start: Value, stop: Value
) -> None:
    """Pixels start to stop of a row, a vector of channels after the other."""
    whole, rest = divmod(problem.in_channels, k.lanes)

    def block(channel: Value | int, count: int) -> None:
        first = k.byte_at(source, k.integer(channel) * w["x_plane"])
        with k.loop(start, stop, k.lanes) as pixel:
            left = stop - pixel
            mask = k.mask(left)
            at = k.at(first, pixel)
            planes = [
                k.load_vector(k.byte_at(at, w["x_plane"] * c), mask=mask) if c < count else k.zero()
                for c in range(k.lanes)
            ]
            turned = k.transpose(planes)
            spot = k.at(k.byte_at(sink, pixel * w["pitch"]), channel)

            def put(pixels: int) -> None:
                for number in range(pixels):
                    k.store_vector(turned[number], k.byte_at(spot, w["pitch"] * number), count=count)

            k.choose(left >= k.lanes, lambda: put(k.lanes), lambda: k.switch(left, range(1, k.lanes), put))

    if whole:
        with k.loop(0, whole * k.lanes, k.lanes, nonempty=True) as channel:
            block(channel, k.lanes)
    if rest:
        block(whole * k.lanes, rest)


# ---- the products --------------------------------------------------------------------------------------------------
class TurnedKernel(DenseKernel):
    """Pixels from the workspace, sums to planes."""

    names: tuple[str, ...] = NAMES
    axis_names: tuple[str, ...] = AXIS_NAMES

    def __init__(self, problem: Problem, tile: Tile, target: Target) -> None:
        super().__init__(problem, tile, target)
        self.w["x"] = self.w["workspace"]

    def rows_at(self) -> Value:
        """Where in scratch the list of taps starts: after the sums of a tile."""
        self.stage = super().rows_at()
        return self.k.byte_at(self.stage, GROUP * max(sum(self.blocks.main), sum(self.blocks.tail)) * self.k.bytes)

    def finish(self, body: Body, sums: list[list[Var]]) -> None:
        """Put the sums down in scratch."""
        k, width = self.k, sum(body.lanes)
        for position, totals in enumerate(sums):
            for start, total in zip(body.starts, totals, strict=True):
                k.store_vector(total.value, k.at(self.stage, position * width + start), align=k.bytes)

    def after(self, body: Body, count: Value) -> None:
        """Activate, transpose, and write what of a tile is neighbours in the output at a time."""
        k, bits = self.k, f"i{GROUP}"
        outs = k.load_vector(self.gather.outs, GROUP, type_="ptr", align=64)
        flat = k.convert(outs, "ptrtoint", vector_of("i64", GROUP)) - k.indices(GROUP) * k.bytes
        before = k.shuffle(flat, flat, [0, *range(GROUP - 1)])
        present = k.mask(count, GROUP)
        opens = k.convert(k.bitcast(flat.ne(before) & present, bits), "zext", "i64") | 1
        runs = k.call("llvm.ctpop.i64", "i64", opens)
        rest = k.var(opens)
        with k.loop(0, runs, carry=[rest], nonempty=True):
            at = k.call("llvm.cttz.i64", "i64", rest.value, "i1 true")
            rest.value = rest.value & (rest.value - 1)
            origin = k.emit(f"extractelement {flat!r}, {at!r}", "i64")
            self.write_run(body, k.convert(origin, "inttoptr", "ptr"), flat.eq(origin) & present)

    def write_run(self, body: Body, base: Value, mask: Value) -> None:
        """The positions of a mask, which are neighbours: position 0 would lie at ``base``."""
        k, width, plane = self.k, sum(body.lanes), self.w["plane"]
        for start, lanes, used in zip(body.starts, body.lanes, body.counts, strict=True):
            first = k.at(base, (body.channel + start) * plane)
            for low in range(0, self.tile.positions, lanes):
                rows = [
                    k.load_vector(k.at(self.stage, min(low + p, GROUP - 1) * width + start), lanes)
                    for p in range(lanes)
                ]
                rows = [activate(k, self.problem.activation, row) for row in rows]
                ours = k.shuffle(mask, mask, [min(low + p, GROUP - 1) for p in range(lanes)])
                for channel, values in enumerate(k.transpose(rows)[:used]):
                    k.store_vector(values, k.at(k.at(first, plane * channel), low), mask=ours)


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def _pitch(problem: Problem, target: Target) -> int:
    """Elements between pixels in the workspace."""
    item = problem.numpy_dtype().itemsize
    clash = problem.in_channels * item % (target.l1_bytes // 48) == 0
    return problem.in_channels + (CACHE_LINE // item if clash else 0)


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Rows of pixels to turn, then the schedule of ``dense`` over the workspace."""
    item, ndim, blocks = problem.numpy_dtype().itemsize, problem.ndim, blocks_of(problem, tile, target)
    pitch, pixels = _pitch(problem, target), prod(sizes.in_size)
    strides = [pitch * prod(sizes.in_size[axis + 1 :]) for axis in range(ndim)]
    planes = [prod(sizes.out_size[axis:]) for axis in range(1, ndim + 1)]
    inner = sizes._replace(x_strides=(pitch * pixels, *strides, 1))
    stage = GROUP * max(sum(blocks.main), sum(blocks.tail)) * item
    found = dense.schedule(
        problem, tile, target, inner, threads, [problem.out_channels * sizes.out_plane, *planes], stage, stretch=STRETCH
    )
    whole = all(
        size == 1 or stride == prod(sizes.in_size[axis + 1 :])
        for axis, (size, stride) in enumerate(zip(sizes.in_size, sizes.x_strides[2:], strict=True))
    )
    length, rows = (pixels, [1] * ndim) if whole else (sizes.in_size[-1], [*sizes.in_size[:-1], 1])
    lanes, lines = target.lanes(problem.dtype), sizes.batch * prod(rows)
    vectors = ceil_div(length, lanes)
    # several vectors of pixels side by side are read from each plane, where that leaves the threads their shares
    vector_parts = share(vectors, threads) if lines == 1 else vectors
    part = lanes * max(1, min(SIDE_BY_SIDE, vector_parts))
    parts = ceil_div(length, part)
    count, each = len(dense.NAMES), len(dense.AXIS_NAMES)
    extra = [sizes.out_plane, length, parts, part, sizes.x_strides[0] * item, sizes.x_strides[1] * item, pitch * item]
    arguments = [*found.words[:count], *extra]
    for axis in range(ndim):
        at = count + axis * each
        arguments += [*found.words[at : at + each], rows[axis], sizes.x_strides[2 + axis] * item]
    return found._replace(
        words=arguments,
        phases=(Phase("run0", lines * parts), Phase("run1", found.phases[0].items)),
        workspace_bytes=sizes.batch * pixels * pitch * item,
        reason=f"the input turned around, {found.reason}",
    )


SIDE_BY_SIDE = 4  # vectors of pixels of one plane that are read after one another
STRETCH = 300  # cycles to bring what are neighbours in the output to their planes, for two vectors of channels
# cycles a value, fitted beside the terms of ``dense_planar``: to turn it and read it again; where arithmetic hides it;
# where it comes from beyond the L2; where another thread turned it
TURNING, TURNING_HIDDEN, TURNING_FAR, TURNING_ELSEWHERE = 1.2, 0.6, 1.9, 1.25
WAITING = 8e-6  # seconds from the one phase to the other


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """As for pixels, plus what turning costs: the input, fetching what another thread turned, the sums of a tile."""
    values, item = sizes.batch * problem.in_channels * prod(sizes.in_size), problem.numpy_dtype().itemsize
    blocks = blocks_of(problem, tile, target)
    is_far, shuffling = values * item > target.l2_bytes, TURNING_HIDDEN if target.slow_vectors else TURNING
    moved = values * (TURNING_FAR if is_far else shuffling) / threads
    if threads > 1:
        weights = item * prod(problem.kernel_size) * problem.in_channels * blocks.lanes
        span = problem.dilation[0] * (problem.kernel_size[0] - 1)
        splits = weights > max(target.l2_bytes // 2, dense.MANY_MORE * values * item)  # the threads share out weights
        elsewhere = 1.0 if splits else min(1.0, 2 * span / max(sizes.in_size[0], 1))
        moved += values * item / 4 * TURNING_ELSEWHERE * elsewhere * (threads - 1) / threads
    tiles = ceil_div(sizes.positions, tile.positions) * blocks.count * problem.groups
    moved += tiles * STRETCH / threads
    return dense.cost(problem, tile, target, sizes, threads) + moved / CLOCK + WAITING


DENSE_TURNED = Algorithm(
    "dense_turned", fits, variants, emit, pack, schedule, cost, rows_contiguous, symbols=("run0", "run1")
)
