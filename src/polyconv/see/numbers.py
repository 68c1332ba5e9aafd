"""Numbers and formulas as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

MINUS, TIMES, DOT, ARROW = "−", "×", "·", "→"
MAX_TERMS = 32


@lru_cache(maxsize=4096)
def number(value: float) -> str:
    """A number as short as it can be read: "3", "−1", "1.67", "1e+06".

    Example:
        >>> number(-1.0), number(5 / 3), number(2.0)
        ('−1', '1.67', '2')
    """
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else f"{MINUS}inf"
    text = f"{value:.3g}" if abs(value) < 100 else f"{value:.6g}"
    if value == int(value) and abs(value) < 1e7:
        text = str(int(value))
    elif abs(value) < 1:
        text = f"{value:.2g}"
    return (MINUS + text[1:]) if text.startswith("-") else text


def factor(value: float) -> str:
    """A number that follows an operator: negative ones in parentheses."""
    text = number(value)
    return f"({text})" if text.startswith(MINUS) else text


def product(value: float, weight: float | None) -> str:
    """One term of a sum: "2·3", or "2" where nothing is multiplied."""
    return factor(value) if weight is None else f"{factor(value)}{DOT}{factor(weight)}"


def joined(terms: Sequence[str], sign: str = " + ", most: int = MAX_TERMS) -> str:
    """Terms in a row; of very many the first, and how many more there are."""
    if len(terms) <= most:
        return sign.join(terms)
    return sign.join([*terms[:most], f"… ({len(terms) - most} more)"])


def sizes(shape: Sequence[int]) -> str:
    """A size as people write it: "5×5"."""
    return TIMES.join(map(str, shape))


def place(position: Sequence[int]) -> str:
    """A position as people write it: "(1, 0)", or "3" on one axis."""
    return f"({', '.join(map(str, position))})" if len(position) > 1 else str(position[0]).replace("-", MINUS)


def plural(count: int, noun: str) -> str:
    """A number and its noun: "1 channel", "3 channels"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
