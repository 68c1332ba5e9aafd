"""The lists of layers, chains and networks, read from JSON and turned into cases."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from polyconv.architectures import ARCHITECTURES
from polyconv.run.bench.case import Case, case_of

HERE = Path(__file__).parent
LISTS = {"suite": HERE / "layers.json", "others": HERE / "layers_other.json", "networks": HERE / "networks.json"}
_OPERATORS = {"conv": "conv", "conv_transpose": "transposed", "max_pool": "maxpool", "avg_pool": "avgpool"}


def layers(name: str = "suite") -> list[Case]:
    """The single layers of a list: no bias, no activation."""
    return [
        case_of(notation(row), (row["batch"], row["in_channels"], *row["spatial"]), row["name"]) for row in rows(name)
    ]


def rows(name: str = "suite") -> list[dict[str, Any]]:
    """The single layers of a list as written, by field."""
    fields = _rows(name, "fields")
    return [dict(zip(fields, row, strict=True)) for row in _rows(name, "layers")]


def select(cases: list[Case], pattern: str) -> list[Case]:
    """Those whose name fits a pattern such as ``depthwise/*``; several may be joined by commas.

    Raises:
        ValueError: none fits.
    """
    chosen = [case for case in cases if any(fnmatch(case.name, part) for part in pattern.split(","))]
    if not chosen:
        raise ValueError(f"no layer fits {pattern!r}; the first of {len(cases)} is {cases[0].name!r}")
    return chosen


def chains(name: str = "suite") -> list[Case]:
    """The chains and networks of a list, with the biases and activations that their text says; @name is a known one."""
    return [
        case_of(ARCHITECTURES[text[1:]]() if text.startswith("@") else text, shape, title)
        for title, text, shape, *_ in _rows(name, "chains")
    ]


def _rows(name: str, part: str) -> list[Any]:
    rows: list[Any] = json.loads(LISTS[name].read_text()).get(part, [])
    return rows


def notation(row: dict[str, Any]) -> str:
    """A row of a list as one line of text, every setting written out; no bias.

    >>> notation({"op": "max_pool", "kernel": [3, 3], "stride": 2, "padding": [1, 0]})
    'maxpool 3x3 stride 2 padding 1x0'
    """
    words = [_OPERATORS[row["op"]], _by(row["kernel"])]
    if "pool" not in row["op"]:
        words += [str(row["out_channels"]), "groups", str(row["groups"]), "dilation", _by(row["dilation"]), "nobias"]
    return " ".join([*words, "stride", _by(row["stride"]), "padding", _by(row["padding"])])


def _by(value: int | list[int]) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
