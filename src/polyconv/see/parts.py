"""What a picture is made of, with no pixels: grids of cells, and frames that say what is read, summed and written.

A *position* counts along an axis of the real array; a *cell* counts from a grid's first drawn position, padding
included, so that ``cell = position - grid.low``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Literal

import numpy as np

from polyconv.layers import Layer, Sizes
from polyconv.run.problem import Array

Cell = tuple[int, ...]
View = Literal["slide", "stamp", "pointwise"]

MAX_CELLS = 4096  # of one grid, padding included
MAX_ACROSS = 64  # along one axis of a grid
MAX_FRAMES = 4096


class Kind(IntEnum):
    """What a cell stands for."""

    DATA = 0
    PADDING = 1
    STUFFED = 2  # a zero put between the inputs of a transposed convolution
    CROPPED = 3  # an output that the crop removes


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of one channel.

    Args:
        label: what it is: "channel 0".
        low: the position of the first cell along each axis (negative where padding comes first).
        values: the number in each cell; NaN where there is none yet.
        kinds: what each cell is, a ``Kind``.
        sources: the flat index of the real input each cell holds, or -1.
    """

    label: str
    low: Cell
    values: Array
    kinds: Array
    sources: Array

    @property
    def shape(self) -> Sizes:
        """Cells along each axis."""
        return self.values.shape

    def cell(self, position: Iterable[int]) -> Cell:
        """The cell that shows ``position``."""
        return tuple(p - low for p, low in zip(position, self.low, strict=True))

    def source(self, cell: Cell) -> int | None:
        """The flat index of the real input that ``cell`` holds, or None."""
        found = int(self.sources[cell])
        return None if found < 0 else found


@dataclass(frozen=True, slots=True)
class Term:
    """One number that is read, and what it is multiplied with.

    Args:
        grid: which of the step's input grids.
        cell: where in that grid.
        value: the number read.
        weight: its factor, or None where nothing is multiplied.
        tap: the kernel's cell that holds the factor.
        target: for a stamp: the output cell it is added to.
    """

    grid: int
    cell: Cell
    value: float
    weight: float | None = None
    tap: Cell | None = None
    target: Cell | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment: what is read, what comes of it, and the outputs known after it.

    Args:
        step: which of the scene's steps.
        number: which of the step's moments, the ones left out included.
        channel: the output channel under way.
        terms: the numbers read, over the input channels that are drawn.
        writes: the (output channel, cell) under way.
        lines: the formula with its numbers.
        result: the output's value, or None where a frame finishes no output (a stamp).
        hidden: the sum over the input channels that are not drawn.
        outputs: values of each drawn output grid after this frame; NaN where not known yet.
        kernel: (output channel, input channel) of each kernel grid in use.
        caption: what happens, in words.
    """

    step: int
    number: int
    channel: int
    terms: tuple[Term, ...]
    writes: tuple[tuple[int, Cell], ...]
    lines: tuple[str, ...]
    outputs: tuple[Array, ...]
    result: float | None = None
    hidden: float = 0.0
    kernel: tuple[tuple[int, int], ...] = ()
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """One layer at work: its grids, and how many moments it takes.

    Args:
        name: of the network's node, as "1.depthwise".
        text: the layer in the notation.
        layer: the layer.
        view: how it is drawn.
        in_shape: (channels, *spatial) of its input.
        out_shape: (channels, *spatial) of its output.
        in_channels: the input channels that are drawn.
        out_channels: the output channels that are drawn.
        inputs: their grids.
        outputs: their grids, without values.
        kernels: for each (output channel, input channel) that is drawn, the kernel's grid.
        moments: how many frames the step has when none is left out.
        notes: sentences that belong under the picture.
        groups: groups of channels.
        bias: (out_channels,), or None.
        flipped: whether the kernel that slides is the weight reversed along every axis.
    """

    name: str
    text: str
    layer: Layer
    view: View
    in_shape: Sizes
    out_shape: Sizes
    in_channels: tuple[int, ...]
    out_channels: tuple[int, ...]
    inputs: tuple[Grid, ...]
    outputs: tuple[Grid, ...]
    moments: int
    kernels: Mapping[tuple[int, int], Grid] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    groups: int = 1
    bias: Array | None = None
    flipped: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything a picture says: the network's text, its steps, and the frames in order."""

    title: str
    steps: tuple[Step, ...]
    values: tuple[Array, ...]  # the input, then every step's output: (channels, *spatial)
    make: Callable[[], Iterator[Frame]]
    notes: tuple[str, ...] = ()

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """The frames in order, made when they are first asked for."""
        return tuple(self.make())


def cells(shape: Sizes) -> Iterator[Cell]:
    """Every cell of a grid, in reading order."""
    return itertools.product(*map(range, shape))


def index_grid(spatial: Sizes) -> Array:
    """The flat index of every position of an array."""
    return np.arange(int(np.prod(spatial))).reshape(spatial)


def blank(label: str, low: Cell, shape: Sizes, kinds: Array | None = None) -> Grid:
    """A grid without numbers."""
    made = np.zeros(shape, np.int8) if kinds is None else kinds
    return Grid(label, low, np.full(shape, np.nan), made, np.full(shape, -1))


def filled(label: str, values: Array, is_input: bool = False) -> Grid:
    """A grid of given numbers without padding; each cell of an input is its own source."""
    sources = index_grid(values.shape) if is_input else np.full(values.shape, -1)
    return Grid(label, (0,) * values.ndim, values, np.zeros(values.shape, np.int8), sources)


def so_far(y: Array, shown: Sizes, which: int, done: int) -> tuple[Array, ...]:
    """What is known of the drawn output channels where they are written one after the other in reading order.

    Args:
        y: (channels, *spatial), the whole result.
        shown: the drawn channels.
        which: the index in ``shown`` of the one under way.
        done: how many of its cells are written.
    """
    outputs = []
    for index, channel in enumerate(shown):
        values = np.full(y.shape[1:], np.nan).reshape(-1)
        last = values.size if index < which else (done if index == which else 0)
        values[:last] = y[channel].reshape(-1)[:last]
        outputs.append(values.reshape(y.shape[1:]))
    return tuple(outputs)


def refuse_large(what: str, shape: Sizes) -> None:
    """A sentence instead of a picture that no one could read."""
    count = int(np.prod([float(size) for size in shape]))
    if count > MAX_CELLS or max(shape, default=0) > MAX_ACROSS:
        raise ValueError(
            f"{what} would be {'x'.join(map(str, shape))} = {count:,} cells; a drawing shows at most {MAX_CELLS:,} "
            f"cells and {MAX_ACROSS} along an axis. Draw a smaller input_size: the arithmetic is the same"
        )
    if count == 0:
        raise ValueError(f"{what} of size {shape} has no cells: nothing to draw. Use an input_size of 1 or more")
