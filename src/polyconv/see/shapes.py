"""What a drawing is made of: rectangles, polygons, lines, words and photographs. Each backend draws this one list.

Coordinates are in pixels of a canvas 600 wide, y downwards; a text's y is its baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed shape.

    Args:
        points: its corners.
        fill: colour inside, or None.
        stroke: colour of its outline, or None.
        width: of the outline.
        dashed: whether the outline is dashed.
        tag: what it stands for, so that a page can point at it.
    """

    points: tuple[Point, ...]
    fill: str | None = None
    stroke: str | None = None
    width: float = 1.0
    dashed: bool = False
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Straight pieces from point to point, with an arrow's head at the end where asked."""

    points: tuple[Point, ...]
    stroke: str
    width: float = 1.0
    dashed: bool = False
    arrow: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Words. ``box`` is the width they must stay inside."""

    x: float
    y: float
    text: str
    size: float
    fill: str
    anchor: Literal["start", "middle", "end"] = "start"
    box: float = 600.0


@dataclass(frozen=True, slots=True)
class Raster:
    """A picture file inside a drawing, stretched to its box.

    Args:
        x: of its left side.
        y: of its top.
        width: as it is shown.
        height: as it is shown.
        content: a PNG or JPEG file.
        crisp: whether each of its pixels is to be seen where it is enlarged.
    """

    x: float
    y: float
    width: float
    height: float
    content: bytes
    crisp: bool = False


Shape: TypeAlias = Polygon | Line | Text | Raster


@dataclass(frozen=True, slots=True)
class Picture:
    """A canvas and what is on it, back to front.

    Args:
        width: in pixels.
        height: in pixels.
        background: its colour.
        shapes: what is drawn.
        title: one line that says what it is.
        description: what a person who cannot see it is told.
    """

    width: int
    height: int
    background: str
    shapes: tuple[Shape, ...]
    title: str
    description: str


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str | None = None,
    stroke: str | None = None,
    line: float = 1.0,
) -> Polygon:
    """A rectangle."""
    return Polygon(((x, y), (x + width, y), (x + width, y + height), (x, y + height)), fill, stroke, line)
