"""What an engine is asked to run: everything about a layer that its machine code may depend on.

Batch, spatial sizes and padding amounts are *not* here: they are run-time arguments, so that a new picture size
never needs new code. Every value is already checked and normalised; engines do not validate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Op = Literal["conv", "conv_transpose", "max_pool", "avg_pool"]
Layout = Literal["channels_first", "channels_last"]
Pads = tuple[tuple[int, int], ...]  # (before, after) per axis


@dataclass(frozen=True, slots=True)
class Problem:
    """One layer as an engine sees it; frozen and hashable, the key of every cache of code.

    Weights are (out_channels, in_channels / groups, *kernel_size) for ``conv`` and
    (in_channels, out_channels / groups, *kernel_size) for ``conv_transpose``, whatever the layout.
    """

    op: Op
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    activation: str | None
    dtype: Literal["float32", "float64"]
    layout: Layout
    count_include_pad: bool = True  # avg_pool only: are padding positions part of the divisor
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        facts = (self.op, self.in_channels, self.out_channels, self.kernel_size, self.stride, self.dilation)
        rest = (self.groups, self.bias, self.activation, self.dtype, self.layout, self.count_include_pad)
        object.__setattr__(self, "_hash", hash((facts, rest)))

    def __hash__(self) -> int:
        """Worked out once: planning a size looks a problem up twenty times."""
        return self._hash

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 1, 2 or 3 (any number works where nothing says otherwise)."""
        return len(self.kernel_size)

    @property
    def is_pointwise(self) -> bool:
        """A convolution of one tap without a stride."""
        return self.op == "conv" and set(self.kernel_size) == {1} == set(self.stride)

    def weight_shape(self) -> tuple[int, ...] | None:
        """Shape of the weight array, or None for pooling."""
        if self.op == "conv":
            return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        if self.op == "conv_transpose":
            return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        return None

    def out_shape(self, batch: int, out_size: Sequence[int]) -> tuple[int, ...]:
        """Shape of the output array for these run-time sizes, in this problem's layout."""
        if self.layout == "channels_first":
            return (batch, self.out_channels, *out_size)
        return (batch, *out_size, self.out_channels)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 4 if self.dtype == "float32" else 8

    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of input, weights and output."""
        return np.dtype(self.dtype)


class Prepared(Protocol):
    """A problem with its weights packed: call it many times, with any batch and spatial size.

    ``x`` is an array in the problem's layout and dtype with any strides (never written); ``padding`` is
    (before, after) per axis, never negative, with zeros implied (for max_pool: minus infinity; for
    ``conv_transpose`` it is the crop of the output); ``out_size`` is the output's spatial size. Returns a new array.
    """

    def __call__(self, x: Array, padding: Pads, out_size: tuple[int, ...]) -> Array:
        """Run the layer."""
        ...

    def at(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> Callable[[Array], Array]:
        """The same for inputs of one shape, with all that depends on sizes worked out once."""
        ...

    def explain(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> str:
        """One or a few lines: algorithm, tile, threads, workspace, and why."""
        ...


class Engine(Protocol):
    """Something that can run problems."""

    name: str

    def prepare(self, problem: Problem, weight: Array | None, bias: Array | None, *, far: bool = False) -> Prepared:
        """Pack the weights of a problem for repeated calls; ``far``: they will come from memory each time."""
        ...
