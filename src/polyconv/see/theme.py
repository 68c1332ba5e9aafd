"""Colours: after Okabe and Ito's palette, which survives colour-blindness; light against dark survives print."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

from polyconv._checks import choice

ThemeName: TypeAlias = Literal["auto", "light", "dark"]


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a drawing; each family has a quiet and a loud one, which differ in lightness."""

    name: str
    background: str
    ink: str
    faint: str  # secondary text
    rule: str  # cell borders
    input: str
    input_loud: str
    kernel: str
    kernel_loud: str
    output: str
    output_loud: str
    empty: str  # an output not known yet
    padding: str
    stuffed: str
    cropped: str
    mark: str  # the outline of what is under way


LIGHT = Theme(
    name="light",
    background="#ffffff",
    ink="#14202b",
    faint="#51606e",
    rule="#9fb0be",
    input="#dcebf6",
    input_loud="#7ab8e4",
    kernel="#fdf3c7",
    kernel_loud="#f2d64b",
    output="#fbe0cc",
    output_loud="#ee8f4d",
    empty="#ffffff",
    padding="#f7f8f9",
    stuffed="#eceff1",
    cropped="#e3e6e9",
    mark="#14202b",
)
DARK = Theme(
    name="dark",
    background="#12181f",
    ink="#f1f5f8",
    faint="#a9b7c3",
    rule="#566573",
    input="#173a55",
    input_loud="#2973a6",
    kernel="#4a4113",
    kernel_loud="#7f6e10",
    output="#56301a",
    output_loud="#b0541a",
    empty="#12181f",
    padding="#1a222b",
    stuffed="#222c36",
    cropped="#2b333c",
    mark="#ffffff",
)
AUTO = replace(LIGHT, name="auto")  # light; a page made of it follows what its reader prefers
THEMES = {theme.name: theme for theme in (AUTO, LIGHT, DARK)}


def theme_named(name: str) -> Theme:
    """The theme of this name."""
    return THEMES[choice(name, tuple(THEMES), "theme")]


@lru_cache(maxsize=4096)
def between(quiet: str, loud: str, share: float) -> str:
    """A colour ``share`` of the way from one to the other.

    Example:
        >>> between("#000000", "#ffffff", 0.5)
        '#808080'
    """
    pairs = [(int(quiet[i : i + 2], 16), int(loud[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * min(max(share, 0.0), 1.0)):02x}" for a, b in pairs)


@lru_cache(maxsize=4096)
def clearest(fill: str, *inks: str) -> str:
    """Of several inks the one that stands out most on ``fill``, by the contrast ratio of WCAG 2.

    Example:
        >>> clearest("#ffffff", "#14202b", "#f1f5f8")
        '#14202b'
    """
    under = _luminance(fill)
    return max(inks, key=lambda ink: abs(math.log((_luminance(ink) + 0.05) / (under + 0.05))))


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
