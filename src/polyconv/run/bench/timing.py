"""How a callable is timed: warmed up, garbage collection off, many calls, a low percentile kept beside the median."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LOW_PERCENTILE = 20.0
_SHORTEST_SAMPLE = 20e-6  # seconds; shorter calls are timed several at a time, so that the clock's own cost vanishes


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call over many calls, in the order they were made.

    Example:
        >>> timing = Timing((4e-6, 2e-6, 3e-6, 9e-6, 5e-6, 6e-6))
        >>> timing.low, timing.median
        (3e-06, 4.5e-06)
    """

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ValueError("a timing needs at least one call; got none")

    @property
    def low(self) -> float:
        """The 20th percentile, in seconds: what the machine does when nobody disturbs it."""
        return float(np.percentile(self.seconds, LOW_PERCENTILE))

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return float(np.median(self.seconds))


def time_calls(
    call: Callable[[], Any],
    *,
    budget_s: float = 0.1,
    min_samples: int = 1,
    max_samples: int = 2000,
    before: Callable[[], Any] | None = None,
) -> list[float]:
    """Time a callable: one call or more to warm up, then samples until the time is spent.

    Args:
        call: what to time; its result is dropped at once, as in a loop that does not keep it.
        budget_s: seconds to spend on samples. A call longer than this is timed ``min_samples`` times.
        min_samples: samples taken whatever they cost.
        max_samples: samples after which the timing ends early.
        before: what to do before each sample, which then is one call; it is not timed, but spends the time as well.

    Returns:
        Seconds per call, one number for each sample.

    Example:
        >>> samples = time_calls(lambda: sum(range(1000)), budget_s=0.001)
        >>> min(samples) > 0
        True
    """
    if budget_s < 0 or min_samples < 1 or max_samples < min_samples:
        raise ValueError(
            f"budget_s must be 0 or more and 1 <= min_samples <= max_samples; "
            f"got budget_s={budget_s}, min_samples={min_samples}, max_samples={max_samples}"
        )
    once = _warm(call, budget_s / 5)
    inner = max(1, round(_SHORTEST_SAMPLE / max(once, 1e-9))) if once < _SHORTEST_SAMPLE / 2 and not before else 1
    samples: list[float] = []
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + budget_s
        while len(samples) < min_samples or (len(samples) < max_samples and time.perf_counter() < end):
            if before:
                before()
            samples.append(_sample(call, inner))
    finally:
        if was_enabled:
            gc.enable()
    return samples


def _warm(call: Callable[[], Any], budget_s: float) -> float:
    """Call at least once and for up to ``budget_s``; the fastest call, in seconds."""
    best = _sample(call, 1)
    end = time.perf_counter() + budget_s
    for _ in range(20):
        if time.perf_counter() + best > end:
            break
        best = min(best, _sample(call, 1))
    return best


def _sample(call: Callable[[], Any], inner: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(inner):
        call()
    return (time.perf_counter_ns() - start) / (inner * 1e9)
