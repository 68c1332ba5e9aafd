"""A count as text, HTML, a dictionary or CSV: one list of columns, with units, for all of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from polyconv.count.tally import Report, Row

WIDEST_TEXT = 40
Line: TypeAlias = tuple[str, ...]
TOTAL = "total"


@dataclass(frozen=True)
class Column:
    """One column of a count: its key for programs, its heading with the unit for people (or none), and its value.

    ``unit`` is one that the key does not tell: CSV has no other place for it than the header.
    """

    key: str
    heading: str
    value: Callable[[Row | Report], Any]
    number: bool = True
    unit: str = ""

    @property
    def csv_header(self) -> str:
        """The key, with the unit where it does not tell."""
        return f"{self.key}_{self.unit}" if self.unit else self.key


def _of(key: str, heading: str, number: bool = True, unit: str = "") -> Column:
    return Column(key, heading, lambda item: getattr(item, key), number, unit)


def _field(part: str) -> Callable[[Row | Report], Any]:
    def value(item: Row | Report) -> Any:
        row = item if hasattr(item, "field_problem") else item.rows[-1]
        field = row.receptive_field
        return None if field is None else getattr(field, part)

    return value


NAME = Column("name", "stage", lambda item: getattr(item, "name", TOTAL), number=False)
TEXT = Column("text", "layer", lambda item: getattr(item, "text", ""), number=False)
COLUMNS = (
    _of("out_shape", "output shape", number=False),
    _of("params", "parameters"),
    _of("macs", "MACs"),
    _of("macs_on_data", "MACs on data"),
    _of("flops", "FLOPs (2 x MACs)"),
    _of("other_operations", "other operations"),
    _of("weight_bytes", "weights (bytes)"),
    _of("activation_bytes", "output (bytes)"),
    _of("intensity", "FLOPs / byte", unit="flops_per_byte"),
    Column("receptive_field_size", "field (pixels)", _field("size"), number=False, unit="pixels"),
    Column("receptive_field_stride", "stride (pixels)", _field("stride"), number=False, unit="pixels"),
    Column("receptive_field_padding", "padding (pixels)", _field("padding"), number=False, unit="pixels"),
)
SHOWN = (NAME, TEXT, *(column for column in COLUMNS if column.key not in ("other_operations",)))
UNITS = {
    "params": "trainable numbers; batch norm's scale and shift, not its statistics",
    "buffers": "numbers kept but not trained: batch norm's statistics",
    "macs": "multiply-accumulates of the defining sum, padding included, without bias; whole batch; pooling has none",
    "macs_on_data": "multiply-accumulates whose input is real data and whose output is kept; whole batch",
    "flops": "2 x MACs; whole batch",
    "other_operations": "biases, pooling, batch norms, activations, additions of branches; whole batch",
    "weight_bytes": "bytes of parameters and buffers",
    "activation_bytes": "bytes of outputs; whole batch",
    "intensity": "FLOPs (2 x MACs) per byte moved, everything moved once",
    "peak_activation_bytes": "most bytes of activations alive at once, without weights",
    "receptive_field": "pixels of the input",
}


def sizes_text(sizes: Sequence[Any] | None) -> str:
    """Sizes as one writes them: 64x112x112."""
    return "?" if sizes is None else "x".join(map(str, sizes))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else sizes_text(value)


def _shortened(text: str) -> str:
    return text if len(text) <= WIDEST_TEXT else text[: WIDEST_TEXT - 3] + "..."


def cells(report: Report) -> list[list[str]]:
    """A line of texts for each row, and one for the total, under the headings of ``SHOWN``."""
    rows: list[Row | Report] = [*report.rows, report]
    return [[_shown(column.value(row)) for column in SHOWN] for row in rows]


def remarks(report: Report) -> list[str]:
    """What a table does not say in its cells: the input, the peak, problems with the field, notes."""
    lines = [
        f"Input {sizes_text(report.in_shape)} (batch {report.in_shape[0]} counted), {report.dtype}. "
        "MACs: of the defining sum, padding included, without bias. MACs on data: input real and output kept. "
        "Pooling has no MACs.",
        f"Peak activations: {report.peak_activation_bytes:,} bytes, at stage {report.peak_stage}.",
    ]
    last = report.rows[-1]
    problems = (last.field_problem,) if last.receptive_field is None else last.receptive_field.misaligned
    return [*lines, *(f"Receptive field: {problem}." for problem in problems), *report.notes]


def as_text(report: Report) -> str:
    """A plain table."""
    lines = [tuple(column.heading for column in SHOWN), *map(tuple, cells(report))]
    lines = [(line[0], _shortened(line[1]), *line[2:]) for line in lines]
    numbers = [index for index, column in enumerate(SHOWN) if column.number]
    return "\n".join([as_columns(lines, numbers, total=True), *remarks(report)])


def as_columns(lines: Sequence[Line], numbers: Collection[int], *, total: bool = False) -> str:
    """Lines of texts under one another, numbers to the right; rules under the heading and above a total."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def shown(line: Line) -> str:
        padded = (
            text.rjust(width) if index in numbers else text.ljust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    head, *body = map(shown, lines)
    return "\n".join([head, rule, *body[:-1], *([rule] if total else []), *body[-1:]])


def as_html(report: Report) -> str:
    """A table for a notebook."""
    lines = [tuple(column.heading for column in SHOWN), *map(tuple, cells(report))]
    numbers = [index for index, column in enumerate(SHOWN) if column.number]
    return columns_html(lines, numbers, total=True) + paragraphs_html(remarks(report))


def columns_html(lines: Sequence[Line], numbers: Collection[int], *, total: bool = False) -> str:
    """Lines of texts as an HTML table, the first as its heading, numbers to the right."""

    def row(tag: str, line: Line) -> str:
        aligned = (("right" if index in numbers else "left", text) for index, text in enumerate(line))
        found = "".join(f'<{tag} style="text-align:{side}">{escape(text)}</{tag}>' for side, text in aligned)
        return f"<tr>{found}</tr>"

    head, *body = lines
    foot = f"<tfoot>{row('th', body.pop())}</tfoot>" if total else ""
    filled = "".join(row("td", line) for line in body)
    return f"<table><thead>{row('th', head)}</thead><tbody>{filled}</tbody>{foot}</table>"


def paragraphs_html(sentences: Sequence[str]) -> str:
    """Sentences under a table."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _plain(value: Any) -> Any:
    """A value as JSON has it; a Fraction as text, as in "1/2"."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, int | float | str) else str(value)


def as_dict(report: Report) -> dict[str, Any]:
    """The whole count as plain values."""

    def values(item: Row | Report) -> dict[str, Any]:
        return {column.key: _plain(column.value(item)) for column in COLUMNS} | {"buffers": item.buffers}

    last = report.rows[-1]
    return {
        "network": report.network,
        "in_shape": _plain(report.in_shape),
        "dtype": report.dtype,
        **values(report),
        "peak_activation_bytes": report.peak_activation_bytes,
        "peak_stage": report.peak_stage,
        "misaligned": [] if last.receptive_field is None else list(last.receptive_field.misaligned),
        "field_problem": last.field_problem,
        "rows": [
            {"name": row.name, "text": row.text, "in_shapes": _plain(row.in_shapes), **values(row)}
            for row in report.rows
        ],
        "notes": list(report.notes),
        "units": UNITS,
    }


def as_csv(report: Report) -> str:
    """A line for each row; sizes as 64x112x112; units in the header where the name is not one (MACs, FLOPs, bytes)."""
    columns = (NAME, TEXT, *COLUMNS)

    def raw(value: Any) -> str:
        return str(value) if isinstance(value, int | float | str) else sizes_text(value)

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.csv_header for column in columns])
    items: list[Row | Report] = [*report.rows, report]
    writer.writerows([raw(column.value(item)) for column in columns] for item in items)
    return out.getvalue()
