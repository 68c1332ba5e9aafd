"""A transposed convolution as stamping: each input puts its multiple of the kernel on the output."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from polyconv.geometry import Axis
from polyconv.layers import ConvTranspose
from polyconv.run.problem import Array
from polyconv.see import numbers as text
from polyconv.see.choose import Shown
from polyconv.see.parts import Cell, Frame, Kind, Step, Term, blank, cells, filled, refuse_large


@dataclass(frozen=True, eq=False)
class Stamping:
    """A transposed layer with its input, weights and the operator's result.

    Args:
        layer: what is drawn.
        axes: the window of the convolution it is the adjoint of.
        x: (channels, *spatial).
        y: (channels, *spatial), the operator's own result.
        weight: (in_channels, out_channels / groups, *kernel).
        bias: (out_channels,), or None.
        shown: the channels that are drawn.
    """

    layer: ConvTranspose
    axes: tuple[Axis, ...]
    x: Array
    y: Array
    weight: Array
    bias: Array | None
    shown: Shown

    @cached_property
    def canvas(self) -> tuple[Cell, Array]:
        """The output's lowest drawn position, and the kind of every cell, cropped ones included."""
        low: list[int] = []
        kinds = np.full(self.y.shape[1:], Kind.DATA, np.int8)
        pads: list[tuple[int, int]] = []
        for axis, size, out in zip(self.axes, self.x.shape[1:], self.y.shape[1:], strict=True):
            start, stop = axis.reads(0, size)
            low.append(min(start, 0))
            pads.append((-min(start, 0), max(stop - out, 0)))
        size = tuple(out + sum(pad) for out, pad in zip(self.y.shape[1:], pads, strict=True))
        refuse_large("the output before its crop", size)
        return tuple(low), np.pad(kinds, pads, constant_values=Kind.CROPPED)

    @property
    def groups(self) -> int:
        """Groups of channels."""
        return self.layer.groups

    @property
    def per_out(self) -> int:
        """Output channels of a group."""
        return int(self.weight.shape[1])

    def readers(self, o: int) -> list[int]:
        """The drawn input channels that an output channel adds up."""
        per_in = len(self.x) // self.groups
        group = o // self.per_out
        return [c for c in self.shown.inputs if c // per_in == group]

    @cached_property
    def plan(self) -> list[tuple[int, int, Cell]]:
        """(output channel, input channel, input position) of every stamp; position () is where one is finished."""
        found: list[tuple[int, int, Cell]] = []
        for o in self.shown.outputs:
            found += [(o, c, p) for c in self.readers(o) for p in cells(self.x.shape[1:])]
            if self._closes(o):
                found.append((o, -1, ()))
        return found

    def _closes(self, o: int) -> bool:
        """Whether something is left to do after the stamps."""
        unseen = len(self.x) // self.groups - len(self.readers(o))
        cropped = bool((self.canvas[1] == Kind.CROPPED).any())
        return cropped or self.layer.activation is not None or unseen > 0

    def frames(self, step: int, kept: Sequence[int]) -> Iterator[Frame]:
        """The frames of these numbers, in order."""
        wanted = set(kept)
        grids = [self._start(o) for o in self.shown.outputs]
        started = [False] * len(grids)
        for number, (o, c, position) in enumerate(self.plan):
            which = self.shown.outputs.index(o)
            started[which] = True
            terms = self._terms(o, c, position) if position else []
            for term in terms:
                grids[which][cast(Cell, term.target)] += term.value * cast(float, term.weight)
            if not position:
                grids[which] = self._finished(o)
            if number in wanted:
                seen = tuple(g.copy() if s else np.full(g.shape, np.nan) for g, s in zip(grids, started, strict=True))
                yield self._frame(step, number, (o, c, position), terms, seen)

    def _start(self, o: int) -> Array:
        return np.full(self.canvas[1].shape, 0.0 if self.bias is None else float(self.bias[o]))

    def _finished(self, o: int) -> Array:
        kinds = self.canvas[1]
        done = np.full(kinds.shape, np.nan)
        done[kinds == Kind.DATA] = self.y[o].reshape(-1)
        return done

    def _terms(self, o: int, c: int, position: Cell) -> list[Term]:
        low = self.canvas[0]
        value = float(self.x[(c, *position)])
        found = []
        for tap in itertools.product(*(range(axis.kernel) for axis in self.axes)):
            places = zip(self.axes, position, tap, low, strict=True)
            target = tuple(axis.position(p, t) - start for axis, p, t, start in places)
            weight = float(self.weight[(c, o % self.per_out, *tap)])
            found.append(Term(self.shown.inputs.index(c), position, value, weight, tap, target))
        return found

    def _frame(
        self, step: int, number: int, stamp: tuple[int, int, Cell], terms: list[Term], outputs: tuple[Array, ...]
    ) -> Frame:
        o, c, position = stamp
        if not position:
            return Frame(step, number, o, (), (), self._closing(o), outputs, caption=f"output channel {o} is finished")
        where = f"channel {c}, " if len(self.x) > 1 else ""
        value = text.factor(terms[0].value)
        shown = text.joined([text.number(cast(float, t.weight) * t.value) for t in terms], ", ", 16)
        return Frame(
            step=step,
            number=number,
            channel=o,
            terms=tuple(terms),
            writes=tuple((o, cast(Cell, t.target)) for t in terms),
            lines=(f"{value} {text.TIMES} kernel is added to the output: {shown}",),
            outputs=outputs,
            kernel=((o, c),),
            caption=f"input {where}{text.place(position)} stamps {value} {text.TIMES} the kernel",
        )

    def _closing(self, o: int) -> tuple[str, ...]:
        said = []
        unseen = len(self.x) // self.groups - len(self.readers(o))
        if unseen:
            said.append(f"the {text.plural(unseen, 'channel')} not drawn add theirs")
        if (self.canvas[1] == Kind.CROPPED).any():
            said.append(f"the padding crops the border, {text.sizes(self.y.shape[1:])} remain")
        if self.layer.activation is not None:
            said.append(f"{self.layer.activation} is applied")
        return ("; ".join(said),)

    def step(self, name: str, line: str, notes: tuple[str, ...]) -> Step:
        """The step that stamping draws."""
        low, kinds = self.canvas
        spatial = self.x.shape[1:]
        refuse_large("the input", spatial)
        return Step(
            name=name,
            text=line,
            layer=self.layer,
            view="stamp",
            in_shape=self.x.shape,
            out_shape=self.y.shape,
            in_channels=self.shown.inputs,
            out_channels=self.shown.outputs,
            inputs=tuple(filled(f"channel {c}", self.x[c], is_input=True) for c in self.shown.inputs),
            outputs=tuple(blank(f"channel {o}", low, kinds.shape, kinds) for o in self.shown.outputs),
            moments=len(self.plan),
            kernels={
                (o, c): filled(f"kernel {c} {text.ARROW} {o}", self.weight[c, o % self.per_out])
                for o in self.shown.outputs
                for c in self.readers(o)
            },
            notes=notes,
            groups=self.groups,
            bias=self.bias,
        )
