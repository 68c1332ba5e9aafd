"""Where the cells of a grid lie on the canvas: a row, a grid, or the slices of a volume seen at a slant."""

from __future__ import annotations

from dataclasses import dataclass

from polyconv.layers import Sizes
from polyconv.see.parts import Cell
from polyconv.see.shapes import Point

FLAT = 0.66  # a slanted cell's height for its width
LEAN = 0.3  # how far a slanted row lies to the right of the one in front of it
APART = 0.45  # between the slices of a volume


@dataclass(frozen=True, slots=True)
class Panel:
    """A grid's place.

    Args:
        x: left.
        y: top.
        cell: a cell's width.
        shape: cells along each axis, 1 to 3 of them.
        pitch: from cell to cell along the last axis, in cells (the dilation of a kernel laid over its input).
    """

    x: float
    y: float
    cell: float
    shape: Sizes
    pitch: int = 1

    @property
    def _volume(self) -> tuple[int, int, int]:
        depth, rows, columns = (1, 1, 1, *self.shape)[-3:]
        return depth, rows, columns

    @property
    def slanted(self) -> bool:
        """Whether it is a volume."""
        return len(self.shape) == 3

    @property
    def width(self) -> float:
        """Of the whole grid."""
        _, rows, columns = self._volume
        flat = ((columns - 1) * self.pitch + 1) * self.cell
        return flat + rows * LEAN * self.cell if self.slanted else flat

    @property
    def height(self) -> float:
        """Of the whole grid."""
        depth, rows, _ = self._volume
        if not self.slanted:
            return rows * self.cell
        return depth * rows * FLAT * self.cell + (depth - 1) * APART * self.cell

    def corners(self, cell: Cell) -> tuple[Point, Point, Point, Point]:
        """The cell's four corners, clockwise from the top left."""
        depth, row, column = (0, 0, 0, *cell)[-3:]
        left = self.x + column * self.pitch * self.cell
        if not self.slanted:
            top = self.y + row * self.cell
            right, bottom = left + self.cell, top + self.cell
            return ((left, top), (right, top), (right, bottom), (left, bottom))
        rows = self._volume[1]
        high, lean = FLAT * self.cell, LEAN * self.cell
        top = self.y + depth * (rows * high + APART * self.cell) + row * high
        upper, lower = left + (rows - row) * lean, left + (rows - row - 1) * lean
        return (
            (upper, top),
            (upper + self.cell, top),
            (lower + self.cell, top + high),
            (lower, top + high),
        )

    def centre(self, cell: Cell) -> Point:
        """The middle of a cell."""
        points = self.corners(cell)
        return (sum(p[0] for p in points) / 4, sum(p[1] for p in points) / 4)

    @property
    def text_width(self) -> float:
        """The room for a number inside a cell."""
        return self.cell - 3 if not self.slanted else self.cell - 4

    @property
    def text_size(self) -> float:
        """The size of a number inside a cell."""
        return min(15.0, self.cell * 0.5) if not self.slanted else min(14.0, self.cell * FLAT * 0.62)


def panel_size(shape: Sizes, cell: float) -> tuple[float, float]:
    """Width and height of a grid of this shape."""
    panel = Panel(0, 0, cell, shape)
    return panel.width, panel.height
