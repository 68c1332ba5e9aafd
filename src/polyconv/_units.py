"""Numbers as people read them: amounts, times, rates, shapes."""

from __future__ import annotations

from collections.abc import Sequence

from polyconv.count.render import sizes_text


def shown_shape(shape: Sequence[int]) -> str:
    """A shape (batch, channels, *spatial): the batch is left out where it is 1, and set apart where it is not."""
    return sizes_text(shape[1:]) if shape[0] == 1 else f"{shape[0]} of {sizes_text(shape[1:])}"


def amount(value: float) -> str:
    """A large number in three figures: 1,792 or 86.7 M or 4.09 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 999.5 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f}"


def milliseconds(seconds: float) -> str:
    """A time in ms: three figures."""
    return f"{seconds * 1e3:.3g}" if seconds < 0.9995 else f"{seconds * 1e3:,.0f}"


def gflops(macs: float, seconds: float) -> str:
    """GFLOP/s, at 2 FLOPs a multiply-accumulate; a dash where nothing is multiplied."""
    return f"{2 * macs / seconds / 1e9:.3g}" if macs and seconds > 0 else "-"
