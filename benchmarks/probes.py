"""Measurements that need a fresh process: ``python -m benchmarks.probes NAME JSON`` prints the answer as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def first_call(job: dict[str, Any]) -> dict[str, float]:
    """Seconds from polyconv imported to the first answer (weights given), and of a later call."""
    import numpy as np

    import polyconv as pc

    shape = tuple(job["shape"])
    net = pc.network(job["notation"])
    weights = net.weights(in_channels=shape[1])
    x = _in_layout(np.ones(shape, np.float32), job["layout"])
    start = time.perf_counter()
    model = net.bind(weights, layout=job["layout"])
    model(x)
    first = time.perf_counter() - start
    start = time.perf_counter()
    model(x)
    return {"first_s": first, "second_s": time.perf_counter() - start}


def new_sizes(job: dict[str, Any]) -> list[dict[str, Any]]:
    """For each spatial size: its first call, and the low percentile of later ones."""
    import numpy as np

    import polyconv as pc
    from polyconv.run.bench.timing import Timing, time_calls

    net = pc.network(job["notation"])
    batch, channels = job["start"]
    model = net.bind(net.weights(in_channels=channels), layout=job["layout"])
    rows = []
    for size in job["sizes"]:
        x = _in_layout(np.ones((batch, channels, *size), np.float32), job["layout"])
        start = time.perf_counter()
        model(x)
        first = time.perf_counter() - start
        later = Timing(tuple(time_calls(lambda x=x: model(x), budget_s=0.05))).low
        rows.append({"size": size, "first_s": first, "later_s": later, "extra_s": first - later})
    return rows[1:]  # the first size also pays for the layer itself


def new_sizes_in_a_row(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The same where one size follows another at once: what planning left in the caches is still there."""
    import numpy as np

    import polyconv as pc
    from polyconv.run.bench.timing import Timing, time_calls

    net = pc.network(job["notation"])
    batch, channels = job["start"]
    model = net.bind(net.weights(in_channels=channels), layout=job["layout"])
    inputs = [_in_layout(np.ones((batch, channels, *size), np.float32), job["layout"]) for size in job["sizes"]]
    firsts = []
    for x in inputs:
        start = time.perf_counter()
        model(x)
        firsts.append(time.perf_counter() - start)
    rows = []
    for size, x, first in zip(job["sizes"], inputs, firsts, strict=True):
        later = Timing(tuple(time_calls(lambda x=x: model(x), budget_s=0.05))).low
        rows.append({"size": size, "first_s": first, "later_s": later, "extra_s": first - later})
    return rows[1:]


def tiny(job: dict[str, Any]) -> dict[str, float]:
    """Seconds of a call of a layer so small that only the way to it counts."""
    import numpy as np

    import polyconv as pc
    from polyconv.run.bench.timing import Timing, time_calls

    net = pc.network(job["notation"])
    model = net.bind(net.weights(in_channels=job["shape"][1]), layout=job["layout"])
    x = _in_layout(np.ones(tuple(job["shape"]), np.float32), job["layout"])
    timing = Timing(tuple(time_calls(lambda: model(x), budget_s=0.5, max_samples=20_000)))
    return {"low_s": timing.low, "median_s": timing.median}


def memory(job: dict[str, Any]) -> dict[str, Any]:
    """Resident and peak bytes along many calls: after a tenth of them, and at the end."""
    import numpy as np

    import polyconv as pc

    models = []
    for notation, shape in job["layers"]:
        net = pc.network(notation)
        models.append((net.bind(net.weights(in_channels=shape[1])), np.ones(tuple(shape), np.float32)))
    marks, calls = [], int(job["calls"])
    for number in range(calls + 1):
        if number in (calls // 10, calls // 2, calls):
            marks.append({"calls": number, **_memory()})
        for model, x in models:
            model(x)
    return {"marks": marks, "growth": marks[-1]["peak"] - marks[0]["peak"]}


def _memory() -> dict[str, int]:
    """Bytes resident now and at most (the system's ru_maxrss also counts the process that started this one)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"resident": peak, "peak": peak}
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return {"resident": int(kilobytes["VmRSS"]) * 1024, "peak": int(kilobytes["VmHWM"]) * 1024}


def _in_layout(x: Any, layout: str) -> Any:
    import numpy as np

    return x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](json.loads(sys.argv[2]))))
