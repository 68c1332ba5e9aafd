"""A window that slides: convolution, pooling, and the transposed convolution over its zero-stuffed input.

Where each tap reads is asked of ``Axis``; padding modes of the reference; results of the operator itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from polyconv import reference
from polyconv.geometry import Axis, product
from polyconv.layers import Conv, ConvTranspose, Pool, Sizes
from polyconv.run.problem import Array
from polyconv.see import numbers as text
from polyconv.see.choose import Shown
from polyconv.see.parts import (
    Cell,
    Frame,
    Grid,
    Kind,
    Step,
    Term,
    blank,
    cells,
    filled,
    index_grid,
    refuse_large,
    so_far,
)


@dataclass(frozen=True, eq=False)
class Sliding:
    """One layer, one input, and what the operator made of it: everything its frames are read off from.

    Args:
        layer: what is drawn.
        axes: the window along each axis of the drawn input.
        x: (channels, *spatial).
        y: (channels, *spatial), the operator's own result.
        weight: (out_channels, in_channels / groups, *kernel), or None for pooling.
        bias: (out_channels,), or None.
        groups: groups of channels.
        shown: the channels that are drawn.
        strides: of the zero-stuffed input; None where nothing is stuffed.
    """

    layer: Conv | ConvTranspose | Pool
    axes: tuple[Axis, ...]
    x: Array
    y: Array
    weight: Array | None
    bias: Array | None
    groups: int
    shown: Shown
    strides: Sizes | None = None

    @cached_property
    def field(self) -> tuple[Cell, Array, Array]:
        """The drawn input's lowest position, and for each of its cells the source and the kind."""
        source = index_grid(self.x.shape[1:])
        kinds = np.full(source.shape, Kind.DATA, np.int8)
        if self.strides is not None:
            source, kinds = _stuff(source, kinds, self.strides)
        size = source.shape
        pads = []
        for axis, n, out in zip(self.axes, size, self.y.shape[1:], strict=True):
            reach = axis.reads(0, out)[1] if self._ceil else n + axis.after
            pads.append((max(axis.before, 0), max(reach - n, axis.after, 0)))
        refuse_large("the input with its padding", tuple(n + sum(pad) for n, pad in zip(size, pads, strict=True)))
        mode = self.layer.padding_mode if isinstance(self.layer, Conv) else "zeros"
        if mode != "zeros":
            source = reference.pad_with(source[None, None], tuple(pads), mode)[0, 0]
        else:
            source = np.pad(source, pads, constant_values=-1)
        kinds = np.pad(kinds, pads, constant_values=Kind.PADDING)
        return tuple(-before for before, _ in pads), source, kinds

    @property
    def _ceil(self) -> bool:
        return isinstance(self.layer, Pool) and self.layer.ceil_mode

    @cached_property
    def padded(self) -> Array:
        """(channels, *cells): the number in each cell of every channel, drawn or not."""
        source = self.field[1]
        flat = self.x.reshape(len(self.x), -1)[:, np.maximum(source, 0)]
        return np.where(source < 0, self.fill, flat)

    @property
    def fill(self) -> float:
        """What padding holds."""
        return -np.inf if isinstance(self.layer, Pool) and self.layer.kind == "max" else 0.0

    def inputs(self) -> tuple[Grid, ...]:
        """The grids of the drawn input channels."""
        low, source, kinds = self.field
        return tuple(Grid(f"channel {c}", low, self.padded[c], kinds, source) for c in self.shown.inputs)

    def kernels(self) -> dict[tuple[int, int], Grid]:
        """The kernel's grids, for each drawn output channel and input channel of its group."""
        if self.weight is None:
            return {}
        found = {}
        for o in self.shown.outputs:
            for c in self.visible(o):
                values = self.weight[o, c - self.first(o)]
                name = f"filter {o}" if self.weight.shape[1] == 1 else f"filter {o}, channel {c}"
                found[o, c] = filled(name, values)
        return found

    def first(self, o: int) -> int:
        """The first input channel of an output channel's group."""
        per_out, per_in = len(self.y) // self.groups, len(self.x) // self.groups
        return o // per_out * per_in

    def visible(self, o: int) -> list[int]:
        """The drawn input channels that an output channel reads."""
        first = self.first(o)
        return [c for c in self.shown.inputs if first <= c < first + len(self.x) // self.groups]

    def moments(self) -> int:
        """How many frames there are."""
        return len(self.shown.outputs) * int(np.prod(self.y.shape[1:]))

    def frames(self, step: int, kept: Sequence[int]) -> Iterator[Frame]:
        """The frames of these numbers, in order: output channel by output channel, position by position."""
        positions = list(cells(self.y.shape[1:]))
        for number in kept:
            channel, position = divmod(number, len(positions))
            yield self._frame(step, number, channel, positions[position])

    def _frame(self, step: int, number: int, which: int, position: Cell) -> Frame:
        o = self.shown.outputs[which]
        taps = list(itertools.product(*(range(axis.kernel) for axis in self.axes)))
        low, shape = self.field[0], self.field[1].shape
        read = [self._cell(position, tap, low) for tap in taps]
        inside = [(tap, at) for tap, at in zip(taps, read, strict=True) if _inside(at, shape)]
        terms = [
            self._term(o, c, tap, at)
            for c in self.visible(o)
            for tap, at in inside
            if self.weight is not None or self._counts(at)
        ]
        hidden = self._hidden(o, inside)
        result = float(self.y[(o, *position)])
        return Frame(
            step=step,
            number=number,
            channel=o,
            terms=tuple(terms),
            writes=((o, position),),
            lines=self._lines(o, terms, hidden, result),
            outputs=so_far(self.y, self.shown.outputs, which, number % product(self.y.shape[1:]) + 1),
            result=result,
            hidden=hidden,
            kernel=tuple((o, c) for c in self.visible(o)) if self.weight is not None else (),
            caption=f"output channel {o}, position {text.place(position)}"
            if len(self.y) > 1
            else f"output at {text.place(position)}",
        )

    def _cell(self, position: Cell, tap: Cell, low: Cell) -> Cell:
        places = zip(self.axes, position, tap, low, strict=True)
        return tuple(axis.position(p, t) - start for axis, p, t, start in places)

    def _counts(self, at: Cell) -> bool:
        """Whether a pooling window takes a cell into account: padding beyond what was asked for never does."""
        low, _, kinds = self.field
        if kinds[at] == Kind.DATA:
            return True
        layer = cast(Pool, self.layer)
        sizes = zip(at, low, self.x.shape[1:], self.axes, strict=True)
        within = all(cell + start < size + axis.after for cell, start, size, axis in sizes)
        return within and (layer.kind == "max" or layer.count_include_pad)

    def _term(self, o: int, c: int, tap: Cell, at: Cell) -> Term:
        weight = None if self.weight is None else float(self.weight[(o, c - self.first(o), *tap)])
        return Term(self.shown.inputs.index(c), at, float(self.padded[(c, *at)]), weight, tap)

    def _hidden(self, o: int, inside: list[tuple[Cell, Cell]]) -> float:
        """The part of the sum that comes from channels which are not drawn."""
        if self.weight is None:
            return 0.0
        first, count = self.first(o), self.weight.shape[1]
        unseen = [c for c in range(first, first + count) if c not in self.shown.inputs]
        if not unseen:
            return 0.0
        weight = self.weight[o, [c - first for c in unseen]]
        total = 0.0
        for tap, at in inside:
            there: Any = (unseen, *at)
            here: Any = (slice(None), *tap)
            total += float(self.padded[there] @ weight[here])
        return total

    def _lines(self, o: int, terms: list[Term], hidden: float, result: float) -> tuple[str, ...]:
        if isinstance(self.layer, Pool):
            return (pool_line(self.layer.kind, terms, result),)
        unseen = (0 if self.weight is None else self.weight.shape[1]) - len(self.visible(o))
        bias = None if self.bias is None else float(self.bias[o])
        return sum_lines(
            [self.shown.inputs[t.grid] for t in terms], terms, hidden, unseen, bias, self.layer.activation, result
        )


def pool_line(kind: str, terms: list[Term], result: float) -> str:
    """A pooling window's formula."""
    if kind == "max":
        return f"max({text.joined([text.number(t.value) for t in terms], ', ')}) = {text.number(result)}"
    listed = text.joined([text.factor(t.value) for t in terms])
    return f"({listed}) / {len(terms)} = {text.number(result)}"


def sum_lines(
    channels: list[int],
    terms: list[Term],
    hidden: float,
    unseen: int,
    bias: float | None,
    activation: str | None,
    result: float,
) -> tuple[str, ...]:
    """The defining sum with its numbers: a line for each input channel, then the total."""
    by_channel: dict[int, list[Term]] = {}
    for channel, term in zip(channels, terms, strict=True):
        by_channel.setdefault(channel, []).append(term)
    sums = {c: sum(t.value * cast(float, t.weight) for t in of) for c, of in by_channel.items()}
    texts = {c: text.joined([text.product(t.value, t.weight) for t in of]) for c, of in by_channel.items()}
    total = sum(sums.values()) + hidden + (bias or 0.0)
    tail = f" = {text.number(total)}"
    if activation is not None:
        tail += f", {activation} {text.ARROW} {text.number(result)}"
    extra = [f"bias {text.factor(bias)}"] if bias is not None else []
    if len(sums) == 1 and not unseen:
        return (text.joined([*texts.values(), *extra]) + tail,)
    lines = [f"channel {c}: {texts[c]} = {text.number(value)}" for c, value in sums.items()]
    parts = [text.factor(value) for value in sums.values()]
    if unseen:
        lines.append(f"… and {unseen:,} more: {text.number(hidden)}")
        parts.append(text.factor(hidden))
    return (*lines, f"sum over channels: {text.joined([*parts, *extra])}{tail}")


def _stuff(source: Array, kinds: Array, strides: Sizes) -> tuple[Array, Array]:
    """Put stride - 1 cells between neighbours."""
    size = tuple(Axis(1, s).transposed_size(n) for n, s in zip(source.shape, strides, strict=True))
    refuse_large("the zero-stuffed input", size)
    every = tuple(slice(None, None, s) for s in strides)
    wide, wide_kinds = np.full(size, -1), np.full(size, Kind.STUFFED, np.int8)
    wide[every], wide_kinds[every] = source, kinds
    return wide, wide_kinds


def _inside(at: Cell, shape: Sizes) -> bool:
    return all(0 <= cell < size for cell, size in zip(at, shape, strict=True))


def make_step(sliding: Sliding, name: str, line: str, notes: tuple[str, ...], flipped: bool = False) -> Step:
    """The step that a sliding window draws."""
    out = sliding.y.shape[1:]
    refuse_large("the output", out)
    return Step(
        name=name,
        text=line,
        layer=sliding.layer,
        view="slide",
        in_shape=sliding.x.shape,
        out_shape=sliding.y.shape,
        in_channels=sliding.shown.inputs,
        out_channels=sliding.shown.outputs,
        inputs=sliding.inputs(),
        outputs=tuple(blank(f"channel {o}", (0,) * len(out), out) for o in sliding.shown.outputs),
        moments=sliding.moments(),
        kernels=sliding.kernels(),
        notes=notes,
        groups=sliding.groups,
        bias=sliding.bias,
        flipped=flipped,
    )
