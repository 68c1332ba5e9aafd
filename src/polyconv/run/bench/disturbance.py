"""How much of the machine somebody else used while a library was timed: a disturbed round is timed again."""

from __future__ import annotations

import os
from pathlib import Path

TOLERATED = 0.25  # of one core; the system counts in ticks of 10 ms, so that short rounds cannot be told finer


def busy_s(source: Path = Path("/proc/stat")) -> float | None:
    """Seconds all processors together have worked since the system started, or were taken away by its host.

    None where the system does not say (anything but Linux).
    """
    try:
        fields = source.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    ticks = [int(value) for value in fields[1:9]]  # user nice system idle iowait irq softirq steal
    return (sum(ticks) - ticks[3] - ticks[4]) / float(os.sysconf("SC_CLK_TCK"))


def disturbed(before: float | None, after: float | None, own_s: float, wall_s: float) -> bool:
    """Whether others worked more than ``TOLERATED`` of a core.

    Args:
        before: ``busy_s()`` at the start, and ``after`` at the end.
        after: see above.
        own_s: processor seconds of the timed process itself.
        wall_s: seconds between the two.

    Example:
        >>> disturbed(100.0, 100.21, own_s=0.2, wall_s=0.1), disturbed(100.0, 100.25, own_s=0.2, wall_s=0.1)
        (False, True)
    """
    if before is None or after is None:
        return False
    return after - before - own_s > TOLERATED * wall_s
