"""Which algorithm and tile a shape was given, remembered beside the code cache: planned, or measured by ``tune``.

An entry holds the choices for one problem on one machine, one a line (``json`` would take 2 ms to import). It lies in
the code cache (private, checksummed, written at once or not at all, bounded) under a hash of everything it depends on:
the problem, the machine, polyconv's own source and the version of this format. What is read is still only a proposal:
the engine takes it where the algorithm fits the problem and has such a tile, and plans anew where not.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from polyconv.run.cpu import cache
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Problem

FORMAT = 1
MAX_ENTRIES = 64  # shapes of one problem; measured ones are kept longest
ONCE = " once"  # ends the names of shapes whose weights are packed at each call
FAR = " far"  # and of those whose weights come from memory


class Choice(NamedTuple):
    """What runs a shape. ``seconds`` are expected (on one thread) or measured (on ``threads``)."""

    algorithm: str
    tile: str
    threads: int
    seconds: float
    measured: bool = False


def key_of(problem: Problem, target: Target) -> str:
    """The entry's name."""
    parts = (f"choices {FORMAT}", cache.source_digest(), cache.llvm_version(), str(target), str(problem))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def shape_key(
    batch: int,
    in_size: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    out_size: tuple[int, ...],
    threads: int,
) -> str:
    """What a choice depends on besides the problem and the machine, as text."""
    return f"{batch} {in_size} {padding} {out_size} {threads}"


def recall(problem: Problem, target: Target) -> dict[str, Choice]:
    """The choices remembered for a problem, by shape; none where the entry is missing or not as written here."""
    payload = cache.read(key_of(problem, target))
    if payload is None:
        return {}
    try:
        rows = [line.split("\t") for line in payload.decode().splitlines()]
        return {shape: _choice(*fields) for shape, *fields in rows}
    except (ValueError, TypeError):
        return {}


def _choice(algorithm: str, tile: str, threads: str, seconds: str, measured: str) -> Choice:
    """A choice from its text.

    Raises:
        ValueError: a field is not what it should be.
    """
    choice = Choice(algorithm, tile, int(threads), float(seconds), measured == "measured")
    if not 0 < choice.threads < 1024 or not 0 <= choice.seconds < 1e9:
        raise ValueError("not a choice")
    return choice


def for_calls(known: dict[str, Choice], ending: str = "") -> dict[str, Choice]:
    """What of the remembered holds for layers whose weights stay and are near, `FAR`, or packed for each call (`ONCE`).

    What was measured without packing holds with it as well.
    """
    if not ending:
        return {shape: one for shape, one in known.items() if not shape.endswith((ONCE, FAR))}
    own = {shape: one for shape, one in known.items() if shape.endswith(ending)}
    if ending != ONCE:
        return own
    return own | {shape + ONCE: one for shape, one in for_calls(known).items() if one.measured}


def remember(problem: Problem, target: Target, shape: str, choice: Choice) -> bool:
    """Add a choice to what is remembered; a planned one never replaces a measured one. False where that failed."""
    known = recall(problem, target)
    before = known.pop(shape, None)
    if before is not None and before.measured and not choice.measured:
        return True
    known[shape] = choice
    while len(known) > MAX_ENTRIES:
        planned = [name for name, one in known.items() if not one.measured and name != shape]
        known.pop(planned[0] if planned else next(iter(known)))
    rows = [
        (name, one.algorithm, one.tile, str(one.threads), repr(one.seconds), "measured" if one.measured else "planned")
        for name, one in known.items()
    ]
    return cache.write(key_of(problem, target), "\n".join("\t".join(row) for row in rows).encode())
