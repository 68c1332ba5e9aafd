"""The chart: the share of the machine's limit that polyconv and the fastest peer reach, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import Row
from polyconv.run.bench.ceilings import Ceilings

OURS, PEER = "#0b6e99", "#b8b8b8"


def draw(rows: Sequence[Row], machine: Ceilings, layout: str, path: Path) -> None:
    """Two bars a layer, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "polyconv"
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.ours is not None and row.fastest is not None][::-1]
    figure, axes = plt.subplots(figsize=(9, 0.28 * len(shown) + 1.4), layout="constrained")
    for offset, colour, label in ((0.2, OURS, "polyconv"), (-0.2, PEER, "fastest peer")):
        shares = [_share(row, machine, ours=label == "polyconv") for row in shown]
        axes.barh([place + offset for place in range(len(shown))], shares, 0.38, color=colour, label=label)
    for place, row in enumerate(shown):
        axes.text(_share(row, machine, ours=True) + 1, place + 0.2, f"{row.ratio:.2f}x", va="center", fontsize=7)
    axes.set_yticks(range(len(shown)), [row.name for row in shown], fontsize=7)
    axes.axvline(100, color="black", linewidth=0.8)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel(
        "% of the machine's limit for a direct method (higher is better); the figure is peer time / polyconv"
    )
    axes.set_title(f"{layout}, float32, {machine.threads} threads")
    axes.legend(loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _share(row: Row, machine: Ceilings, *, ours: bool) -> float:
    seconds = row.ours if ours else row.peers[row.fastest or ""]
    return 100 * row.limit_s(machine) / (seconds or float("inf"))
