"""What stands between the convolutions of a network and needs no window: sums, activations, channels side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    """A stage that NumPy computes, of one array or several."""

    def __init__(self, function: Callable[..., Array]) -> None:
        self._function = function

    def __call__(self, *arrays: Array) -> Array:
        """The result."""
        return self._function(*arrays)

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
    along = (-1,) if layout == "channels_last" else (-1, *(1,) * (len(shape) - 2))
    beside = [np.reshape(one, along) for one in (scale, shift) if one is not None]
    plainly = InNumPy(lambda *arrays: expression.evaluate(list(arrays), *beside))
    if not _is_compiled(dtype):
        return plainly
    from polyconv.run.cpu import elementwise

    return elementwise.compiled(expression, shape, dtype, layout, plainly, scale, shift, over) or plainly


def joining(shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], layout: Layout) -> Callable[..., Array]:
    """What puts the channels of arrays of these shapes side by side; as `step_for`."""
    axis = -1 if layout == "channels_last" else 1
    plainly = InNumPy(lambda *arrays: np.concatenate(arrays, axis=axis))
    if not _is_compiled(dtype):
        return plainly
    from polyconv.run.cpu import copying

    return _or_plainly("concat", lambda: copying.concat(shapes, dtype, layout, plainly), plainly)


def repeating(
    shape: tuple[int, ...], scales: tuple[int, ...], dtype: np.dtype[Any], layout: Layout
) -> Callable[..., Array]:
    """What repeats the pixels of an array of this shape; as `step_for`."""
    if layout == "channels_first":
        plainly = InNumPy(lambda x: reference.upsample(x, scales))
    else:
        plainly = InNumPy(lambda x: np.moveaxis(reference.upsample(np.moveaxis(x, -1, 1), scales), 1, -1))
    if not _is_compiled(dtype) or len(scales) > 3:
        return plainly
    from polyconv.run.cpu import copying

    return _or_plainly("upsample", lambda: copying.repeat(shape, scales, dtype, layout, plainly), plainly)


def pooling(
    shape: tuple[int, ...], kind: Literal["max", "avg"], dtype: np.dtype[Any], layout: Layout
) -> Callable[..., Array]:
    """What pools an array of this shape over all its positions; as `step_for`."""
    axes = tuple(range(1, len(shape) - 1) if layout == "channels_last" else range(2, len(shape)))
    plainly = InNumPy(lambda x: reference.global_pool(x, kind, axes))
    if not _is_compiled(dtype):
        return plainly
    from polyconv.run.cpu import global_pooling

    return _or_plainly("global pooling", lambda: global_pooling.pooled(shape, kind, dtype, layout, plainly), plainly)


def _or_plainly(what: str, make: Callable[[], Callable[..., Array]], plainly: InNumPy) -> Callable[..., Array]:
    """What ``make`` makes, or NumPy, with a warning, where its code cannot be made."""
    try:
        return make()
    except (RuntimeError, OSError, MemoryError) as error:
        warnings.warn(f"{what} runs in NumPy: {error}", RuntimeWarning, stacklevel=2)
        return plainly


def _is_compiled(dtype: np.dtype[Any]) -> bool:
    """Is there machine code for arrays of this dtype."""
    from polyconv.run.cpu.support import why_not

    return dtype.name in ("float32", "float64") and not why_not()
