"""One network of the user's, timed in polyconv and in every library that this environment has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from polyconv._checks import choice
from polyconv.network import Network
from polyconv.run.bench.case import Case, case_of
from polyconv.run.bench.ceilings import Ceilings, measure
from polyconv.run.bench.peers import LIBRARIES, library_of, title_of
from polyconv.run.bench.session import Effort, Result, Session
from polyconv.run.bench.truth import by_definition
from polyconv.run.bench.work import Work, work_of


@dataclass(frozen=True, slots=True)
class Race:
    """What ``race`` found: a result for every variant (library and layout), fastest first."""

    case: Case
    work: Work
    ceilings: Ceilings
    results: Mapping[str, Result]

    def rows(self) -> list[tuple[str, ...]]:
        """(library, microseconds, GFLOP/s, share of the limit, largest error) of every variant that was timed."""
        limit = self.work.limit_s(self.ceilings)
        found: list[tuple[str, ...]] = []
        for variant, result in self.results.items():
            if result.timing is not None:
                low = result.timing.low
                rate = f"{self.work.gflops(low):.0f}" if self.work.macs else "-"
                found.append((title_of(variant), f"{low * 1e6:.1f}", rate, f"{limit / low:.0%}", f"{result.error:.0e}"))
        return found

    def problems(self) -> list[tuple[str, str]]:
        """(library, reason) of every variant that was not timed."""
        return [
            (title_of(variant), (result.problem or "").splitlines()[0])
            for variant, result in self.results.items()
            if result.timing is None
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the network, its work, the machine's ceilings and every result."""
        return {
            "network": self.case.notation,
            "in_shape": list(self.case.shape),
            "macs": self.work.macs,
            "macs_on_data": self.work.macs_on_data,
            "bytes": self.work.moved,
            "limit_s": self.work.limit_s(self.ceilings),
            "ceilings": self.ceilings.to_json(),
            "results": {variant: result.to_json() for variant, result in self.results.items()},
        }

    def ratio(self, layout: Literal["channels_first", "channels_last"]) -> float | None:
        """Seconds of the fastest other library over polyconv's in this layout; None where one of them is missing.

        With channels_last every variant counts as a rival, with channels_first those that take that layout.
        """
        seconds = {variant: result.timing.low for variant, result in self.results.items() if result.timing}
        ours = next((v for v, own in LIBRARIES["polyconv"].variants.items() if own == layout and v in seconds), None)
        rivals = [
            time
            for variant, time in seconds.items()
            if library_of(variant) != "polyconv"
            and (layout == "channels_last" or LIBRARIES[library_of(variant)].variants[variant] == layout)
        ]
        return min(rivals) / seconds[ours] if ours and rivals else None


def race(
    network: str | Network,
    in_shape: Sequence[int],
    *,
    libraries: Sequence[str] | None = None,
    layout: Literal["both", "channels_first", "channels_last"] = "both",
    effort: Effort | None = None,
) -> Race:
    """Check and time a network beside the libraries installed here.

    Args:
        network: the network, or its text.
        in_shape: (batch, channels, *spatial).
        libraries: names among ``LIBRARIES``; all that are installed if not given.
        layout: which of polyconv's layouts, and of the others', to time.
        effort: how long; three rounds of 0.1 s for each if not given.

    Raises:
        ValueError: the network does not fit or has a layer that libraries do not agree on, or a library is not known or
            not installed.
    """
    case = case_of(network, in_shape)
    choice(layout, ("both", "channels_first", "channels_last"), "layout")
    variants = [
        variant
        for name in _chosen(libraries)
        for variant, own in LIBRARIES[name].variants.items()
        if layout in ("both", own)
    ]
    with Session(by_definition) as session:
        results = session.measure(case, variants, effort)
    peak = next((result.peak_flops_s for result in results.values() if result.peak_flops_s), None)
    machine = measure(1.0)
    machine = replace(machine, flops_s=peak or machine.flops_s)
    return Race(case, work_of(case), machine, dict(sorted(results.items(), key=_order)))


def available() -> list[str]:
    """Names of the libraries that can be timed here; LiteRT needs TensorFlow beside it, to convert its models."""
    found = [name for name, library in LIBRARIES.items() if library.variants and library.installed()]
    return [name for name in found if name != "litert" or LIBRARIES["tensorflow"].installed()]


def _chosen(libraries: Sequence[str] | None) -> list[str]:
    usable = available()
    for name in libraries or ():
        if name not in usable:
            raise ValueError(f"library {name!r} cannot be timed here; installed are {', '.join(usable)}")
    return list(dict.fromkeys(libraries or usable))


def _order(item: tuple[str, Result]) -> float:
    timing = item[1].timing
    return float("inf") if timing is None else timing.low
