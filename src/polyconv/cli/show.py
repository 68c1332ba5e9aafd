"""Printing: tables of numbers with units, on any width of terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_WIDTH = 150  # columns where the output is no terminal
LEAST_TEXT = 24  # columns that a long text needs before its numbers are set beside it
_SEPARATOR, _INDENT = 2, 2


@dataclass(frozen=True)
class Table:
    """Rows of texts: the first ``words`` columns are words, the others numbers. Brackets in them are no markup."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def fitted(self, width: int) -> RenderableType:
        """A table where the terminal is wide enough, its headings on two lines if need be.

        Else the words of each row on a line of their own above its numbers, in columns or, narrower still, as a list.
        """
        two_lines = [_two_lines(heading) for heading in self.headings]
        for heads in ([[heading] for heading in self.headings], two_lines):
            if self._least_width(heads) <= width:
                return self._table(heads)
        widths = self._natural(two_lines)[self.words :]
        if _INDENT + sum(widths) + _SEPARATOR * (len(widths) - 1) <= width:
            return self._under_words(two_lines[self.words :], widths)
        return self._blocks()

    def _natural(self, heads: list[list[str]]) -> list[int]:
        """The width of each column without folding."""
        columns = zip(*([max(lines, key=len) for lines in heads], *self.rows), strict=True)
        return [max(map(len, column)) for column in columns]

    def _least_width(self, heads: list[list[str]]) -> int:
        natural = self._natural(heads)
        longest = max(natural[: self.words])
        texts = sum(natural[: self.words]) - longest + min(longest, LEAST_TEXT)
        return texts + sum(natural[self.words :]) + _SEPARATOR * len(natural) + 2

    def _table(self, heads: list[list[str]]) -> RenderableType:
        from rich import box
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, lines in enumerate(heads):
            text = number < self.words
            justify: Any = "left" if text else "right"
            grid.add_column(Text("\n".join(lines)), justify=justify, overflow="fold", no_wrap=not text)
        for row in self.rows:
            grid.add_row(*(Text(_printable(cell)) for cell in row))
        return grid

    def _under_words(self, heads: list[list[str]], widths: list[int]) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        def line(cells: Sequence[str]) -> Text:
            joined = (" " * _SEPARATOR).join(cell.rjust(size) for cell, size in zip(cells, widths, strict=True))
            return Text(" " * _INDENT + joined, no_wrap=True)

        tall = max(map(len, heads))
        head = [line(cells) for cells in zip(*([""] * (tall - len(one)) + one for one in heads), strict=True)]
        lines: list[RenderableType] = [*head, Text("-" * (_INDENT + sum(widths) + _SEPARATOR * (len(widths) - 1)))]
        for row in self.rows:
            lines += [self._words_of(row), line([_printable(cell) for cell in row[self.words :]])]
        return Group(*lines)

    def _words_of(self, row: Sequence[str]) -> RenderableType:
        from rich.text import Text

        return Text(_printable("  ".join(filter(None, row[: self.words]))), style="bold")

    def _blocks(self) -> RenderableType:
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        blocks: list[RenderableType] = []
        for row in self.rows:
            blocks.append(self._words_of(row))
            pairs = zip(self.headings[self.words :], row[self.words :], strict=True)
            text = ", ".join(f"{heading} {_printable(cell)}" for heading, cell in pairs)
            blocks.append(Padding(Text(text), (0, 0, 0, 2)))
        return Group(*blocks)


def _two_lines(heading: str) -> list[str]:
    """A heading on two lines where it has a unit, so that its column stays narrow."""
    return heading.replace(" (", "\n(").replace(" on ", "\non ").split("\n")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def echo(*things: Table | str) -> None:
    """Print tables and lines; lines are wrapped by the terminal alone, so that they can be copied."""
    console: Console | None = None
    for thing in things:
        if isinstance(thing, str):
            click.echo(thing)
        else:
            console = console or _console()
            console.print(thing.fitted(console.width))


def _console() -> Console:
    from rich.console import Console

    plain = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**plain)  # type: ignore[arg-type]
    return console if console.is_terminal else Console(**plain, width=PLAIN_WIDTH)  # type: ignore[arg-type]
