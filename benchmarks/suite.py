"""The lists of layers and chains, read from JSON and turned into cases."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from polyconv.run.bench.case import Case, Step

HERE = Path(__file__).parent
LISTS = {"suite": HERE / "layers.json", "others": HERE / "layers_other.json"}
_OPERATORS = {"conv": "conv", "conv_transpose": "transposed", "max_pool": "maxpool", "avg_pool": "avgpool"}


def layers(name: str = "suite") -> list[Case]:
    """The single layers of a list: no bias, no activation."""
    data = json.loads(LISTS[name].read_text())
    return [_case(dict(zip(data["fields"], row, strict=False))) for row in data["layers"]]


def select(cases: list[Case], pattern: str) -> list[Case]:
    """Those whose name fits a pattern such as ``depthwise/*``; several may be joined by commas.

    Raises:
        ValueError: none fits.
    """
    chosen = [case for case in cases if any(fnmatch(case.name, part) for part in pattern.split(","))]
    if not chosen:
        raise ValueError(f"no layer fits {pattern!r}; the first of {len(cases)} is {cases[0].name!r}")
    return chosen


def _case(row: dict[str, Any]) -> Case:
    ndim = len(row["spatial"])
    stride, dilation, padding = (_per_axis(row[name], ndim) for name in ("stride", "dilation", "padding"))
    step = Step(
        op=row["op"],
        in_channels=row["in_channels"],
        out_channels=row["out_channels"],
        kernel=tuple(row["kernel"]),
        stride=stride,
        padding=tuple((amount, amount) for amount in padding),
        dilation=dilation,
        groups=row["groups"],
    )
    return Case(row["name"], _notation(step), (row["batch"], row["in_channels"], *row["spatial"]), (step,))


def _per_axis(value: int | list[int], ndim: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * ndim


def _notation(step: Step) -> str:
    """The step as one line of text, every setting written out."""

    def by(values: tuple[int, ...]) -> str:
        return "x".join(map(str, values))

    words = [_OPERATORS[step.op], by(step.kernel)]
    if not step.is_pool:
        words += [str(step.out_channels), "groups", str(step.groups), "dilation", by(step.dilation), "nobias"]
    return " ".join([*words, "stride", by(step.stride), "padding", by(tuple(before for before, _ in step.padding))])
