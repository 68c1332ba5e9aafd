"""A library in a process of its own: reads one request a line, answers one line, and works only when asked.

Started as ``python -m polyconv.run.bench.worker LIBRARY`` by ``session.Worker``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from polyconv.run.bench.case import Case, Weights
from polyconv.run.bench.ceilings import flops_rates
from polyconv.run.bench.peers import LIBRARIES, Run
from polyconv.run.bench.timing import time_calls
from polyconv.run.cpu.cores import threads_allowed

Request = Mapping[str, Any]


def main() -> None:
    """Serve requests until the input ends. What libraries print goes to the error stream."""
    name = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _pin(threads_allowed())
    serve(name, sys.stdin, answers)


def serve(library: str, requests: TextIO, answers: TextIO) -> None:
    """Answer every request of ``requests`` for one library, one JSON object a line."""
    runs: dict[str, Run] = {}
    actions: dict[str, Callable[[Request], dict[str, Any]]] = {
        "version": lambda request: {"version": LIBRARIES[library].version()},
        "prepare": lambda request: _prepare(library, request, runs),
        "time": lambda request: _time(runs[request["variant"]], request),
        "peak": lambda request: {"flops_s": flops_rates(request["seconds"])},
        "drop": lambda request: _drop(runs),
    }
    for line in requests:
        request = json.loads(line)
        try:
            answer = actions[request["do"]](request)
        except Exception as error:  # whatever a library raises is reported, and the next case goes on
            answer = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def load_arrays(case: Case, folder: Path) -> tuple[np.ndarray[Any, Any], list[Weights]]:
    """The input and weights that ``session`` saved for a case."""
    weights: list[Weights] = []
    for index in range(len(case.steps)):
        files = [folder / f"{kind}{index}.npy" for kind in ("weight", "bias")]
        weight, bias = (np.load(file) if file.exists() else None for file in files)
        weights.append((weight, bias))
    return np.load(folder / "x.npy"), weights


def _prepare(library: str, request: Request, runs: dict[str, Run]) -> dict[str, Any]:
    """Set a case up in one variant of the library, call it once, and save the answer for the check."""
    case, folder, variant = Case.from_json(request["case"]), Path(request["folder"]), request["variant"]
    x, weights = load_arrays(case, folder)
    start = time.perf_counter()
    run = LIBRARIES[library].prepare(case, x, weights, variant, folder)
    answer = run.fetch()
    first = time.perf_counter() - start
    runs[variant] = run
    path = folder / f"y-{variant}.npy"
    np.save(path, np.ascontiguousarray(answer))
    return {"answer": str(path), "first_s": first}


def _time(run: Run, request: Request) -> dict[str, Any]:
    """Time a prepared case; with the processor time it took, to tell from the machine's whether others worked."""
    start = time.process_time()
    seconds = time_calls(run.call, **request["options"])
    return {"seconds": seconds, "processor_s": time.process_time() - start}


def _drop(runs: dict[str, Run]) -> dict[str, Any]:
    runs.clear()
    return {}


def _pin(count: int) -> None:
    """Stay on ``count`` of the cores this process may use, so that no library can take more than its share."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


if __name__ == "__main__":
    main()
