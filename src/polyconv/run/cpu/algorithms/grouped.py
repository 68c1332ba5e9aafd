"""Grouped convolution with few channels a group: several groups in one vector, each lane fed from its own group."""

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

MOST_INPUTS = 16  # of a group: each is written out
CODE = 320  # multiply-adds written out for one row of a tile


def fits(problem: Problem, target: Target) -> str | None:
    """Several input channels a group, not too many."""
    if problem.op not in ("conv", "conv_transpose"):
        return f"it computes convolutions, not {problem.op}"
    if problem.groups == 1 or problem.groups == problem.in_channels:
        return f"it takes several groups of several channels, not {problem.groups} of {problem.in_channels}"
    inputs, outputs = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    if inputs > MOST_INPUTS:
        return f"it takes at most {MOST_INPUTS} input channels a group, not {inputs}"
    if outputs > 2 * target.lanes(problem.dtype):
        return f"it takes at most two vectors of outputs a group ({2 * target.lanes(problem.dtype)}), not {outputs}"
    return None


def variants(problem: Problem, target: Target) -> Sequence[Tile]:
    """One tile: as many pixels as the code may be long, at least four registers."""
    blocks = cut(problem, target)
    registers = blocks.lanes // target.lanes(problem.dtype)
    length = max(len(taps) for taps in remainders_of(problem, problem.ndim - 1).taps)
    taps = max(1, min(length, 8, CODE // (4 * blocks.inputs)))
    pixels = 8 if taps * blocks.inputs * 8 <= CODE else 4
    return either_way(problem, Tile(0, pixels // registers, taps))


def cost(problem: Problem, tile: Tile, target: Target, sizes: Sizes, threads: int) -> float:
    """Seconds: multiply-adds of whole vectors, and a shuffle for each input of each column that a tile loads.

    With channels first also the shuffles that turn input and output around.
    """
    blocks = cut(problem, target)
    columns = (tile.pixels - 1) * problem.stride[-1] + min(tile.taps, problem.kernel_size[-1])
    shuffles = columns / (tile.pixels * min(tile.taps, problem.kernel_size[-1]))
    taps = prod(problem.kernel_size) / (prod(problem.stride) if problem.op == "conv_transpose" else 1)
    registers = blocks.all_lanes / target.lanes(problem.dtype)
    adds = taps * blocks.inputs / target.vector_rate
    each = adds + taps * blocks.inputs * shuffles / 2 / CLOCK
    placing = placing_cycles(problem, tile, target, sizes) + turning_cycles(problem, tile, target, sizes)
    return (sizes.positions * registers * each + placing / CLOCK) / threads


GROUPED = Algorithm("grouped", fits, variants, emit, pack, schedule, cost, rows_contiguous)
