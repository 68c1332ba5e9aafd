"""For each output of a scene: which frame shows it, and its sum in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from polyconv.layers import ConvTranspose
from polyconv.see import numbers as text
from polyconv.see.parts import Cell, Kind, Scene, Term

Key = tuple[int, int, Cell]  # step, output channel, cell


@dataclass(frozen=True, slots=True)
class Sum:
    """One output.

    Args:
        frame: the index of the frame that writes it (of several, the last).
        title: which output it is.
        lines: its formula.
    """

    frame: int
    title: str
    lines: tuple[str, ...]


def sums(scene: Scene) -> dict[Key, Sum]:
    """Every output that some frame writes."""
    found: dict[Key, Sum] = {}
    stamped: dict[Key, list[Term]] = {}
    for index, frame in enumerate(scene.frames):
        step = scene.steps[frame.step]
        for channel, cell in frame.writes:
            key = (frame.step, channel, cell)
            grid = step.outputs[step.out_channels.index(channel)]
            position = tuple(c + low for c, low in zip(cell, grid.low, strict=True))
            title = f"{step.text}: output channel {channel}, position {text.place(position)}"
            if step.view == "stamp":
                stamped.setdefault(key, []).extend(term for term in frame.terms if term.target == cell)
            found[key] = Sum(index, title, frame.lines)
    for key, terms in stamped.items():
        found[key] = Sum(found[key].frame, found[key].title, _stamped(scene, key, terms))
    return found


def _stamped(scene: Scene, key: Key, terms: list[Term]) -> tuple[str, ...]:
    """What all stamps put on one output."""
    number, channel, cell = key
    step = scene.steps[number]
    grid = step.outputs[step.out_channels.index(channel)]
    if grid.kinds[cell] == Kind.CROPPED:
        return ("cropped by the padding: not part of the output",)
    listed = [text.product(term.value, term.weight) for term in terms]
    if scene.notes or len(step.in_channels) < step.in_shape[0]:
        return (f"of what is drawn: {text.joined(listed)}",)
    position = tuple(c + low for c, low in zip(cell, grid.low, strict=True))
    result = float(scene.values[number + 1][(channel, *position)])
    activation = step.layer.activation if isinstance(step.layer, ConvTranspose) else None
    bias = None if step.bias is None else float(step.bias[channel])
    extra = [f"bias {text.factor(bias)}"] if bias is not None else []
    total = sum(term.value * (term.weight or 0.0) for term in terms) + (bias or 0.0)
    tail = f" = {text.number(total)}"
    if activation is not None:
        tail += f", {activation} {text.ARROW} {text.number(result)}"
    return (text.joined([*listed, *extra]) + tail,)
