"""What the command does once it is in its environment: measure layer by layer, then print the tables."""

from __future__ import annotations

import argparse
import os
import time

from benchmarks import environments, extras, report, suite
from benchmarks.reference import reference
from benchmarks.results import Results
from polyconv.run.bench import ceilings
from polyconv.run.bench.case import Case
from polyconv.run.bench.peers import LIBRARIES
from polyconv.run.bench.session import Effort, Result, Session, WorkerError

QUICK = Effort(rounds=1, budget_s=0.03, max_samples=200, attempts=1)


def run(options: argparse.Namespace) -> int:
    """Measure what the options ask for; 1 where polyconv was wrong, 2 where the options name nothing."""
    os.environ["POLYCONV_NUM_THREADS"] = str(options.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    results = Results.read(options.json)
    try:
        cases, variants = chosen_cases(options.list, options.layers), chosen_variants(options.peers, options.layout)
    except ValueError as error:
        print(error)
        return 2
    if options.report:
        report.publish(results)
        return 0
    results.describe(ceilings.measure(0.5 if options.quick else 2.0))
    if options.extras:
        results.extras = extras.measure(options.calls)
        results.write()
        print(report.extras_table(results.extras))
        return 0
    effort = QUICK if options.quick else Effort(rounds=options.repeat, attempts=8)
    measure(results, cases, variants, effort, options.resume, options.seconds)
    names = [case.name for case in cases]
    print(report.summary(results, names))
    return int(any(_wrong(results.rows.get(name, {})) for name in names))


def chosen_cases(lists: str, pattern: str) -> list[Case]:
    """The cases of a list, or of all, whose names fit."""
    names = list(suite.LISTS) if lists == "all" else [lists]
    return suite.select([case for name in names for case in suite.layers(name) + suite.chains(name)], pattern)


def chosen_variants(peers: str | None, layout: str) -> list[str]:
    """The variants of the libraries asked for. channels_last is also judged against those that take channels first.

    Raises:
        ValueError: a library is not known.
    """
    known = [name for name, library in LIBRARIES.items() if library.variants]
    asked = known if peers is None else peers.split(",")
    for name in asked:
        if name not in known:
            raise ValueError(f"library {name!r} is not known; there are {', '.join(known)}")
    return [
        variant
        for name in asked
        for variant, own in LIBRARIES[name].variants.items()
        if layout == "both" or own == layout or (layout == "channels_last" and name != "polyconv")
    ]


def measure(
    results: Results, cases: list[Case], variants: list[str], effort: Effort, resume: bool, seconds: float | None
) -> None:
    """Measure case after case, saving after each."""
    end = time.monotonic() + (seconds or float("inf"))
    with Session(reference, environments.interpreters(), "tensorflow" if "litert" in variants else None) as session:
        results.versions |= _versions(session, variants)
        for number, case in enumerate(cases, 1):
            wanted = results.missing(case, variants) if resume else variants
            if not wanted:
                continue
            if time.monotonic() > end:
                print(f"time is up at {case.name}, layer {number} of {len(cases)}: go on with --resume", flush=True)
                break
            found = session.measure(case, wanted, effort)
            results.add(case, found)
            results.write()
            print(f"{number:3}/{len(cases)} {case.name:44}", *map(_brief, found.values()), flush=True)


def _brief(result: Result) -> str:
    if result.timing is not None:
        return f"{result.variant} {result.timing.low * 1e6:.0f}"
    return f"{result.variant} -" if (result.problem or "").startswith("left out") else f"{result.variant} FAILED"


def _versions(session: Session, variants: list[str]) -> dict[str, str]:
    found = {}
    for name, library in LIBRARIES.items():
        if name != "polyconv" and any(variant in variants for variant in library.variants):
            try:
                found[library.title] = session.worker(name).ask("version")["version"]
            except WorkerError as error:
                print(f"{library.title} cannot be asked for its version: {error}")
    return found


def _wrong(row: dict[str, object]) -> bool:
    entries = row.get("results", {})
    return isinstance(entries, dict) and any(
        "problem" in entry for name, entry in entries.items() if name.startswith("polyconv")
    )
