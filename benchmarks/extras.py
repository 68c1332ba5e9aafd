"""What a call costs besides its arithmetic, for polyconv alone: the first call, a new size, a tiny layer, memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from itertools import product
from typing import Any

from benchmarks.environments import ROOT

FIRST_CALLS = (
    ("conv 3x3 64 padding 1 nobias", (1, 64, 56, 56)),
    ("conv 1x1 144 nobias", (1, 24, 56, 56)),
    ("conv 3x3 128 groups 32 padding 1 nobias", (1, 128, 56, 56)),
    ("conv 7x7 96 groups 96 padding 3 nobias", (1, 96, 56, 56)),
    ("conv 31 256 groups 256 padding 15 nobias", (1, 256, 1000)),
    ("transposed 4x4 64 stride 2 padding 1 nobias", (1, 128, 32, 32)),
    ("conv 3x3x3 32 padding 1 nobias", (1, 32, 8, 28, 28)),
    ("maxpool 3x3 stride 2 padding 1", (1, 64, 112, 112)),
)
REPEATED = 5  # processes that find their code cached: the median counts
NEW_SIZES = ("conv 3x3 32 same nobias", (1, 32))
GAPS = {"apart": 0.05, "in_a_row": 0.0}  # seconds of calls of the size before, until the next
TINY = ("conv 3x3 8 same nobias", (1, 8, 8, 8))
STEADY = (("conv 3x3 8 same relu", (1, 8, 8, 8)), ("conv 3x3 64 same | maxpool 2x2", (1, 16, 20, 20)))


def measure(calls: int = 100_000) -> dict[str, Any]:
    """All of it, each in a fresh process; seconds and bytes, by layout where it matters."""
    found: dict[str, Any] = {"first_call": [], "new_size": [], "tiny": {}}
    with tempfile.TemporaryDirectory(prefix="polyconv-bench-") as cache:  # leaves bytecode behind, as installing does
        probe("first_call", {"notation": TINY[0], "shape": TINY[1], "layout": "channels_last"}, cache)
    for layout in ("channels_last", "channels_first"):
        for notation, shape in FIRST_CALLS:
            with tempfile.TemporaryDirectory(prefix="polyconv-bench-") as cache:
                job = {"notation": notation, "shape": shape, "layout": layout}
                cold = probe("first_call", job, cache)
                again = sorted((probe("first_call", job, cache) for _ in range(REPEATED)), key=lambda it: it["first_s"])
                cached = again[REPEATED // 2]
            found["first_call"].append({**job, "cold": cold, "cached": cached})
        for library, (gap, seconds) in product(("polyconv", "torch"), GAPS.items()):
            facts = {"notation": NEW_SIZES[0], "start": NEW_SIZES[1], "layout": layout, "library": library}
            rows = probe("new_sizes", {**facts, "sizes": new_sizes(), "gap_s": seconds})
            found["new_size"].append({**facts, "gap": gap, "rows": rows})
        found["tiny"][layout] = probe("tiny", {"notation": TINY[0], "shape": TINY[1], "layout": layout})
    found["memory"] = probe("memory", {"layers": STEADY, "calls": calls})
    return found


def new_sizes(count: int = 60) -> list[tuple[int, int]]:
    """Pictures of 9 to 71 positions a side, none twice; the same ones each time."""
    every = [(height, width) for height in range(9, 72) for width in range(9, 72)]
    return random.Random(0).sample(every, count + 1)


def probe(name: str, job: dict[str, Any], cache: str | None = None) -> Any:
    """Run one function of ``benchmarks.probes`` in a process of its own; what it returned.

    Raises:
        RuntimeError: it failed, with the end of what it wrote.
    """
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(ROOT / "out" / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode, and so does this one
    if cache:
        environment["POLYCONV_CACHE_DIR"] = cache
    command = [sys.executable, "-m", "benchmarks.probes", name, json.dumps(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{name} of {job} failed: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])
