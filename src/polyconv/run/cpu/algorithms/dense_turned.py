"""Dense convolution of channels_first arrays, turned around as a whole: planes to pixels, then as ``dense``.

The input is first transposed in registers into the workspace, pixel by pixel with the channels side by side, the
threads sharing it out. The products are those of ``dense`` then, with its regions and its order of work, and the sums
are transposed on their way to the planes of the output. Beside ``dense_planar``, which turns a strip at a time, the
input is turned once whatever overlaps, and the order of work is free; but it makes a way through the caches.

Where the turned input would take more than a quarter of input, output and weights, a dilated layer's channels are
turned and multiplied in rounds, a part of them after the other. Each round adds to the planes what its channels give.

Pixels lie a cache line further apart than their channels ask for where they would share sets of the L1 cache.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import dense, dense_planar, may_turn
from polyconv.run.cpu.algorithms.blocks import CACHE_LINE
from polyconv.run.cpu.algorithms.dense import Body, DenseKernel, Tile, blocks_of, pack
from polyconv.run.cpu.algorithms.dense_planar import variants
from polyconv.run.cpu.algorithms.gather import GROUP
from polyconv.run.cpu.algorithms.record import (
    FIXED_WORDS,
    Algorithm,
    Phase,
    Schedule,
    Sizes,
    allowance,
    ceil_div,
    each_row,
    rows_contiguous,
    share,
    whole_only,
)
from polyconv.run.cpu.emit import Kernel, Value, Var, join, vector_of
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

# rows: contiguous stretches of pixels, of ``length``, cut into parts; x_plane: bytes between planes of the input
# rounds: parts of the channels, "channels" of each
EXTRA = ("plane", "length", "parts", "part", "x_batch", "x_plane", "pitch", "rounds")
NAMES = (*dense.NAMES, *EXTRA)
AXIS_NAMES = (*dense.AXIS_NAMES, "rows", "x_stride")  # rows along this axis (1 where they are one), bytes between them


def fits(problem: Problem, target: Target) -> str | None:
    """As ``dense_planar``, where it may pay."""
    if not may_turn(problem):
        return "it is for layers with many weights or dilation"
    return dense_planar.fits(problem, target)


def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module: ``run0`` turns the input around, ``run1`` multiplies; ``begin`` and ``next`` set the round."""
    turning = Kernel("run0", target, problem.dtype)
    _write_turning(turning, problem)
    multiplying = TurnedKernel(problem, tile, target)
    multiplying.k.name = "run1"
    multiplying.write()
    kernels = [turning, multiplying.k]
    for name in ("begin", "next"):
        k = Kernel(name, target, problem.dtype)
        state = k.words(*FIXED_WORDS)[3]
        k.store(k.integer(0) if name == "begin" else k.load(state, "i64") + 1, state)
        kernels.append(k)
    return join(kernels)


def _round(k: Kernel, w: dict[str, Value]) -> Value:
    """The number of this round."""
    number = k.var(k.integer(0))
    with k.when(w["rounds"] > 1, carry=[number]):
        number.value = k.load(w["workspace"], "i64")
    return number.value


STATE_BYTES = 64  # at the start of the workspace


def _word_names(problem: Problem) -> list[str]:
    """All words of ``args``."""
    return [*NAMES, *(f"{name}{axis}" for axis in range(problem.ndim) for name in AXIS_NAMES)]


# ---- planes to pixels ----------------------------------------------------------------------------------------------
def _write_turning(k: Kernel, problem: Problem) -> None:
    """Items are parts of rows of pixels."""
    names = _word_names(problem)
    w = {name.removesuffix(": ptr"): value for name, value in zip(names, k.words(*names), strict=True)}
    first = _round(k, w) * w["channels"]
    with k.loop(k.first, k.last) as item:
        row = item // w["parts"]
        start = (item % w["parts"]) * w["part"]
        stop = k.minimum(start + w["part"], w["length"])
        source, rest = k.byte_at(w["x"], first * w["x_plane"]), row
        for axis in reversed(range(problem.ndim)):
            source = k.byte_at(source, (rest % w[f"rows{axis}"]) * w[f"x_stride{axis}"])
            rest = rest // w[f"rows{axis}"]
        source = k.byte_at(source, rest * w["x_batch"])
        sink = k.byte_at(w["workspace"], row * w["length"] * w["pitch"] + STATE_BYTES)
        _turn_part(k, problem, w, source, sink, start, stop)


