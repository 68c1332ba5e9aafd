"""What stands between the convolutions of a network and needs no window: sums, scale and shift, activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyconv import reference
from polyconv.run.problem import Array, Layout


@dataclass(frozen=True)
class Expression:
    """``activation((a + b + ...) * scale[channel] + shift[channel])``, every part of it optional.

    Args:
        count: how many arrays are added.
        scaled: whether channels have a scale and a shift.
        activation: a name among ``reference.ACTIVATIONS``, or None.

    Example:
        >>> Expression(2, activation="relu").evaluate([np.array([1.0, 2.0]), np.array([1.0, -3.0])])
        array([2., 0.])
    """

    count: int = 1
    scaled: bool = False
    activation: str | None = None

    def evaluate(self, arrays: list[Array], scale: Any = 1.0, shift: Any = 0.0) -> Array:
        """By NumPy; ``scale`` and ``shift`` are of shapes that fit those of the arrays."""
        total = arrays[0] + arrays[1] if self.count > 1 else arrays[0]
        for other in arrays[2:]:
            total += other
        if self.scaled:
            total = total * scale + shift
        if self.activation is not None:
            return reference.ACTIVATIONS[self.activation](total)
        return total.copy() if total is arrays[0] else total

    def __str__(self) -> str:
        """In words, as ``explain`` says it."""
        parts = [f"sum of {self.count}"] if self.count > 1 else []
        parts += ["scale and shift"] if self.scaled else []
        parts += [self.activation] if self.activation else []
        return " then ".join(parts) or "a copy"


class InNumPy:
    """An expression evaluated by NumPy, with what channels are scaled and shifted by."""

    def __init__(self, expression: Expression, beside: Sequence[Array]) -> None:
        self.expression, self.beside = expression, tuple(beside)

    def __call__(self, *arrays: Array) -> Array:
        """The result."""
        return self.expression.evaluate(list(arrays), *self.beside)

    def __str__(self) -> str:
        """What runs."""
        return "one NumPy expression"


def step_for(
    expression: Expression,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    layout: Layout,
    scale: Array | None = None,
    shift: Array | None = None,
    over: int | None = None,
) -> Callable[..., Array]:
    """The expression for arrays of one shape: machine code, or NumPy where there is none.

    Args:
        expression: what is computed.
        shape: of every array, in the layout.
        dtype: of every array.
        layout: where the channels are.
        scale: of each channel, where the expression is scaled; and ``shift``.
        shift: see above.
        over: the number of the array that the result may be written over.

    Returns:
        What takes ``expression.count`` arrays; its text says how it runs.
    """
    from polyconv.run.cpu.support import why_not

    along = (-1,) if layout == "channels_last" else (-1, *(1,) * (len(shape) - 2))
    beside = [np.reshape(one, along) for one in (scale, shift) if one is not None]
    plainly = InNumPy(expression, beside)
    if dtype.name not in ("float32", "float64") or why_not():
        return plainly
    from polyconv.run.cpu import elementwise

    return elementwise.compiled(expression, shape, dtype, layout, plainly, scale, shift, over) or plainly
