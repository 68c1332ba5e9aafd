"""How wide words are, and how they break into lines.

The font is the one that Pillow carries, so that a drawing needs no font of the system. A few signs that it lacks are
drawn as lines (``STROKES``); other characters it lacks are shown as "?" in pixels, and as they are in SVG.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

# Signs as strokes in a box 1 em wide: (advance, polylines as (x, y) with y up from the baseline).
STROKES: dict[str, tuple[float, tuple[tuple[tuple[float, float], ...], ...]]] = {
    "−": (0.6, (((0.08, 0.35), (0.52, 0.35)),)),
    "×": (0.6, (((0.12, 0.17), (0.48, 0.53)), ((0.12, 0.53), (0.48, 0.17)))),
    "→": (0.95, (((0.1, 0.34), (0.85, 0.34)), ((0.65, 0.52), (0.85, 0.34), (0.65, 0.16)))),
    "ᵀ": (0.42, (((0.04, 0.72), (0.38, 0.72)), ((0.21, 0.72), (0.21, 0.36)))),
}
SLACK = 1.1  # a reader's own sans-serif font may be wider
WORDS = 1.18  # lines of words in DejaVu Sans, the widest of those that browsers fall back on
SIGNS = 1.3  # and its signs of arithmetic more so: lines of them are broken earlier


@lru_cache(maxsize=64)
def font(size: float) -> Any:
    """Pillow's own font at a size in pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _known(character: str) -> bool:
    """Whether the font has a glyph for it."""
    probe = font(24.0)
    shape = probe.getmask(character)
    missing = probe.getmask("\U000e0001")
    return character == " " or (shape.size, bytes(shape)) != (missing.size, bytes(missing))


@lru_cache(maxsize=4096)
def drawable(text: str) -> str:
    """The text with what neither the font nor the strokes have made plain, or "?"."""
    found = []
    for character in text:
        if character in STROKES or _known(character):
            found.append(character)
            continue
        bare = unicodedata.normalize("NFKD", character)[:1]
        found.append(bare if bare.isprintable() and bare and _known(bare) else "?")
    return "".join(found)


@lru_cache(maxsize=4096)
def advance(character: str) -> float:
    """How far a character moves on, for a size of 1 (no kerning: it closes the gaps that formulas need)."""
    return STROKES[character][0] if character in STROKES else float(font(200.0).getlength(character)) / 200


@lru_cache(maxsize=16384)
def measure(text: str, size: float) -> float:
    """The width of a line of text in pixels."""
    return sum(map(advance, drawable(text))) * size


def fitted(text: str, size: float, width: float, least: float = 8.0) -> float | None:
    """The largest size up to ``size`` at which the text fits ``width``; None where that is below ``least``."""
    wide = measure(text, size) * SLACK
    found = size if wide <= width else size * width / wide
    return round(found, 2) if found >= least else None


def wrapped(text: str, size: float, width: float, most: int = 12) -> list[str]:
    """The text in lines that fit ``width``, broken at spaces; words too long are cut, and more than ``most`` lines."""
    lines: list[str] = [""]
    wide, space = 0.0, measure(" ", size)  # a line is as wide as its words and what is between them
    for word in text.split(" "):
        longer = wide + space + measure(word, size) if lines[-1] else measure(word, size)
        if longer * (SIGNS if "·" in text else WORDS) <= width:
            lines[-1], wide = f"{lines[-1]} {word}" if lines[-1] else word, longer
            continue
        if lines[-1]:
            lines.append("")
        lines[-1] = clipped(word, size, width)
        wide = measure(lines[-1], size)
    return lines if len(lines) <= most else [*lines[: most - 1], clipped(f"{lines[most - 1]} …", size, width)]


def clipped(text: str, size: float, width: float) -> str:
    """The text, its end replaced by "…" where it is too long for one line."""
    if measure(text, size) * WORDS <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle] + "…", size) * WORDS <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low] + "…"
