"""Transposed convolution with few output channels: every output phase is a channel of one plain convolution.

With one or a few output channels a phase fills no vector. But all phases read the same inputs: seen from input
position q, the outputs ``q * stride + r`` for all r and all output channels are so many channels of a convolution of
stride 1 whose kernel is kernel / stride long. That convolution is ``dense`` (or ``dense_planar``); only its sums go
elsewhere: lane (r, channel) of position q to output q * stride + r. Where the stride does not divide the kernel, phases
would need weights of zero, which turn an infinite input into NaN where the definition does not read it: not offered.

Phases are counted from the uncropped output, so that the padding, which crops it, stays a run-time argument.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from polyconv.run.cpu.activations import activate
from polyconv.run.cpu.algorithms import dense, dense_planar
from polyconv.run.cpu.algorithms.blocks import pack_blocks
from polyconv.run.cpu.algorithms.dense import Body, DenseKernel, Tile, blocks_of
from polyconv.run.cpu.algorithms.dense_planar import PlanarKernel
from polyconv.run.cpu.algorithms.gather import GROUP
from polyconv.run.cpu.algorithms.record import Algorithm, Schedule, Sizes, ceil_div, table_of
from polyconv.run.cpu.emit import SUFFIX, Value, Var, vector_of
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Array, Problem


def fits(problem: Problem, target: Target) -> str | None:
    """Transposed, ungrouped, with a stride that divides the kernel, fewer output channels than lanes."""
    if problem.op != "conv_transpose":
        return f"it computes transposed convolutions, not {problem.op}"
    if problem.groups > 1 or prod(problem.stride) == 1:
        return "it needs one group and a stride"
    if problem.out_channels >= target.lanes(problem.dtype):
        return f"{problem.out_channels} output channels fill a vector by themselves"
    if problem.out_channels * prod(problem.stride) > 4096:
        return f"strides {problem.stride} make too many phases"
    if any(dilation > 1 for dilation in problem.dilation) or any(
        kernel % stride for kernel, stride in zip(problem.kernel_size, problem.stride, strict=True)
    ):
        return f"kernel {problem.kernel_size} does not give each phase of stride {problem.stride} the same taps"
    return None


def _plain(problem: Problem) -> Problem:
    """The convolution whose channels are (phase, output channel)."""
    ones = (1,) * problem.ndim
    return replace(
        problem, op="conv", out_channels=problem.out_channels * prod(problem.stride), stride=ones, dilation=ones,
        kernel_size=tuple(kernel // stride for kernel, stride in zip(problem.kernel_size, problem.stride, strict=True)),
    )  # fmt: skip


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """Those of the plain convolution."""
    found = dense.variants if problem.layout == "channels_last" else dense_planar.variants
    return found(_plain(problem), target)


def pack(problem: Problem, tile: Tile, target: Target, weight: Array | None, bias: Array | None) -> Array:
    """The plain convolution's weights, packed as in ``dense``."""
    if weight is None:
        raise ValueError(f"{problem.op} needs a weight array, got None.")
    plain = _plain(problem)
    phases = prod(problem.stride)
    spread = np.zeros((phases, problem.out_channels, problem.in_channels, *plain.kernel_size), weight.dtype)
    for tap in np.ndindex(*problem.kernel_size):
        phase = tuple(place % stride for place, stride in zip(tap, problem.stride, strict=True))
        back = tuple(-1 - place // stride for place, stride in zip(tap, problem.stride, strict=True))
        number = np.ravel_multi_index(phase, problem.stride)
        spread[(number, slice(None), slice(None), *back)] = weight[(..., *tap)].T
    whole = spread.reshape(plain.out_channels, problem.in_channels, *plain.kernel_size)
    return pack_blocks(plain, blocks_of(plain, tile, target), whole, None if bias is None else np.tile(bias, phases))


# ---- the loop nest -------------------------------------------------------------------------------------------------
def emit(problem: Problem, tile: Tile, target: Target) -> str:
    """The module of ``dense`` or ``dense_planar``, with another way out for the sums."""
    last = problem.layout == "channels_last"
    kernel = (_PixelKernel if last else _PlaneKernel)(_plain(problem), tile, target)
    kernel.side_by_side = problem.ndim == 1 and (last or problem.out_channels == 1)
    return kernel.write()


class _SubpixelKernel(DenseKernel):
    """What both layouts change: sums go through scratch to where their lane's table says."""

    stage: Value
    side_by_side = False  # are the lanes of one position neighbours in the output
    axis_extra = ("phases", "behind", "length")  # stride, outputs cropped in front of position 0, output size

    def finish(self, body: Body, sums: list[list[Var]]) -> None:
        k, width = self.k, sum(body.lanes)
        for position, totals in enumerate(sums):
            for start, total in zip(body.starts, totals, strict=True):
                k.store_vector(total.value, k.at(self.stage, position * width + start), align=k.bytes)

    def after(self, body: Body, count: Value) -> None:
        k, w, width = self.k, self.w, sum(body.lanes)
        with k.loop(0, count, nonempty=True) as position:
            out = k.load(k.word_at(self.gather.outs, position), "ptr")
            first = []
            for axis, origins in enumerate(self.gather.origins):
                place = k.load(k.word_at(origins, position), "i64")
                first.append(place * w[f"phases{axis}"] - w[f"behind{axis}"])
            for start, lanes, used in zip(body.starts, body.lanes, body.counts, strict=True):
                valid = k.mask(used, lanes)
                for axis, base in enumerate(first):
                    valid = valid & (self.column(1 + axis, body, start, lanes) + base).below(w[f"length{axis}"])
                values = k.load_vector(k.at(self.stage, position * width + start), lanes)
                values = activate(k, self.problem.activation, values)
                offsets = self.column(0, body, start, lanes)
                if self.side_by_side:
                    k.store_vector(values, k.byte_at(out, k.extract(offsets, 0)), mask=valid)
                    continue
                pointers = k.broadcast(out, lanes)
                pointers = k.emit(f"getelementptr i8, {pointers!r}, {offsets!r}", vector_of("ptr", lanes))
                name = f"llvm.masked.scatter.v{lanes}{SUFFIX[k.scalar]}.v{lanes}p0"
                k.call(name, "void", values, pointers, f"i32 {k.bytes}", valid)

    def column(self, number: int, body: Body, start: int, lanes: int) -> Value:
        """A row of the lanes' table: byte offsets, or phases along an axis."""
        k = self.k
        at = body.channel + start + self.blocks.lanes * number
        return k.load_vector(k.word_at(self.w["lanes"], at), lanes, type_="i64")


class _PixelKernel(_SubpixelKernel):
    names: tuple[str, ...] = (*dense.NAMES, "lanes: ptr")
    axis_names: tuple[str, ...] = (*dense.AXIS_NAMES, *_SubpixelKernel.axis_extra)

    def rows_at(self) -> Value:
        self.stage = super().rows_at()
        return self.k.byte_at(self.stage, _stage_bytes(self))


class _PlaneKernel(_SubpixelKernel, PlanarKernel):
    names: tuple[str, ...] = (*dense_planar.NAMES, "lanes: ptr")
    axis_names: tuple[str, ...] = (*dense_planar.AXIS_NAMES, *_SubpixelKernel.axis_extra)


def _stage_bytes(kernel: DenseKernel) -> int:
    return GROUP * max(sum(kernel.blocks.main), sum(kernel.blocks.tail)) * kernel.k.bytes


# ---- run-time sizes ------------------------------------------------------------------------------------------------
def schedule(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> Schedule:
    """The plain convolution's schedule, with where its lanes go."""
    plain, item = _plain(problem), problem.numpy_dtype().itemsize
    last = problem.layout == "channels_last"
    inner = _sizes(problem, sizes)
    planes = [sizes.out_plane, *(prod(sizes.out_size[axis:]) for axis in range(1, problem.ndim + 1))]
    width, lane = (problem.out_channels, 1) if last else (1, planes[0])
    batch, *steps = [plane * width for plane in planes]
    batch = planes[0] * problem.out_channels
    jumps = [batch, *(step * stride for step, stride in zip(steps, problem.stride, strict=True))]
    blocks = blocks_of(plain, tile, target)
    behind = [before % stride for (before, _), stride in zip(sizes.padding, problem.stride, strict=True)]
    phases = list(itertools.product(*map(range, problem.stride)))
    moved = [sum((at - back) * step for at, back, step in zip(p, behind, steps, strict=True)) for p in phases]
    offsets = [(start + channel) * item for start in moved for channel in range(0, problem.out_channels * lane, lane)]
    rest = [0] * (blocks.lanes - plain.out_channels)
    columns = [[at for p in phases for at in (p[axis],) * problem.out_channels] for axis in range(problem.ndim)]
    table = table_of(itertools.chain(*((*column, *rest) for column in (offsets, *columns))))
    if last:
        stage = GROUP * max(sum(blocks.main), sum(blocks.tail)) * item
        found = dense.schedule(plain, tile, target, inner, threads, jumps, stage, regions=False)
        count, axis_count = len(dense.NAMES), len(dense.AXIS_NAMES)
    else:
        found = dense_planar.schedule(plain, tile, target, inner, threads, jumps)
        count, axis_count = len(dense_planar.NAMES), len(dense_planar.AXIS_NAMES)
    given = found.words
    arguments = [*given[:count], table.buffer_info()[0]]
    for axis in range(problem.ndim):
        at = count + axis * axis_count
        arguments += given[at : at + axis_count]
        arguments += [problem.stride[axis], behind[axis], sizes.out_size[axis]]
    reason = f"{prod(problem.stride)} phases as channels; {found.reason}"
    return found._replace(words=arguments, tables=(*found.tables, table), reason=reason)


def _sizes(problem: Problem, sizes: Sizes) -> Sizes:
    """Sizes of the plain convolution: positions q whose outputs are not all cropped."""
    kernel = _plain(problem).kernel_size
    axes = list(zip(sizes.padding, sizes.out_size, problem.stride, kernel, strict=True))
    first = [before // stride for (before, _), _, stride, _ in axes]
    ends = [ceil_div(size + before, stride) for (before, _), size, stride, _ in axes]
    out = tuple(end - start for start, end in zip(first, ends, strict=True))
    padding = tuple((taps - 1 - q, 0) for (_, _, _, taps), q in zip(axes, first, strict=True))
    return Sizes(sizes.batch, sizes.in_size, padding, out, sizes.x_strides)


def reads(problem: Problem, sizes: Sizes) -> bool:
    """As the plain convolution's algorithm."""
    return (dense.DENSE if problem.layout == "channels_last" else dense_planar.DENSE_PLANAR).reads(problem, sizes)


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """The plain convolution's time, and two cycles to bring each output to its place."""
    inner = dense.cost if problem.layout == "channels_last" else dense_planar.cost
    outside = 2.0 * sizes.positions * problem.out_channels / CLOCK
    return inner(_plain(problem), tile, target, _sizes(problem, sizes), threads) + outside / threads


SUBPIXEL = Algorithm("subpixel", fits, variants, emit, pack, schedule, cost, reads)
