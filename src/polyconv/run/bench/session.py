"""Several libraries timed in turn: each in a process of its own, stopped while another works, answers checked first."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from polyconv.run.bench.case import Case, Weights, sample_arrays
from polyconv.run.bench.disturbance import busy_s, disturbed
from polyconv.run.bench.peers import LIBRARIES, library_of
from polyconv.run.bench.timing import LOW_PERCENTILE, Timing
from polyconv.run.cpu.cores import threads_allowed
from polyconv.run.problem import Array

# float32 answers may differ from the float64 reference by this share of its largest value. Rounding alone stays
# under 1e-5, Winograd's transforms under 1e-4; a lost tap, bfloat16 or TF32 arithmetic is beyond it.
TOLERANCE = 2e-4
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLYCONV_NUM_THREADS")
_PAUSE = 0.25  # seconds between two attempts at a disturbed round
_PEAK_SHARE = 0.2  # of a round's time for one variant, on the multiply-add loop that its arithmetic is measured by
_PATIENCE = 180.0  # seconds a library may take for one request

Reference = Callable[[Case, Array, Sequence[Weights]], Array]


class WorkerError(RuntimeError):
    """A library could not do what it was asked: what it raised, or that its process ended."""


class Worker:
    """A library's process: stopped (SIGSTOP, where the system has it) except while it answers a request."""

    def __init__(
        self, library: str, python: str = sys.executable, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the process.

        Args:
            library: a key of ``peers.LIBRARIES``.
            python: the interpreter whose environment has the library.
            environment: variables to set beside those that fix the number of threads.
        """
        self.library = library
        source = Path(__file__).parents[3]
        path = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
        fixed = dict.fromkeys(_THREAD_VARIABLES, str(threads_allowed()))
        self._process = subprocess.Popen(
            [python, "-m", "polyconv.run.bench.worker", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **fixed, "PYTHONPATH": path, **(environment or {})},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._stop()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def _go(self) -> None:
        if hasattr(signal, "SIGCONT") and self.alive:
            self._process.send_signal(signal.SIGCONT)

    def _stop(self) -> None:
        """Stop the process with all its threads, and wait until it stands (or has ended)."""
        if hasattr(signal, "SIGSTOP") and hasattr(os, "waitid") and self.alive:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    @property
    def alive(self) -> bool:
        """Whether the process still runs (or stands stopped)."""
        return self._process.poll() is None

    def ask(self, do: str, patience: float = _PATIENCE, **request: Any) -> dict[str, Any]:
        """Send one request, let the process work until it answers, and stop it again.

        Raises:
            WorkerError: the library raised, the process ended, or no answer came in ``patience`` seconds.
        """
        if not self.alive or self._process.stdin is None:
            raise WorkerError(f"the process of {self.library} has ended with status {self._process.poll()}")
        self._go()
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=patience)
        except queue.Empty:
            self.close()
            raise WorkerError(f"{self.library} gave no answer to {do!r} in {patience:g} s") from None
        except BrokenPipeError:
            line = ""
        self._stop()
        if not line:
            status = self._process.wait()
            raise WorkerError(f"the process of {self.library} ended during {do!r} with status {status}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        if self.alive:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@dataclass(frozen=True, slots=True)
class Result:
    """What one variant did on one case: its timing, or why there is none."""

    variant: str
    timing: Timing | None = None
    error: float | None = None  # largest difference from the reference, as a share of its largest value
    problem: str | None = None
    disturbed: int = 0  # rounds during which somebody else used the machine, however often they were tried
    peak_flops_s: float | None = None  # of a multiply-add loop in the same rounds (polyconv's own process)

    def to_json(self) -> dict[str, Any]:
        """Plain values: seconds (20th percentile, median), samples, error, problem; what is None or 0 is left out."""
        row: dict[str, Any] = {"error": self.error, "problem": self.problem, "disturbed": self.disturbed or None}
        row["peak_flops_s"] = self.peak_flops_s
        if self.timing is not None:
            row |= {"low_s": self.timing.low, "median_s": self.timing.median, "samples": len(self.timing.seconds)}
        return {name: value for name, value in row.items() if value is not None}


def relative_error(answer: Array, reference: Array) -> float:
    """Largest absolute difference as a share of the reference's largest value.

    Raises:
        ValueError: the shapes differ, or the answer has values that are not finite.
    """
    if answer.shape != reference.shape:
        raise ValueError(f"wrong answer: shape {answer.shape}, the reference has {reference.shape}")
    if not np.isfinite(answer).all():
        raise ValueError("wrong answer: values that are not finite")
    if reference.size == 0:
        return 0.0
    return float(np.abs(answer - reference).max() / max(float(np.abs(reference).max()), 1e-30))


def check(answer: Array, reference: Array) -> float:
    """The answer's relative error.

    Raises:
        ValueError: it is beyond ``TOLERANCE``, or the shapes differ.
    """
    error = relative_error(answer, reference)
    if error > TOLERANCE:
        raise ValueError(f"wrong answer: differs by {error:.1e} of the largest value, {TOLERANCE:.0e} is allowed")
    return error


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: every round times every variant once, in an order that moves on by one."""

    rounds: int = 3
    budget_s: float = 0.1  # a round, a variant
    max_samples: int = 1000
    attempts: int = 3  # at a round during which somebody else used the machine


@dataclass
class Session:
    """Processes of the libraries asked for, started when first used and kept until the session ends.

    Use as a context manager. ``pythons`` gives interpreters of other environments by library; ``converter`` is the
    library whose process writes LiteRT models ("tensorflow"), or None where LiteRT is not timed.
    """

    reference: Reference
    pythons: Mapping[str, str] = field(default_factory=dict)
    converter: str | None = None
    _workers: dict[str, Worker] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def worker(self, library: str) -> Worker:
        """The process of a library; a new one where the last has ended."""
        worker = self._workers.get(library)
        if worker is None or not worker.alive:
            python = self.pythons.get(library, sys.executable)
            try:
                worker = self._workers[library] = Worker(library, python)
            except OSError as error:
                raise WorkerError(f"{library} has no interpreter at {python}: {error.strerror}") from None
        return worker

    def measure(self, case: Case, variants: Sequence[str], effort: Effort | None = None) -> dict[str, Result]:
        """Check every variant's answer to a case, then time those that are right in interleaved rounds."""
        effort = effort or Effort()
        x, weights = sample_arrays(case)
        expected = self.reference(case, x, weights)
        with tempfile.TemporaryDirectory(prefix="polyconv-bench-") as name:
            folder = Path(name)
            _save(folder, x, weights)
            results = {variant: self._prepare(case, variant, folder, expected) for variant in variants}
        right = [variant for variant, result in results.items() if result.problem is None]
        seconds: dict[str, list[float]] = {variant: [] for variant in right}
        ours = [variant for variant in right if library_of(variant) == "polyconv"]
        peaks: list[float] = []
        for turn in range(effort.rounds):
            first = turn % max(1, len(right))
            for variant in right[first:] + right[:first]:
                if results[variant].problem is None:
                    seconds[variant] += self._time(variant, effort, results)
            if ours:
                peaks += self.worker("polyconv").ask("peak", seconds=effort.budget_s * _PEAK_SHARE)["flops_s"]
        for variant in right:
            if results[variant].problem is None:
                results[variant] = replace(results[variant], timing=Timing(tuple(seconds[variant])))
        for variant in ours:
            results[variant] = replace(results[variant], peak_flops_s=float(np.percentile(peaks, 100 - LOW_PERCENTILE)))
        for library in {library_of(variant) for variant in variants}:
            if library in self._workers and self._workers[library].alive:
                self._workers[library].ask("drop")
        return results

    def _time(self, variant: str, effort: Effort, results: dict[str, Result]) -> list[float]:
        """One round of one variant; again, a few times, where somebody else used the machine meanwhile."""
        options = {"budget_s": effort.budget_s, "max_samples": effort.max_samples}
        for attempt in range(effort.attempts):
            if attempt:
                time.sleep(_PAUSE)
            busy, start = busy_s(), time.perf_counter()
            try:
                answer = self.worker(library_of(variant)).ask("time", variant=variant, options=options)
            except WorkerError as problem:
                results[variant] = Result(variant, problem=str(problem))
                return []
            if not disturbed(busy, busy_s(), answer["processor_s"], time.perf_counter() - start):
                break
        else:
            results[variant] = replace(results[variant], disturbed=results[variant].disturbed + 1)
        seconds: list[float] = answer["seconds"]
        return seconds

    def _prepare(self, case: Case, variant: str, folder: Path, expected: Array) -> Result:
        library = library_of(variant)
        refusal = LIBRARIES[library].refuses(case)
        if refusal is not None:
            return Result(variant, problem=f"left out: {refusal}")
        request: dict[str, Any] = {"case": case.to_json(), "folder": str(folder), "variant": variant}
        try:
            if library == "litert" and self.converter is not None:
                self.worker(self.converter).ask("prepare", **request)
            answer = self.worker(library).ask("prepare", **request)
            return Result(variant, error=check(np.load(answer["answer"]), expected))
        except (WorkerError, ValueError) as problem:
            return Result(variant, problem=str(problem))


def _save(folder: Path, x: Array, weights: Sequence[Weights]) -> None:
    np.save(folder / "x.npy", x)
    for index, pair in enumerate(weights):
        for kind, array in zip(("weight", "bias"), pair, strict=True):
            if array is not None:
                np.save(folder / f"{kind}{index}.npy", array)
