"""One self-contained page with a player: every frame, a slider, and the sum of the output one points at."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from polyconv.see.shapes import Picture
from polyconv.see.svg import clean, head, one
from polyconv.see.theme import AUTO, DARK, LIGHT, Theme

if TYPE_CHECKING:
    from polyconv.see.drawing import Drawing

# The page may run its own script and style and fetch nothing at all.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'"
_PLAY = 'if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();'
_COLOUR = re.compile('((?:(?<= fill)|(?<= stroke))="#[0-9a-f]{6}")')


def page(drawing: Drawing, fps: float = 2.0, *, framed: bool = False) -> str:
    """The drawing as one HTML document that asks no host for anything.

    Of a drawing with the theme "auto" the page is light or dark as its reader prefers. A ``framed`` one does not begin
    to play, and is led by messages of the page around it.
    """
    made = contents(drawing, fps)
    values = {
        "title": clean(drawing.title),
        "policy": escape(POLICY),
        "style": made.style + asset("player.css"),
        "svg": f"{moving(drawing.picture(0), made.of(drawing, 0), background=False)}</svg>",
        "controls": asset("controls.html"),
        "data": json.dumps(made.data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        "script": asset("player.js"),
        "begin": asset("bridge.js") if framed else _PLAY,
    }
    parts = asset("player.html").split("%%")
    return "".join(values[part] if index % 2 else part for index, part in enumerate(parts))


def contents(drawing: Drawing, fps: float) -> Contents:
    """What the player needs: every distinct element once, each frame as a list of them, and each output's sum."""
    numbers: dict[str, int] = {}
    made = Contents(drawing.composer.theme)
    frames, said = [], []
    for index, picture in enumerate(drawing.frames):
        frames.append([numbers.setdefault(element, len(numbers)) for element in made.of(drawing, index)])
        said.append(picture.description)
    outputs = {
        tag: {"frame": s.frame, "title": s.title, "lines": s.lines} for tag, s in drawing.composer.outputs().items()
    }
    made.data = {"fps": fps, "shapes": list(numbers), "frames": frames, "said": said, "outputs": outputs}
    return made


class Contents:
    """The data of a page, and the colours that its elements name."""

    def __init__(self, theme: Theme) -> None:
        self.themes = (LIGHT, DARK) if theme == AUTO else (theme,)
        self.data: dict[str, Any] = {}
        self._colours: dict[tuple[str, str], int] = {}
        self._elements: dict[tuple[str, str], str] = {}
        self._other: Any = None

    def of(self, drawing: Drawing, index: int) -> list[str]:
        """The elements of one frame; where there are two themes, their colours as variables."""
        light = drawing.frames[index].shapes
        if len(self.themes) == 1:
            return list(map(one, light))
        if self._other is None:
            composer: Any = drawing.composer
            self._other = replace(composer, theme=DARK)
        return [self._both(one(a), one(b)) for a, b in zip(light, self._other.picture(index).shapes, strict=True)]

    def _both(self, light: str, dark: str) -> str:
        found = self._elements.get((light, dark))
        if found is None:
            found = self._elements[light, dark] = self._joined(light, dark)
        return found

    def _joined(self, light: str, dark: str) -> str:
        parts, others = _COLOUR.split(light), _COLOUR.split(dark)
        if parts[::2] != others[::2]:  # photographs and coloured maps
            return f'<g class="in-light">{light}</g><g class="in-dark">{dark}</g>'
        for number in range(1, len(parts), 2):
            pair = (parts[number], others[number])
            parts[number] = f'="var(--c{self._colours.setdefault(pair, len(self._colours))})"'
        return "".join(parts)

    @property
    def style(self) -> str:
        """The variables of every theme."""
        first, *rest = (self._rules(theme, number) for number, theme in enumerate(self.themes))
        scheme = "light dark" if rest else self.themes[0].name
        return f":root {{ color-scheme: {scheme}; {first} }}\n.in-dark {{ display: none; }}\n" + "".join(
            f"@media (prefers-color-scheme: dark) {{ :root {{ {rules} }} "
            ".in-light { display: none; } .in-dark { display: inline; } }\n"
            for rules in rest
        )

    def _rules(self, theme: Theme, number: int) -> str:
        named = {"background": theme.background, "ink": theme.ink, "faint": theme.faint, "rule": theme.rule}
        found = {**named, "loud": theme.output_loud}
        found |= {f"c{index}": pair[number][2:-1] for pair, index in self._colours.items()}
        return " ".join(f"--{name}: {value};" for name, value in found.items())


def embedded(drawing: Drawing) -> str:
    """The page inside a frame, for a notebook."""
    height = round(drawing.picture(0).height * 1.1) + 190
    style = f"width:100%;max-width:760px;height:{height}px;border:0"
    title = clean(f"polyconv: {drawing.title}")
    return f'<iframe title="{title}" sandbox="allow-scripts" style="{style}" srcdoc="{clean(page(drawing))}"></iframe>'


def moving(picture: Picture, elements: list[str], background: bool = True) -> str:
    """The SVG's head, its size left to the page, and the group that the player fills.

    Args:
        picture: whose head it is.
        elements: its shapes.
        background: whether it has the picture's own; else that of the page is seen.
    """
    opened = head(picture).replace(f'width="{picture.width}" height="{picture.height}" role', "role", 1)
    if not background:
        opened = opened.rpartition("\n<rect")[0]
    return opened + '\n<g id="shapes">' + "\n".join(elements) + '</g><g id="pin"></g>'


def asset(name: str) -> str:
    """A text file of the player."""
    return (files("polyconv.see") / "assets" / name).read_text(encoding="utf-8")
