"""Measurements that need a fresh process: ``python -m benchmarks.probes NAME JSON`` prints the answer as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
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
    """For each spatial size: its first call, and the low percentile of later ones, which last ``gap_s`` each time.

    Without a gap one size follows another at once: what planning left in the caches is still there.
    """
    from polyconv.run.bench.timing import Timing, time_calls

    run, make = _NEW_SIZES[job["library"]](job)
    inputs = [make(size) for size in job["sizes"]]
    rows: list[dict[str, Any]] = []

    def later(number: int) -> None:
        low = Timing(tuple(time_calls(lambda: run(inputs[number]), budget_s=job["gap_s"] or 0.02))).low
        rows[number] |= {"later_s": low, "extra_s": rows[number]["first_s"] - low}

    for number, (size, x) in enumerate(zip(job["sizes"], inputs, strict=True)):
        start = time.perf_counter()
        run(x)
        rows.append({"size": size, "first_s": time.perf_counter() - start})
        if job["gap_s"]:
            later(number)
    if not job["gap_s"]:
        for number in range(len(rows)):
            later(number)
    return rows[1:]  # the first size also pays for the layer itself


def _polyconv_sizes(job: dict[str, Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The layer in polyconv, and what makes its input of a size."""
    import numpy as np

    import polyconv as pc

    net, (batch, channels) = pc.network(job["notation"]), job["start"]
    model = net.bind(net.weights(in_channels=channels), layout=job["layout"])
    return model, lambda size: _in_layout(np.ones((batch, channels, *size), np.float32), job["layout"])


def _torch_sizes(job: dict[str, Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The same in PyTorch: a functional call under inference mode, weights and input in the layout's memory format."""
    import torch

    import polyconv as pc
    from polyconv.run.bench.case import case_of
    from polyconv.run.cpu.cores import threads_allowed

    batch, channels = job["start"]
    (step,) = case_of(job["notation"], (batch, channels, *job["sizes"][0])).steps
    memory = torch.channels_last if job["layout"] == "channels_last" else torch.contiguous_format
    (array,) = pc.network(job["notation"]).weights(in_channels=channels).values()
    weight = torch.from_numpy(array).contiguous(memory_format=memory)
    torch.set_num_threads(threads_allowed())
    pad = [before for before, _ in step.padding]

    def run(x: Any) -> Any:
        with torch.inference_mode():
            return torch.conv2d(x, weight, None, step.stride, pad)

    return run, lambda size: torch.ones(batch, channels, *size).contiguous(memory_format=memory)


_NEW_SIZES = {"polyconv": _polyconv_sizes, "torch": _torch_sizes}


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
