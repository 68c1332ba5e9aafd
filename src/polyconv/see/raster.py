"""A picture as pixels, drawn with Pillow: flat shapes, and letters in the font that Pillow carries."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from polyconv.see.lettering import STROKES, advance, drawable, font, measure
from polyconv.see.shapes import Line, Picture, Point, Polygon, Raster, Text
from polyconv.see.svg import arrow_head, is_upright

if TYPE_CHECKING:
    from PIL.Image import Image

ABOVE, BELOW = 1.2, 0.6  # room round letters, for their size
FINE = 2  # drawn this much larger, then reduced, so that slanted edges are smooth


def raster(picture: Picture, scale: float = 1.0) -> Image:
    """The picture as an RGB image, ``scale`` pixels for each of its own."""
    from PIL import Image, ImageDraw

    by = scale * FINE
    size = (round(picture.width * scale) * FINE, round(picture.height * scale) * FINE)
    image = Image.new("RGB", size, picture.background)
    brush = ImageDraw.Draw(image)
    for shape in picture.shapes:
        if isinstance(shape, Polygon):
            _polygon(brush, shape, by)
        elif isinstance(shape, Line):
            _line(brush, shape, by)
        elif isinstance(shape, Raster):
            _inside(image, shape, by)
        else:
            _text(image, shape, by)
    return image.reduce(FINE)


def _scaled(points: tuple[Point, ...], by: float) -> list[Point]:
    return [(x * by, y * by) for x, y in points]


def _polygon(brush: Any, shape: Polygon, by: float) -> None:
    points = _scaled(shape.points, by)
    width = max(1, round(shape.width * by))
    if is_upright(shape) and not shape.dashed:
        (x, y), _, (right, bottom), _ = points
        half = width / 2 if shape.stroke else 0.0
        box = [round(x - half), round(y - half), round(right + half) - 1, round(bottom + half) - 1]
        if box[2] >= box[0] and box[3] >= box[1]:
            brush.rectangle(box, fill=shape.fill, outline=shape.stroke, width=width)
        return
    if shape.fill:
        brush.polygon(points, fill=shape.fill)
    if shape.stroke:
        _path(brush, [*points, points[0]], shape.stroke, width, by if shape.dashed else 0.0)


def _line(brush: Any, shape: Line, by: float) -> None:
    width = max(1, round(shape.width * by))
    _path(brush, _scaled(shape.points, by), shape.stroke, width, by if shape.dashed else 0.0)
    if shape.arrow:
        brush.polygon(_scaled(arrow_head(shape), by), fill=shape.stroke)


def _path(brush: Any, points: list[Point], colour: str, width: int, dashed: float) -> None:
    if not dashed:
        brush.line(points, fill=colour, width=width, joint="curve")
        return
    for (x0, y0), (x1, y1) in pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        at = 0.0
        while at < length:
            to = min(at + 3 * dashed, length)
            ends = [(x0 + (x1 - x0) * part / length, y0 + (y1 - y0) * part / length) for part in (at, to)]
            brush.line(ends, fill=colour, width=width)
            at += 5 * dashed


def _inside(image: Image, shape: Raster, by: float) -> None:
    from PIL import Image

    how = Image.Resampling.NEAREST if shape.crisp else Image.Resampling.BICUBIC
    size = (max(1, round(shape.width * by)), max(1, round(shape.height * by)))
    with Image.open(BytesIO(shape.content)) as opened:
        image.paste(opened.convert("RGB").resize(size, how), (round(shape.x * by), round(shape.y * by)))


def _text(image: Image, shape: Text, by: float) -> None:
    size = shape.size * by
    x = shape.x * by
    if shape.anchor != "start":
        x -= measure(shape.text, size) * (0.5 if shape.anchor == "middle" else 1.0)
    mask = _letters(shape.text, round(size, 2))
    above = round(size * ABOVE)
    image.paste(shape.fill, (round(x) - above, round(shape.y * by) - above), mask)


@lru_cache(maxsize=4096)
def _letters(words: str, size: float) -> Image:
    """The words in white on black, their baseline and left end ``ABOVE`` of the size from the corner."""
    from PIL import Image, ImageDraw

    above = round(size * ABOVE)
    mask = Image.new("L", (round(measure(words, size)) + 2 * above, round(size * (ABOVE + BELOW))), 0)
    brush = ImageDraw.Draw(mask)
    x, letters = float(above), font(size)
    for character in drawable(words):
        if character not in STROKES:
            brush.text((x, above), character, fill=255, font=letters, anchor="ls")
        for stroke in STROKES.get(character, (0, ()))[1]:
            placed = [(x + px * size, above - py * size) for px, py in stroke]
            brush.line(placed, fill=255, width=max(1, round(size * 0.075)), joint="curve")
        x += advance(character) * size
    return mask
