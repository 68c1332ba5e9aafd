"""From results to tables: which peer was fastest on each row, the ratio to polyconv, means by kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean
from typing import Any

from benchmarks.results import Results
from polyconv.run.bench.case import case_of
from polyconv.run.bench.ceilings import Ceilings
from polyconv.run.bench.peers import LIBRARIES, title_of
from polyconv.run.bench.work import Work, work_of
from polyconv.run.problem import Layout

LAYOUTS: tuple[Layout, ...] = ("channels_last", "channels_first")
OURS = {layout: variant for variant, layout in LIBRARIES["polyconv"].variants.items()}
SHORT = {
    variant: title_of(variant).replace("channels_last", "c.l.")
    for name, library in LIBRARIES.items()
    if name != "polyconv"
    for variant in library.variants
}


def peers_of(layout: Layout) -> list[str]:
    """The variants polyconv is judged against: with channels last all of them, else those that take channels first."""
    return [
        variant
        for name, library in LIBRARIES.items()
        if name != "polyconv"
        for variant, own in library.variants.items()
        if layout == "channels_last" or own == layout
    ]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer in one layout: seconds of each variant that was right, polyconv's apart."""

    name: str
    ours: float | None
    peers: Mapping[str, float]
    work: Work
    peak_flops_s: float | None = None  # of a multiply-add loop in the same rounds

    def limit_s(self, machine: Ceilings) -> float:
        """The least time for a direct method on this machine, at the arithmetic that these rounds allowed."""
        return self.work.limit_s(replace(machine, flops_s=self.peak_flops_s or machine.flops_s))

    @property
    def kind(self) -> str:
        """The part of the name before the slash."""
        return self.name.split("/")[0]

    @property
    def fastest(self) -> str | None:
        """The fastest peer's variant, or None where none was right."""
        return min(self.peers, key=lambda variant: self.peers[variant], default=None)

    @property
    def ratio(self) -> float | None:
        """Seconds of the fastest peer over polyconv's: above 1, polyconv is faster."""
        return None if self.ours is None or self.fastest is None else self.peers[self.fastest] / self.ours

    @property
    def best(self) -> float | None:
        """Seconds of whoever was fastest."""
        times = [*self.peers.values(), *([] if self.ours is None else [self.ours])]
        return min(times, default=None)


def rows_of(results: Results, layout: Layout, names: Iterable[str] | None = None) -> list[Row]:
    """The rows of one layout, in the order they were measured."""
    chosen = results.rows if names is None else [name for name in names if name in results.rows]
    made = []
    for name in chosen:
        entries = results.rows[name]["results"]
        seconds = {variant: entry["low_s"] for variant, entry in entries.items() if "low_s" in entry}
        peers = {variant: seconds[variant] for variant in peers_of(layout) if variant in seconds}
        case = case_of(results.rows[name]["notation"], results.rows[name]["shape"], name)
        if peers or OURS[layout] in seconds:
            peak = entries.get(OURS[layout], {}).get("peak_flops_s")
            made.append(Row(name, seconds.get(OURS[layout]), peers, work_of(case), peak))
    return made


def problems(results: Results, names: Iterable[str] | None = None) -> list[tuple[str, str, str]]:
    """(layer, variant, what went wrong) for every answer that was wrong or missing."""
    chosen = results.rows if names is None else [name for name in names if name in results.rows]
    return [
        (name, variant, entry["problem"].splitlines()[0])
        for name in chosen
        for variant, entry in results.rows[name]["results"].items()
        if "problem" in entry
    ]


def disturbed(results: Results, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """By layer, the variants with a round during which somebody else used the machine in every attempt."""
    chosen = results.rows if names is None else [name for name in names if name in results.rows]
    found = {
        name: [variant for variant, entry in results.rows[name]["results"].items() if entry.get("disturbed")]
        for name in chosen
    }
    return {name: variants for name, variants in found.items() if variants}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, columns lined up: the first to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def layers_table(rows: Sequence[Row], machine: Ceilings) -> str:
    """One line a layer: microseconds of each, the ratio, GFLOP/s and the share of the limit."""
    shown = [variant for variant in SHORT if any(variant in row.peers for row in rows)]
    head = [
        "layer",
        "polyconv",
        *(SHORT[variant] for variant in shown),
        "ratio",
        "GFLOP/s",
        "of limit",
        "peer of limit",
    ]
    return markdown(head, [_cells(row, shown, machine) for row in rows])


def _cells(row: Row, shown: Sequence[str], machine: Ceilings) -> list[str]:
    limit = row.limit_s(machine)
    fastest = row.peers[row.fastest] if row.fastest else None
    return [
        row.name,
        _micro(row.ours),
        *(_micro(row.peers.get(variant), bold=variant == row.fastest) for variant in shown),
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        "-" if row.ours is None or not row.work.macs else f"{row.work.gflops(row.ours):.0f}",
        "-" if row.ours is None else f"{limit / row.ours:.0%}",
        "-" if fastest is None else f"{limit / fastest:.0%}",
    ]


def _micro(seconds: float | None, *, bold: bool = False) -> str:
    if seconds is None:
        return "-"
    text = f"{seconds * 1e6:.0f}" if seconds >= 100e-6 else f"{seconds * 1e6:.1f}"
    return f"**{text}**" if bold else text


def means_table(rows: Sequence[Row]) -> str:
    """Geometric means of the ratio by kind and in all, the lowest ratio, and how many rows are slower than a peer."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    groups = [(kind, [row for row in rows if row.kind == kind]) for kind in kinds] + [("all", list(rows))]
    lines = []
    for name, members in groups:
        ratios = {row.name: row.ratio for row in members if row.ratio is not None}
        if not ratios:
            continue
        lowest = min(ratios, key=lambda layer: ratios[layer])
        slower = sum(ratio < 1 for ratio in ratios.values())
        mean = geometric_mean(ratios.values())
        lines.append([name, str(len(ratios)), f"{mean:.2f}", f"{ratios[lowest]:.2f}", lowest, str(slower)])
    return markdown(["kind", "layers", "geometric mean", "lowest", "which", "slower"], lines) if lines else ""


def limits_table(rows: Sequence[Row], machine: Ceilings) -> str:
    """Geometric mean of time over limit: of each library, over the rows it ran."""
    lines = []
    series = [("polyconv", {row.name: row.ours for row in rows if row.ours is not None})]
    series += [(SHORT[v], {row.name: row.peers[v] for row in rows if v in row.peers}) for v in SHORT]
    series.append(("fastest peer", {row.name: row.peers[row.fastest] for row in rows if row.fastest}))
    limits = {row.name: row.limit_s(machine) for row in rows}
    for title, seconds in series:
        if seconds:
            mean = geometric_mean([value / limits[name] for name, value in seconds.items()])
            lines.append([title, str(len(seconds)), f"{mean:.2f}"])
    return markdown(["library", "layers", "time / limit"], lines)


def as_json(rows: Sequence[Row], machine: Ceilings) -> list[dict[str, Any]]:
    """The rows with what the tables derive from them."""
    return [
        {
            "layer": row.name,
            "polyconv_s": row.ours,
            "peers_s": dict(row.peers),
            "fastest_peer": row.fastest,
            "ratio": row.ratio,
            "macs": row.work.macs,
            "macs_on_data": row.work.macs_on_data,
            "bytes": row.work.moved,
            "gflops": None if row.ours is None else row.work.gflops(row.ours),
            "limit_s": row.limit_s(machine),
        }
        for row in rows
    ]
