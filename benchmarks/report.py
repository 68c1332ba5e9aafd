"""The results as text: the summary a run prints, and the page docs/benchmarks.md with its chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import chart, tables
from benchmarks.results import ROOT, Results
from benchmarks.suite import LISTS, rows

DOCS = ROOT / "docs"
PLACES = {
    "suite": "The suite",
    "others": "Other layers, to guard against tuning to the suite",
    "networks": "Whole networks",
}
GAP_WORDS = {"apart": "50 ms of calls between sizes", "in_a_row": "one size after another"}
METHOD = """\
Printed by `scripts/bench`, which installs the peers into environments of its own; `scripts/bench --report` writes this
page from the results. float32, {threads} threads for every library.

- **Answers first.** Every library's answer to every layer is compared with a float64 reference that shares no code with
  any of them, and differs by at most 2e-4 of the largest value (rounding stays under 1e-5; bfloat16, TF32 or a lost tap
  do not fit). What is wrong is listed and not timed.
- **Inputs** start on a cache line, in the layout that each library is given, as the libraries' own arrays do.
- **One at a time.** Each library runs in a process of its own, pinned to the same cores, and is stopped (SIGSTOP)
  while another works, spinning threads included.
- **Interleaved rounds.** On each layer every round times every library, in an order that moves on by one, so that a
  drift of the machine meets all alike. The figure is the 20th percentile of all calls, in microseconds. A round during
  which other processes (or the host of a virtual machine) took more than a quarter of a core is timed again.
- **The peers' best legal settings.** Weights are converted beforehand. PyTorch: inference mode, contiguous, and with
  `channels_last` memory for input and weights (1-D as 2-D of height 1, where that format exists). ONNX Runtime: all
  graph optimisations, values handed over without a copy. OpenVINO: latency hint, f32 precision, in NCHW, and in NHWC
  through its own preprocessing ("c.l."), sharing its input and output buffers. JAX: compiled ahead by `jit`, arrays on
  the device, in both layouts. LiteRT: XNNPACK, models converted by TensorFlow, `invoke` alone. Batch norms of networks
  are folded into the convolutions before them, for every library alike.
- **Outputs.** A time includes allocating the output as the library's own call does: polyconv, PyTorch, ONNX Runtime and
  JAX return a new array each call; OpenVINO and LiteRT write into a buffer they keep, which is to their advantage.
- **channels_last** is compared with the fastest of all of these, **channels_first** with the fastest that takes NCHW.
- **ratio** is the fastest peer's time over polyconv's: above 1, polyconv is faster.
- **GFLOP/s** are two for each multiply-accumulate of the layer's defining sum. **Of limit**: the least time for a
  direct method, over the time taken. That least time is the products whose input is real data at the rate of a
  multiply-add loop that is timed in the same rounds and taken at the same percentile (the clock moves by tenths within
  seconds), or input, weights and output moved once at the measured copy rate for that size, whichever is longer.
  Methods with fewer multiplications (Winograd) can pass 100 %.
