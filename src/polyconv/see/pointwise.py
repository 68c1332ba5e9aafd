"""Steps without a window: activations, batch norms, upsampling, and where branches meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyconv.layers import Activation, BatchNorm, Layer, Sizes, Upsample
from polyconv.network import Join
from polyconv.run.problem import Array
from polyconv.see import numbers as text
from polyconv.see.parts import Cell, Frame, Step, Term, blank, cells, filled, refuse_large, so_far


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A layer whose every output reads one position of each input.

    Args:
        layer: what is drawn.
        inputs: each source as (channels, *spatial); several where branches meet.
        y: (channels, *spatial), the operator's own result.
        weights: of a batch norm, by name.
        shown: the output channels that are drawn.
    """

    layer: Layer
    inputs: tuple[Array, ...]
    y: Array
    weights: Mapping[str, Array]
    shown: tuple[int, ...]

    def sources(self, o: int) -> list[tuple[int, int]]:
        """(which input, which of its channels) an output channel reads."""
        if isinstance(self.layer, Join) and self.layer.kind == "concat":
            for branch, x in enumerate(self.inputs):
                if o < len(x):
                    return [(branch, o)]
                o -= len(x)
        return [(branch, o) for branch in range(len(self.inputs))]

    @property
    def drawn(self) -> list[tuple[int, int]]:
        """Every (input, channel) that is drawn, in order."""
        return sorted({source for o in self.shown for source in self.sources(o)})

    def scales(self, ndim: int) -> Sizes:
        """Outputs for each input along each axis."""
        return self.layer.scales_for(ndim) if isinstance(self.layer, Upsample) else (1,) * ndim

    def moments(self) -> int:
        """How many frames there are."""
        return len(self.shown) * int(np.prod(self.y.shape[1:]))

    def frames(self, step: int, kept: Sequence[int]) -> Iterator[Frame]:
        """The frames of these numbers, in order."""
        positions = list(cells(self.y.shape[1:]))
        for number in kept:
            which, place = divmod(number, len(positions))
            yield self._frame(step, number, which, positions[place], place + 1)

    def _frame(self, step: int, number: int, which: int, position: Cell, done: int) -> Frame:
        o, drawn = self.shown[which], self.drawn
        scales = self.scales(len(position))
        at = tuple(p // s for p, s in zip(position, scales, strict=True))
        terms = [
            Term(drawn.index((branch, c)), at, float(self.inputs[branch][(c, *at)])) for branch, c in self.sources(o)
        ]
        result = float(self.y[(o, *position)])
        return Frame(
            step=step,
            number=number,
            channel=o,
            terms=tuple(terms),
            writes=((o, position),),
            lines=(self._line(o, terms, result),),
            outputs=so_far(self.y, self.shown, which, done),
            result=result,
            caption=f"output channel {o}, position {text.place(position)}",
        )

    def _line(self, o: int, terms: list[Term], result: float) -> str:
        end = f" = {text.number(result)}"
        if isinstance(self.layer, Activation):
            return f"{self.layer.name}({text.number(terms[0].value)}){end}"
        if isinstance(self.layer, BatchNorm):
            mean, variance, scale, shift = (
                text.factor(float(self.weights[key][o])) for key in ("running_mean", "running_var", "weight", "bias")
            )
            spread = f"({variance} + {text.number(BatchNorm.eps)})^0.5"
            return f"({text.number(terms[0].value)} {text.MINUS} {mean}) / {spread}{text.DOT}{scale} + {shift}{end}"
        if isinstance(self.layer, Join) and self.layer.kind == "add":
            return text.joined([text.factor(term.value) for term in terms]) + end
        return f"copied: {text.number(result)}"

    def step(self, name: str, line: str, notes: tuple[str, ...]) -> Step:
        """The step that is drawn."""
        out = self.y.shape[1:]
        refuse_large("the output", out)
        grids = []
        several = len(self.inputs) > 1
        for branch, c in self.drawn:
            x = self.inputs[branch][c]
            label = f"branch {branch}, channel {c}" if several else f"channel {c}"
            grids.append(filled(label, x, is_input=True))
        channels = sum(len(x) for x in self.inputs) if several else len(self.inputs[0])
        return Step(
            name=name,
            text=line,
            layer=self.layer,
            view="pointwise",
            in_shape=(channels, *self.inputs[0].shape[1:]),
            out_shape=self.y.shape,
            in_channels=tuple(c for _, c in self.drawn),
            out_channels=self.shown,
            inputs=tuple(grids),
            outputs=tuple(blank(f"channel {o}", (0,) * len(out), out) for o in self.shown),
            moments=self.moments(),
            notes=notes,
        )
