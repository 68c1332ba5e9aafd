"""Every kind of convolution on one photograph: run, counted, timed, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from polyconv.run.problem import Array
from polyconv.tour.stops import LEAST, MULTIPLE, STOPS, Stop

if TYPE_CHECKING:
    from polyconv.count.tally import Report

LONGEST = 448  # pixels of the photograph's longer side
_RUNS, _BUDGET = 5, 0.2  # runs that are timed, and the seconds after which no further one is begun


@dataclass(frozen=True)
class Visit:
    """A stop, done.

    Args:
        stop: the kind.
        weights: by name.
        report: what it costs for this input.
        seconds: the least time of a few runs on this machine.
        picture: what it made of the photograph, (height, width) or (height, width, 3), from 0 to 1.
        before: what it read, likewise; None where that is the photograph as it is.
    """

    stop: Stop
    weights: dict[str, Array]
    report: Report
    seconds: float
    picture: Array
    before: Array | None = None


def prepared(photograph: Array) -> Array:
    """A photograph (height, width, 3) in the size the tour is made for.

    Raises:
        ValueError: one that is too small.
    """
    from polyconv.images import fitted

    height, width = photograph.shape[:2]
    if min(height, width) < LEAST:
        raise ValueError(
            f"the picture has {width} x {height} pixels, the tour needs at least {LEAST} on each side. Use a larger one"
        )
    return fitted(photograph, LONGEST, MULTIPLE)


def visits(photograph: Array) -> Iterator[Visit]:
    """Every stop on a prepared photograph, one after the other."""
    for stop in STOPS:
        yield visit(stop, photograph)


def visit(stop: Stop, photograph: Array) -> Visit:
    """Run one stop, time it, and check that its output has the shape that its geometry says."""
    x = stop.read(photograph)
    weights = stop.arrays(x.shape[1], x.ndim - 2)
    report = stop.network.count(x.shape)
    model = stop.network.bind(weights)
    result = model(x)
    if result.shape != report.out_shape:
        raise RuntimeError(f"{stop.notation} gave shape {result.shape}, its geometry says {report.out_shape}")
    least, began = float("inf"), perf_counter()
    for _ in range(_RUNS):
        start = perf_counter()
        model(x)
        end = perf_counter()
        least = min(least, end - start)
        if end - began > _BUDGET:
            break
    before = None if stop.show_input is None else stop.show_input(x)
    return Visit(stop, weights, report, least, stop.show(result), before)