"""


def summary(results: Results, names: Sequence[str] | None = None) -> str:
    """The tables of the layers named, in both layouts, as far as they were measured."""
    parts = []
    for layout in tables.LAYOUTS:
        found = tables.rows_of(results, layout, names)
        if found:
            parts += [f"## {layout}", tables.layers_table(found, results.ceilings), tables.means_table(found)]
            parts.append(tables.limits_table(found, results.ceilings))
    wrong = tables.problems(results, names)
    refused = [problem for problem in wrong if problem[2].startswith("left out")]
    parts += [_problems("Wrong or failed", [p for p in wrong if p not in refused]), _problems("Left out", refused)]
    parts.append(_disturbed(tables.disturbed(results, names)))
    return "\n\n".join(filter(None, [*parts, _machine(results)]))


def _problems(title: str, found: Sequence[tuple[str, str, str]]) -> str:
    if not found:
        return ""
    return f"## {title}\n\n" + "\n".join(f"- {layer}, {variant}: {what}" for layer, variant, what in found)


def _disturbed(found: dict[str, list[str]]) -> str:
    if not found:
        return ""
    count = sum(map(len, found.values()))
    lines = [f"- {layer}: {', '.join(variants)}" for layer, variants in found.items()]
    title = f"## Disturbed while timed\n\n{count} timings had a round during which others used the machine:"
    return "\n".join([title, "", *lines])


def _machine(results: Results) -> str:
    machine, ceilings = results.machine, results.ceilings
    copies = ", ".join(f"{ceilings.bytes_s(size * 1e6) / 1e9:.0f} at {size:g} MB" for size in (0.2, 1, 4, 16, 64, 200))
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"{machine['date']}, polyconv {machine['polyconv']}. Measured ceilings of {ceilings.threads} threads: "
        f"{ceilings.flops_s / 1e9:.0f} GFLOP/s; copies (read + written) in GB/s: {copies}.\n\nPeers: {versions}."
    )


def extras_table(extras: dict[str, Any]) -> str:
    """First calls, new sizes, a tiny layer and memory, as Markdown."""
    lines = [
        [
            f"`{row['notation']}` {'x'.join(map(str, row['shape']))}, {row['layout']}",
            f"{row['cold']['first_s'] * 1e3:.0f}",
            f"{row['cached']['first_s'] * 1e3:.1f}",
        ]
        for row in extras["first_call"]
    ]
    head = ["first call in a fresh process", "cold, ms", "code cached, ms (median of 5)"]
    marks = extras["memory"]["marks"]
    layers = "; ".join(f"{layout} {timing['low_s'] * 1e6:.1f} µs" for layout, timing in extras["tiny"].items())
    resident = ", ".join(f"{mark['peak'] / 2**20:.1f} MiB after {mark['calls']:,}" for mark in marks)
    return "\n\n".join(
        [
            tables.markdown(head, lines),
            _new_sizes(extras["new_size"]),
            f"A call of a tiny layer (3x3, 8 to 8 channels, 8x8): {layers}.",
            f"Peak resident memory over many calls: {resident}.",
        ]
    )


def _new_sizes(found: Sequence[dict[str, Any]]) -> str:
    """What the first call of a spatial size costs over a later one, as a table beside PyTorch."""
    lines = []
    for one in found:
        extra = sorted(row["extra_s"] * 1e6 for row in one["rows"])
        shares = (extra[round(share * (len(extra) - 1))] for share in (0.1, 0.5, 0.9))
        library = "PyTorch" if one["library"] == "torch" else one["library"]
        lines.append([f"{library}, {one['layout']}, {GAP_WORDS[one['gap']]}", *(f"{value:.0f}" for value in shares)])
    head = ["first call of a size over a later one, µs", "10 %", "median", "90 %"]
    note = f"`{found[0]['notation']}`, {len(found[0]['rows'])} sizes of 9 to 71 positions a side, in a fresh process."
    return f"{tables.markdown(head, lines)}\n\n{note}"


def publish(results: Results, folder: Path = DOCS) -> Path:
    """Write benchmarks.md, benchmarks.json and the charts; where the page is."""
    folder.mkdir(exist_ok=True)
    machine = results.ceilings
    parts = ["# Benchmarks", METHOD.format(threads=machine.threads), _machine(results)]
    derived: dict[str, Any] = {"machine": results.machine, "versions": results.versions, "extras": results.extras}
    for part, title in PLACES.items():
        names = [row["name"] for row in rows(part)] + [row[0] for row in json.loads(LISTS[part].read_text())["chains"]]
        for layout in tables.LAYOUTS:
            found = tables.rows_of(results, layout, names)
            if not found:
                continue
            derived[f"{part}_{layout}"] = tables.as_json(found, machine)
            parts += [f"## {title}: {layout}", tables.means_table(found)]
            picture = folder / f"benchmarks_{part}_{layout}.svg"
            if part == "suite" and any(row.ours for row in found):
                chart.draw(found, machine, layout, picture)
                parts.append(f"![Share of the machine's limit, layer by layer]({picture.name})")
            parts += [tables.layers_table(found, machine), tables.limits_table(found, machine)]
    if results.extras:
        parts += ["## What a call costs besides its arithmetic", extras_table(results.extras)]
    wrong = tables.problems(results)
    refused = [problem for problem in wrong if problem[2].startswith("left out")]
    parts += [_problems("Wrong or failed", [p for p in wrong if p not in refused]), _problems("Left out", refused)]
    parts.append(_disturbed(tables.disturbed(results)))
    (folder / "benchmarks.json").write_text(json.dumps(derived, indent=1) + "\n")
    page = folder / "benchmarks.md"
    page.write_text("\n\n".join(part.strip() for part in parts if part) + "\n")
    return page