def _turn_part(
    k: Kernel, problem: Problem, w: dict[str, Value], source: Value, sink: Value, start: Value, stop: Value
) -> None:
    """Pixels start to stop of a row, a vector of channels after the other; rounds are of whole vectors."""
    whole, rest = divmod(problem.in_channels, k.lanes)
    several = w["rounds"] > 1
    stop_channel = k.select(several, w["channels"], k.integer(whole * k.lanes))

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
        with k.loop(0, stop_channel, k.lanes, nonempty=True) as channel:
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
        self.round = _round(self.k, self.w)
        self.w["x"] = self.k.byte_at(self.w["workspace"], STATE_BYTES)

    def all_channels(self) -> Value:
        """Those of all rounds."""
        return self.k.integer(self.problem.in_channels // self.problem.groups)

    def sums_start(self, bias: Value, weights: Value, width: int) -> tuple[Value, Value]:
        """Bias in the first round, and the weights of this round's channels."""
        bias = self.k.select(self.round.eq(0), bias, self.zeros())
        return bias, self.k.at(weights, self.round * self.w["channels"] * width)

    def rows_at(self) -> Value:
        """Where in scratch the list of taps starts: after the sums of a tile."""
        self.stage = super().rows_at()
        return self.k.byte_at(self.stage, GROUP * max(sum(self.blocks.main), sum(self.blocks.tail)) * self.k.bytes)

    def pixel_bytes(self) -> int:
        """In the workspace, where all channels are turned at once."""
        return _pitch(self.problem, self.k.target, self.problem.in_channels) * self.k.bytes

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
        k, w, width, plane = self.k, self.w, sum(body.lanes), self.w["plane"]
        before = mask & k.broadcast(self.round.ne(0), GROUP)
        for start, lanes, used in zip(body.starts, body.lanes, body.counts, strict=True):
            first = k.at(base, (body.channel + start) * plane)
            for low in range(0, self.tile.positions, lanes):
                rows = [
                    k.load_vector(k.at(self.stage, min(low + p, GROUP - 1) * width + start), lanes)
                    for p in range(lanes)
                ]
                picks = [min(low + p, GROUP - 1) for p in range(lanes)]
                ours, added = k.shuffle(mask, mask, picks), k.shuffle(before, before, picks)

                def whole(
                    rows: list[Value] = rows, ours: Value = ours, first: Value = first, used: int = used, low: int = low
                ) -> None:
                    active = [activate(k, self.problem.activation, row) for row in rows]
                    for channel, values in enumerate(k.transpose(active)[:used]):
                        k.store_vector(values, k.at(k.at(first, plane * channel), low), mask=ours)

                def part(
                    rows: list[Value] = rows,
                    ours: Value = ours,
                    added: Value = added,
                    first: Value = first,
                    used: int = used,
                    low: int = low,
                ) -> None:
                    is_last = (self.round + 1).eq(w["rounds"])
                    for channel, values in enumerate(k.transpose(rows)[:used]):
                        spot = k.at(k.at(first, plane * channel), low)
                        total = values + k.load_vector(spot, len(rows), mask=added)
                        total = k.select(is_last, activate(k, self.problem.activation, total), total)
                        k.store_vector(total, spot, mask=ours)

                if may_part(self.problem, k.target):
                    k.choose(w["rounds"] > 1, part, whole)
                else:
                    whole()


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def may_part(problem: Problem, target: Target) -> bool:
    """May the channels be turned in rounds: strided layers gain nothing by it."""
    dilated = max(problem.dilation) > 1 and max(problem.stride) == 1
    return dilated and problem.groups == 1 and problem.in_channels >= 8 * target.lanes(problem.dtype)


def grain(problem: Problem, tile: Tile, target: Target) -> int:
    """Rounds depend on the picture's size, and sums are rounded between them."""
    return whole_only(problem, tile, target) if may_part(problem, target) else each_row(problem, tile, target)


def _pitch(problem: Problem, target: Target, channels: int) -> int:
    """Elements between pixels of so many channels in the workspace."""
    item = problem.numpy_dtype().itemsize
    clash = channels * item % (target.l1_bytes // 48) == 0
    return channels + (CACHE_LINE // item if clash else 0)


LISTS = 32 << 10  # bytes that the threads' lists of taps take, about


@lru_cache(maxsize=64)
def rounds_of(problem: Problem, target: Target, sizes: Sizes) -> int:
    """Parts of the channels such that one, turned, keeps to the `allowance`; 1 where none does.

    Several only where the weights do not stay in the L2, so that strips, which take less to make, would read all of
    them again.
    """
    pixels, weights = sizes.batch * prod(sizes.in_size), prod(problem.weight_shape() or (0,))
    if not may_part(problem, target) or problem.itemsize * weights <= target.l2_bytes:
        return 1
    room = allowance(problem, sizes) - LISTS
    for rounds in (1, 2, 4):
        channels, rest = divmod(problem.in_channels, rounds)
        if rounds > 1 and (rest or channels % target.lanes(problem.dtype)):
            continue
        if pixels * _pitch(problem, target, channels) * problem.itemsize <= room:
            return rounds
    return 1


def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """Rows of pixels to turn, then the schedule of ``dense`` over the workspace."""
    item, ndim, blocks = problem.numpy_dtype().itemsize, problem.ndim, blocks_of(problem, tile, target)
    rounds = rounds_of(problem, target, sizes)
    turned = replace(problem, in_channels=problem.in_channels // rounds) if rounds > 1 else problem
    pitch, pixels = _pitch(problem, target, turned.in_channels), prod(sizes.in_size)
    strides = [pitch * prod(sizes.in_size[axis + 1 :]) for axis in range(ndim)]
    planes = [prod(sizes.out_size[axis:]) for axis in range(1, ndim + 1)]
    inner = sizes._replace(x_strides=(pitch * pixels, *strides, 1))
    stage = GROUP * max(sum(blocks.main), sum(blocks.tail)) * item
    out_strides = [problem.out_channels * sizes.out_plane, *planes]
    found = dense.schedule(  # no runs of taps where a tap's channels are not all there
        turned, tile, target, inner, threads, out_strides, stage, runs=rounds == 1, stretch=STRETCH
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
    arguments = [*found.words[:count], *extra, rounds]
    arguments[dense.NAMES.index("depth")] *= rounds
    for axis in range(ndim):
        at = count + axis * each
        arguments += [*found.words[at : at + each], rows[axis], sizes.x_strides[2 + axis] * item]
    steps = (Phase("run0", lines * parts), Phase("run1", found.phases[0].items))
    how = f"turned around in {rounds} rounds of {turned.in_channels} channels" if rounds > 1 else "turned around"
    return found._replace(
        words=arguments,
        phases=steps if rounds == 1 else (Phase("begin", 1), *steps, *(Phase("next", 1), *steps) * (rounds - 1)),
        workspace_bytes=STATE_BYTES + sizes.batch * pixels * pitch * item,
        reason=f"the input {how}, {found.reason}",
    )


SIDE_BY_SIDE = 4  # vectors of pixels of one plane that are read after one another
STRETCH = 300  # cycles to bring what are neighbours in the output to their planes, for two vectors of channels
# cycles a value, fitted beside the terms of ``dense_planar``: to turn it and read it again; where arithmetic hides it;
# where it comes from beyond the L2; where another thread turned it
TURNING, TURNING_HIDDEN, TURNING_FAR, TURNING_ELSEWHERE = 1.2, 0.6, 1.9, 1.25
WAITING = 8e-6  # seconds from the one phase to the other
ADDING = 1.0  # cycles a value, to add a round's sums to those before


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
    rounds = rounds_of(problem, target, sizes)
    moved += (rounds - 1) * sizes.positions * problem.out_channels * ADDING / threads
    return dense.cost(problem, tile, target, sizes, threads) + moved / CLOCK + WAITING * rounds


DENSE_TURNED = Algorithm(
    "dense_turned",
    fits,
    variants,
    emit,
    pack,
    schedule,
    cost,
    rows_contiguous,
    grain,
    symbols=("run0", "run1", "begin", "next"),
)
