"""Which engine runs a problem, and why: machine code where it can be made, the NumPy reference where it cannot."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from polyconv.run.numpy_engine import NumpyEngine
from polyconv.run.problem import Array, Engine, Pads, Problem

if TYPE_CHECKING:
    from polyconv.run.plan import CompiledEngine, OneCallLayer

FUSING = ("auto", "on", "off")


def fusing() -> str:
    """``POLYCONV_FUSE``: neighbouring layers run as one where it pays (``auto``), where possible (``on``), or ``off``.

    With ``off`` every layer also runs in the layout that was asked for.

    Raises:
        ValueError: it is something else.
    """
    wish = os.environ.get("POLYCONV_FUSE", "auto") or "auto"
    if wish not in FUSING:
        raise ValueError(f"POLYCONV_FUSE={wish!r} is not known; use 'auto', 'on' or 'off', or leave it unset.")
    return wish


def engine_for(problem: Problem) -> Engine:
    """The engine for a problem; what it prepares says in ``explain`` why it is this one.

    ``POLYCONV_ENGINE=numpy`` asks for the reference; without llvmlite, or where the system refuses to run generated
    code, there is no other.
    """
    from polyconv.run.cpu.support import why_not

    obstacle = why_not()
    return NumpyEngine(obstacle) if obstacle else _compiled_for(problem)


@lru_cache(maxsize=4096)
def _compiled_for(problem: Problem) -> Engine:
    engine = _compiled()
    obstacle = engine.why_not(problem)
    return NumpyEngine(f"no compiled algorithm fits: {obstacle}") if obstacle else engine


def run_once(
    problem: Problem, weight: Array | None, bias: Array | None, x: Array, padding: Pads, out_size: tuple[int, ...]
) -> Array:
    """One call of a layer, as what ``engine_for`` prepares gives it; of the weights nothing is kept."""
    engine = engine_for(problem)
    if isinstance(engine, NumpyEngine):
        return engine.prepare(problem, weight, bias)(x, padding, out_size)
    return _once_for(problem).run(x, padding, out_size, weight, bias)


@lru_cache(maxsize=256)
def _once_for(problem: Problem) -> OneCallLayer:
    return _compiled().prepare_once(problem)


def forget() -> None:
    """Plan anew what ``run_once`` runs: what was measured has changed."""
    _once_for.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)  # another thread may have been about to change a plan


@lru_cache(maxsize=1)
def _compiled() -> CompiledEngine:
    from polyconv.run.plan import CompiledEngine

    return CompiledEngine()
