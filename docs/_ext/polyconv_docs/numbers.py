"""The directive ``{numbers}``: what a network costs and sees on an input, as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import polyconv as pc
from polyconv.architectures import ARCHITECTURES
from polyconv_docs.pictures import shape_of

HEADINGS = ("network", "input", "output", "parameters", "MACs", "MACs on data", "field")


def row_of(text: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The cells of one network; a batch of 1 is left out of the shapes."""
    net = ARCHITECTURES[text[1:]]() if text.startswith("@") else pc.network(text)
    report = net.count((1, *shape))
    return (
        text,
        _by(shape),
        _by(report.out_shape[1:]),
        f"{report.params:,}",
        f"{report.macs:,}",
        f"{report.macs_on_data:,}",
        _by(report.receptive_field.size),
    )


def _by(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))


class NumbersDirective(SphinxDirective):
    """A table with one row for each line ``NETWORK`` or ``NETWORK @ INPUT``."""

    has_content = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"input": shape_of}

    def run(self) -> list[nodes.Node]:
        """Count each line."""
        rows = []
        for line in self.content:
            text, _, own = line.partition("@")
            if not text.strip():
                continue
            shape = shape_of(own.strip()) if own else self.options.get("input")
            if shape is None:
                raise self.error(f"{line}: the input is missing; write NETWORK @ 3x224x224, or the option :input:")
            try:
                rows.append(row_of(text.strip(), shape))
            except ValueError as error:
                raise self.error(f"{line}: {error}") from error
        return [nodes.container("", table(HEADINGS, rows), classes=["numbers"])]


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.table:
    """A table whose first column is code."""
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=1) for _ in headings]
    head, body = nodes.thead(), nodes.tbody()
    head += _row([nodes.Text(heading) for heading in headings])
    body += [_row([nodes.literal("", row[0]), *map(nodes.Text, row[1:])]) for row in rows]
    group += [head, body]
    return nodes.table("", group)


def _row(cells: list[Any]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("numbers", NumbersDirective)
