"""What each kind of convolution costs in place of another, as a chart of bars."""

from __future__ import annotations

from dataclasses import dataclass

from polyconv._units import amount, milliseconds
from polyconv.count.alternatives import Alternative, Comparison
from polyconv.see.arrange import MARGIN, ROOM, SMALL
from polyconv.see.drawing import Drawing
from polyconv.see.lettering import clipped
from polyconv.see.photo import TOP, Plate
from polyconv.see.shapes import Picture, Shape, Text, rect
from polyconv.see.theme import ThemeName, theme_named

NAMES, GAP, ROW, VALUE = 160.0, 12.0, 26.0, 50.0


@dataclass(frozen=True, eq=False)
class CostComposer(Plate):
    """Draws a row for each kind and a column for each cost, longest bar the largest."""

    comparison: Comparison

    @property
    def height(self) -> int:
        """Of the picture."""
        return int(TOP + 40 + ROW * len(self.comparison.rows) + 40)

    def columns(self) -> list[tuple[str, list[tuple[float, str]]]]:
        """Heading, and each row's value as a number and as text."""
        rows = self.comparison.rows
        found = [
            ("parameters", [(float(row.report.params), amount(row.report.params)) for row in rows]),
            ("MACs", [(float(row.report.macs), amount(row.report.macs)) for row in rows]),
        ]
        if all(row.seconds is not None for row in rows):
            found.append(("time (ms)", [(row.seconds or 0.0, milliseconds(row.seconds or 0.0)) for row in rows]))
        return found

    def picture(self, index: int) -> Picture:
        """The chart."""
        columns = self.columns()
        wide = (ROOM - NAMES) / len(columns) - GAP
        made: list[Shape] = [self._name(number, row) for number, row in enumerate(self.comparison.rows)]
        for number, (heading, values) in enumerate(columns):
            x, most = MARGIN + NAMES + number * (wide + GAP), max(value for value, _ in values) or 1.0
            made.append(Text(x, TOP + 14, heading, SMALL + 1, self.theme.faint))
            for row, (value, said) in enumerate(values):
                y, length = TOP + 26 + row * ROW, round((wide - VALUE) * value / most, 2)
                made.append(rect(x, y, max(length, 1.0), ROW - 8, self.theme.output_loud))
                made.append(Text(x + length + 4, y + 13, said, SMALL, self.theme.ink))
        return self.framed(made, [f"At the same input and output: {self.comparison.standard.network}"], self.height)

    def _name(self, number: int, row: Alternative) -> Text:
        kind = clipped(row.title, SMALL + 1, NAMES - 8)
        return Text(MARGIN, TOP + 39 + number * ROW, kind, SMALL + 1, self.theme.ink)


def draw_costs(comparison: Comparison, *, theme: ThemeName = "auto") -> Drawing:
    """A comparison as a chart: parameters, MACs and, where it was timed, time of each kind.

    Args:
        comparison: what ``polyconv.compare`` gives; ``timed()`` adds the times.
        theme: "light", "dark", or "auto": light, where a page follows its reader.

    Example:
        >>> import polyconv as pc
        >>> len(pc.draw_costs(pc.compare("conv 3x3 64 same", (1, 32, 56, 56))).frames)
        1
    """
    return Drawing(CostComposer(f"Cost of {comparison.standard.network}", theme_named(theme), comparison))
