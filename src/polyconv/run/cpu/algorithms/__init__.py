"""The algorithms, one file each: what is computed, in which loops. ``record.py`` says how to add one.

They are imported when asked for: a layer whose choice is remembered (``polyconv.run.choices``) needs one of them, and
its next size those that `worth_loading` names. All of them take 10 ms, which one size would have to wait for.
"""

from __future__ import annotations

import functools
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from polyconv.run.cpu.algorithms.record import Algorithm
    from polyconv.run.cpu.target import Target
    from polyconv.run.problem import Problem

NAMES = (  # each is a module here, and its record there in capitals
    "dense",
    "dense_dot",
    "dense_near",
    "dense_near_planar",
    "dense_near_turned",
    "dense_planar",
    "dense_rows",
    "dense_spread",
    "dense_turned",
    "depthwise",
    "fourier",
    "fourier_depthwise",
    "grouped",
    "planes",
    "pooling",
    "subpixel",
    "winograd",
    "winograd_planar",
    "winograd_rows",
)


RESERVE = ("in_place", "in_place_planar")  # without scratch: for arrays so small that no other keeps to its allowance

NEAR_CHANNELS, NEAR_TERMS = 16, 160  # input channels, or terms of a sum, up to which `dense_near` pays
NEAR_PLANES = 8  # input channels up to which `dense_near_planar` pays
LONG_SUM = 256  # terms of a sum from which on `dense_near_turned` may pay
MANY_WEIGHTS = 1 << 18  # from which on `dense_turned` may pay


def worth_loading(problem: Problem, names: Sequence[str] = NAMES) -> list[str]:
    """Of some algorithms, those that may compute a problem; what their ``fits`` says is not known yet.

    Example:
        >>> from polyconv.run.problem import Problem
        >>> layer = Problem("conv", 8, 8, (3, 3), (1, 1), (1, 1), 8, True, None, "float32", "channels_first")
        >>> worth_loading(layer)
        ['dense_planar', 'dense_rows', 'depthwise', 'planes']
    """
    if problem.op not in ("conv", "conv_transpose"):
        return [name for name in names if name == "pooling"]
    is_first, alone = problem.layout == "channels_first", problem.groups == problem.in_channels
    may = {"dense_planar", "dense_rows", "in_place_planar"} if is_first else {"dense", "dense_dot", "in_place"}
    if problem.op == "conv" and problem.groups == 1:
        few, short = problem.in_channels <= NEAR_PLANES, problem.in_channels * prod(problem.kernel_size) <= NEAR_TERMS
        may |= {"dense_near_planar"} if is_first and few else set()
        long = problem.in_channels * prod(problem.kernel_size) >= LONG_SUM
        may |= {"dense_near_turned"} if is_first and few and long else set()
        near = short or problem.in_channels <= NEAR_CHANNELS or is_apart(problem)
        may |= {"dense_near"} if not is_first and near else set()
    may |= {"dense_turned"} if is_first and may_turn(problem) else set()
    may |= {"depthwise"} if alone else {"grouped"} if problem.groups > 1 else set()
    if problem.op == "conv_transpose":
        may |= {"subpixel", *(("dense_spread",) if is_first else ())}
    elif alone and is_first:
        may |= {"planes"}
    if problem.dtype == "float32":  # those that round more
        plain, longest = problem.op == "conv" and set(problem.stride) == {1}, max(problem.kernel_size)
        taps = max(-(-size // step) for size, step in zip(problem.kernel_size, problem.stride, strict=True))
        if taps > 1 and not alone:
            may |= {"winograd_planar" if is_first else "winograd"}
        may |= {"winograd_rows"} if plain and is_first and taps > 1 and problem.kernel_size[-1] == 1 else set()
        may |= {"fourier", *(("fourier_depthwise",) if alone else ())} if plain and longest > 4 else set()
    return [name for name in names if name in may]


def is_apart(problem: Problem) -> bool:
    """Do neighbouring outputs read different inputs: pointwise layers, and patches beside each other."""
    return all(size <= stride for size, stride in zip(problem.kernel_size, problem.stride, strict=True))


def may_turn(problem: Problem) -> bool:
    """May `dense_turned` pay: strips would read many weights again, or be a row or two of a dilated layer."""
    weights = problem.in_channels * problem.out_channels // problem.groups * prod(problem.kernel_size)
    return weights >= MANY_WEIGHTS or (problem.op == "conv" and max(problem.dilation) > 1)


def reserve(problem: Problem, target: Target) -> list[tuple[Algorithm, Hashable]]:
    """What computes a problem without memory of its own, with each tile; pooling has no need of it."""
    found = [algorithm(name) for name in worth_loading(problem, RESERVE)]
    return [(one, tile) for one in found for tile in one.variants(problem, target)]


@functools.cache
def algorithm(name: str) -> Algorithm:
    """The algorithm of a name out of ``NAMES``."""
    found: Algorithm = getattr(import_module(f"{__name__}.{name}"), name.upper())
    return found


def every() -> tuple[Algorithm, ...]:
    """All of them."""
    return tuple(algorithm(name) for name in (*NAMES, *RESERVE))
