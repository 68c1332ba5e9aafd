"""How many threads this process may use: what it was told, its affinity, its control group's quota."""

from __future__ import annotations

import math
import os

MAX_THREADS = 256


def threads_allowed() -> int:
    """``POLYCONV_NUM_THREADS``, or else the processors this process may run on, within its control group's quota.

    Raises:
        ValueError: ``POLYCONV_NUM_THREADS`` is not a positive whole number.
    """
    told = os.environ.get("POLYCONV_NUM_THREADS", "").strip()
    if told:
        if not told.isdecimal() or int(told) < 1:
            raise ValueError(
                f"POLYCONV_NUM_THREADS={told!r} is not a number of threads; use 1, 2, ... or leave it unset."
            )
        return min(int(told), MAX_THREADS)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_processors()
    return max(1, min(affinity, MAX_THREADS, affinity if quota is None else quota))


def cgroup_processors(membership: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int | None:
    """Processors that the control groups (version 1 or 2) of this process allow, rounded up; None without a limit.

    A group is bound by every group above it, and inside a container the path may not be visible: all of the path's
    prefixes that exist are asked.
    """
    try:
        with open(membership, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            limits += [_quota_v2(f"{top}/{at}") for top in (root, f"{root}/unified") for at in _prefixes(path)]
        elif "cpu" in controllers.split(","):
            tops = {f"{root}/{name}" for name in (controllers, "cpu", "cpu,cpuacct")}
            limits += [_quota_v1(f"{top}/{at}") for top in tops for at in _prefixes(path)]
    found = [limit for limit in limits if limit is not None]
    return max(1, math.ceil(min(found))) if found else None


def _prefixes(path: str) -> list[str]:
    """``/a/b`` gives the empty path, ``a`` and ``a/b``."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["/".join(parts[:count]) for count in range(len(parts) + 1)]


def _quota_v2(group: str) -> float | None:
    """``cpu.max`` holds "quota period" in microseconds, or "max period"."""
    try:
        with open(f"{group}/cpu.max", encoding="utf-8") as file:
            quota, period = file.read().split()[:2]
        return int(quota) / int(period) if quota != "max" and int(period) > 0 else None
    except (OSError, ValueError):
        return None


def _quota_v1(group: str) -> float | None:
    """``cpu.cfs_quota_us`` is -1 without a limit."""
    try:
        with open(f"{group}/cpu.cfs_quota_us", encoding="utf-8") as file:
            quota = int(file.read())
        with open(f"{group}/cpu.cfs_period_us", encoding="utf-8") as file:
            period = int(file.read())
        return quota / period if quota > 0 and period > 0 else None
    except (OSError, ValueError):
        return None
