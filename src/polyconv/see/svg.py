"""A picture as SVG: text, so that it can be searched, styled, and reviewed in a diff."""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape

from polyconv.see.shapes import Line, Picture, Point, Polygon, Raster, Shape, Text

FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(picture: Picture) -> str:
    """The picture as a stand-alone SVG document.

    Example:
        >>> from polyconv import network
        >>> drawing = network("conv 3x3 1").draw((5, 5))
        >>> svg(drawing.picture()).startswith("<svg xmlns=")
        True
    """
    return "\n".join([head(picture), *(one(shape) for shape in picture.shapes), "</svg>", ""])


def head(picture: Picture) -> str:
    """Everything before the first shape."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.width} {picture.height}" '
        f'width="{picture.width}" height="{picture.height}" role="img" font-family="{FONTS}">\n'
        f"<title>{clean(picture.title)}</title>\n<desc>{clean(picture.description)}</desc>\n"
        f'<rect width="{picture.width}" height="{picture.height}" fill="{picture.background}"/>'
    )


def one(shape: Shape) -> str:
    """One shape as an element."""
    if isinstance(shape, Text):
        return _text(shape)
    if isinstance(shape, Raster):
        return _raster(shape)
    return _line(shape) if isinstance(shape, Line) else _polygon(shape)


def clean(text: str) -> str:
    """Text that is never markup, nor a character XML cannot hold."""
    return escape(_NOT_XML.sub("�", text), quote=True)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _points(points: tuple[Point, ...]) -> str:
    return " ".join(f"{_short(x)},{_short(y)}" for x, y in points)


def _stroke(colour: str | None, width: float, dashed: bool) -> str:
    if colour is None:
        return ""
    dashes = ' stroke-dasharray="3 2"' if dashed else ""
    return f' stroke="{colour}"' + (f' stroke-width="{_short(width)}"' if width != 1 else "") + dashes


def _polygon(shape: Polygon) -> str:
    tag = f' data-cell="{clean(shape.tag)}"' if shape.tag else ""
    style = f' fill="{shape.fill or "none"}"{_stroke(shape.stroke, shape.width, shape.dashed)}{tag}'
    if is_upright(shape):
        (x, y), _, (right, bottom), _ = shape.points
        size = f'width="{_short(right - x)}" height="{_short(bottom - y)}"'
        return f'<rect x="{_short(x)}" y="{_short(y)}" {size}{style}/>'
    return f'<polygon points="{_points(shape.points)}"{style}/>'


def is_upright(shape: Polygon) -> bool:
    """Whether a polygon is a rectangle along the axes, its corners from the top left clockwise."""
    if len(shape.points) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = shape.points
    return ay == by and bx == cx and cy == dy and dx == ax


def _line(shape: Line) -> str:
    style = _stroke(shape.stroke, shape.width, shape.dashed)
    drawn = f'<polyline points="{_points(shape.points)}" fill="none"{style}/>'
    if shape.arrow:
        drawn += f'<polygon points="{_points(arrow_head(shape))}" fill="{shape.stroke}"/>'
    return drawn


def arrow_head(line: Line, size: float = 7.0) -> tuple[Point, ...]:
    """The triangle at the end of a line."""
    (x0, y0), (x1, y1) = line.points[-2:]
    length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    bx, by = x1 - ux * size, y1 - uy * size
    half = size * 0.45
    return ((x1, y1), (bx - uy * half, by + ux * half), (bx + uy * half, by - ux * half))


def _text(shape: Text) -> str:
    anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
    where = f'x="{_short(shape.x)}" y="{_short(shape.y)}" font-size="{_short(shape.size)}"'
    return f'<text {where} fill="{shape.fill}"{anchor}>{clean(shape.text)}</text>'


def _raster(shape: Raster) -> str:
    kind = "png" if shape.content.startswith(b"\x89PNG") else "jpeg"
    where = f'x="{_short(shape.x)}" y="{_short(shape.y)}" width="{_short(shape.width)}" height="{_short(shape.height)}"'
    style = ' style="image-rendering:pixelated"' if shape.crisp else ""
    data = b64encode(shape.content).decode("ascii")
    return f'<image {where} preserveAspectRatio="none"{style} href="data:image/{kind};base64,{data}"/>'
