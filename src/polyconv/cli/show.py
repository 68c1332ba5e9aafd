"""Printing: tables of numbers with units, on any width of terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 150  # columns where the output is no terminal


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> Table:
    """A table whose first ``words`` columns are text, the others numbers.

    Cells are taken as they are: brackets in them are no markup.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        text = number < words
        result.add_column(Text(heading), justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for row in rows:
        result.add_row(*(Text(_printable(cell)) for cell in row))
    return result


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def echo(*things: Any) -> None:
    """Print tables and lines; lines are wrapped by the terminal alone, so that they can be copied."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)
    for thing in things:
        if isinstance(thing, str):
            click.echo(thing)
        else:
            console.print(thing)


def sizes(values: Sequence[Any] | None) -> str:
    """Sizes as one writes them: 64x112x112; a question mark for none."""
    return "?" if values is None else "x".join(map(str, values))


def shown_shape(shape: Sequence[int]) -> str:
    """A shape (batch, channels, *spatial): the batch is left out where it is 1, and set apart where it is not."""
    return sizes(shape[1:]) if shape[0] == 1 else f"{shape[0]} of {sizes(shape[1:])}"


def amount(value: float) -> str:
    """A large number in three figures: 1,792 or 86.7 M or 4.09 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 999.5 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f}"


def milliseconds(seconds: float) -> str:
    """A time in ms: three figures."""
    return f"{seconds * 1e3:.3g}" if seconds < 0.9995 else f"{seconds * 1e3:,.0f}"


def gflops(macs: float, seconds: float) -> str:
    """GFLOP/s, at 2 FLOPs a multiply-accumulate; a dash where nothing is multiplied."""
    return f"{2 * macs / seconds / 1e9:.3g}" if macs and seconds > 0 else "-"
