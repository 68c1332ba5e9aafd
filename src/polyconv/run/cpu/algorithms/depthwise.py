"""Depthwise convolution, its transposed form, and few outputs a channel (a multiplier)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from polyconv.run.cpu.algorithms.lanes import (
    cut,
    either_way,
    emit,
    pack,
    placing_cycles,
    remainders_of,
    schedule,
    turning_cycles,
)
from polyconv.run.cpu.algorithms.record import Algorithm, Sizes, rows_contiguous
from polyconv.run.cpu.algorithms.sliding import Tile
from polyconv.run.cpu.target import CLOCK, Target
from polyconv.run.problem import Problem

COLUMN = 1.5  # cycles to read a vector that does not lie in the L1
# channels first: what this model leaves out, next to what that of ``planes`` does; up to so many taps without a stride
PLANES_FASTER, FEW_TAPS, PLANES_FASTER_FEW = 1.1, 27, 1.25


def fits(problem: Problem, target: Target) -> str | None:
    """One input channel a group."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.groups != problem.in_channels:
        return f"it takes one input channel a group, not {problem.in_channels // problem.groups}"
    outputs, most = problem.out_channels // problem.groups, 4 * target.lanes(problem.dtype)
    if outputs > most:
        return f"it takes at most four vectors of outputs a channel ({most}), not {outputs}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """One tile: what the registers hold."""
    length = max(len(taps) for taps in remainders_of(problem, problem.ndim - 1).taps)
    registers = cut(problem, target).lanes // target.lanes(problem.dtype)  # of a block
    wide = target.vector_registers >= 32
    if problem.op == "conv" and problem.ndim > 1 and problem.kernel_size[-2] * length <= 12:
        return either_way(problem, Tile(2, (8 if wide else 4) // registers, length))
    return either_way(problem, Tile(0, 8 // registers, max(1, min(length, 8))))


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: multiply-adds of vectors; with channels first also the shuffles of input and output.

    With channels last and few taps, or one axis, each column that a tile reads comes from the L2, or further away.
    """
    blocks = cut(problem, target)
    taps = prod(problem.kernel_size) / (prod(problem.stride) if problem.op == "conv_transpose" else 1)
    cycles = taps * CLOCK / target.vector_rate
    if problem.layout == "channels_last" and problem.op == "conv" and (tile.rows or problem.ndim == 1):
        columns = tile.pixels * problem.stride[-1] + problem.kernel_size[-1] - 1
        rows = tile.rows * problem.stride[-2] + problem.kernel_size[-2] - 1 if tile.rows else 1
        cycles += COLUMN * columns * rows / (tile.pixels * (tile.rows or 1))
    vectors = blocks.count * (blocks.lanes // target.lanes(problem.dtype))
    placing = placing_cycles(problem, tile, target, sizes) + turning_cycles(problem, tile, target, sizes)
    slower = 1.0
    if problem.layout == "channels_first":
        few = prod(problem.kernel_size) <= FEW_TAPS and prod(problem.stride) == 1
        slower = PLANES_FASTER_FEW if few else PLANES_FASTER
    return slower * (sizes.positions * vectors * cycles + placing) / CLOCK / threads


DEPTHWISE = Algorithm("depthwise", fits, variants, emit, pack, schedule, cost, rows_contiguous)
