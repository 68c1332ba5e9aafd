"""One self-contained page with a player: every frame, a slider, and the sum of the output one points at."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from polyconv.see.shapes import Picture
from polyconv.see.svg import clean, head, one
from polyconv.see.theme import theme_named

if TYPE_CHECKING:
    from polyconv.see.drawing import Drawing

# The page may run its own script and style and fetch nothing at all.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def page(drawing: Drawing, fps: float = 2.0) -> str:
    """The drawing as one HTML document that asks no host for anything."""
    data = json.dumps(contents(drawing, fps), ensure_ascii=False, separators=(",", ":"))
    first = drawing.picture(0)
    theme = theme_named(drawing.composer.theme.name)
    values = {
        "title": clean(drawing.title),
        "policy": escape(POLICY),
        "style": asset("player.css"),
        "scheme": theme.name,
        "background": theme.background,
        "ink": theme.ink,
        "faint": theme.faint,
        "rule": theme.rule,
        "loud": theme.output_loud,
        "svg": f"{moving(first)}</svg>",
        "controls": asset("controls.html"),
        "data": data.replace("<", "\\u003c"),
        "script": asset("player.js"),
    }
    parts = asset("player.html").split("%%")
    return "".join(values[part] if index % 2 else part for index, part in enumerate(parts))


def contents(drawing: Drawing, fps: float) -> dict[str, Any]:
    """What the player needs: every distinct element once, each frame as a list of them, and each output's sum."""
    numbers: dict[str, int] = {}
    frames, said = [], []
    for picture in drawing.frames:
        frames.append([numbers.setdefault(one(shape), len(numbers)) for shape in picture.shapes])
        said.append(picture.description)
    outputs = {
        tag: {"frame": s.frame, "title": s.title, "lines": s.lines} for tag, s in drawing.composer.outputs().items()
    }
    return {"fps": fps, "shapes": list(numbers), "frames": frames, "said": said, "outputs": outputs}


def embedded(drawing: Drawing) -> str:
    """The page inside a frame, for a notebook."""
    height = round(drawing.picture(0).height * 1.1) + 190
    style = f"width:100%;max-width:760px;height:{height}px;border:0"
    title = clean(f"polyconv: {drawing.title}")
    return f'<iframe title="{title}" sandbox="allow-scripts" style="{style}" srcdoc="{clean(page(drawing))}"></iframe>'


def moving(picture: Picture) -> str:
    """The SVG's head, its size left to the page, and the group that the player fills."""
    opened = head(picture).replace(f'width="{picture.width}" height="{picture.height}" role', "role", 1)
    return opened + '\n<g id="shapes">' + "\n".join(map(one, picture.shapes)) + '</g><g id="pin"></g>'


def asset(name: str) -> str:
    """A text file of the player."""
    return (files("polyconv.see") / "assets" / name).read_text(encoding="utf-8")
