"""Normalising what callers pass, once, at the border: one message for each kind of mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import index
from typing import Any

import numpy as np

LARGEST = 2**31 - 1


def whole(value: Any, name: str, minimum: int = 1) -> int:
    """``value`` as an int of at least ``minimum``; True and 2.0 are refused."""
    if isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {value!r}. Pass an int of {minimum} or more")
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}. Pass an int of {minimum} or more") from None
    if not minimum <= number <= LARGEST:
        hint = ". Dilation 1 is none" if (name, number) == ("dilation", 0) else ""
        raise ValueError(f"{name} must be from {minimum} to {LARGEST}, got {number}{hint}")
    return number


def flag(value: Any, name: str) -> bool:
    """``value`` where it is True or False; a word or a number is refused."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"{name} must be True or False, got {value!r}")


def whole_or_none(value: Any, name: str, minimum: int = 1) -> int | None:
    """As ``whole``, letting None through."""
    return None if value is None else whole(value, name, minimum)


def real_between(value: Any, name: str, low: float, high: float) -> float:
    """``value`` as a number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return value


def per_axis(value: Any, ndim: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """One number, or one per axis, as a tuple of ``ndim``."""
    if isinstance(value, str):
        raise ValueError(f"{name} must be an int or one int per axis, got {value!r}")
    if not isinstance(value, Iterable):
        return (whole(value, name, minimum),) * ndim
    numbers = tuple(whole(item, name, minimum) for item in value)
    if len(numbers) != ndim:
        raise ValueError(
            f"{name} has {len(numbers)} values {numbers}, the kernel has {ndim} axes. Pass one number, or {ndim}"
        )
    return numbers


def pads_per_axis(value: Any, ndim: int, name: str = "padding") -> tuple[tuple[int, int], ...]:
    """An int, one per axis, or (before, after) per axis, as ((before, after), ...) of length ``ndim``."""
    if not isinstance(value, Iterable):
        number = whole(value, name, 0)
        return ((number, number),) * ndim
    items = tuple(value)
    if len(items) != ndim:
        raise ValueError(
            f"{name} has {len(items)} values {items}, the kernel has {ndim} axes. "
            f"Pass one number, {ndim} numbers, or {ndim} pairs (before, after)"
        )
    return tuple(_pad_pair(item, name) for item in items)


def _pad_pair(item: Any, name: str) -> tuple[int, int]:
    if not isinstance(item, Iterable):
        number = whole(item, name, 0)
        return (number, number)
    pair = tuple(whole(side, name, 0) for side in item)
    if len(pair) != 2:
        raise ValueError(f"{name} of one axis must be a number or a pair (before, after), got {pair}")
    return (pair[0], pair[1])


def dtype_name(value: Any, options: Sequence[str]) -> str:
    """The name of a dtype, given as text, as a NumPy type or as a dtype, where it is one of ``options``."""
    if not isinstance(value, str):
        with suppress(TypeError):
            value = np.dtype(value).name
    return choice(value, options, "dtype")


def choice(value: Any, options: Sequence[str], name: str) -> str:
    """``value`` where it is one of ``options``; else an error with the nearest one."""
    if isinstance(value, str) and value in options:
        return value
    raise ValueError(f"{name} must be one of {', '.join(options)}; got {value!r}{did_you_mean(value, options)}")


def did_you_mean(word: Any, options: Iterable[str]) -> str:
    """A closing question with the most similar option, or an empty string."""
    close = difflib.get_close_matches(str(word).lower(), list(options), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
