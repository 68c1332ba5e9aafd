"""The receptive field growing through a network over a photograph: the theoretical box, and what weighs inside it.

The box is ``polyconv.count.field``'s; the weights inside are the gradient of the linearised network
(``polyconv.count.adjoint``). What no path reads stays dark: the holes that dilations leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from polyconv._checks import whole
from polyconv.count.adjoint import central_gradient
from polyconv.count.field import ReceptiveField, Span, fields
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Layer, Pool, Sizes, Upsample
from polyconv.network import Join, Network
from polyconv.notation import network as parsed
from polyconv.run.problem import Array
from polyconv.see import numbers as text
from polyconv.see.arrange import MARGIN, ROOM, SMALL
from polyconv.see.drawing import Drawing
from polyconv.see.photo import TOP, Photo, Plate, channels_for, for_network, lines_of, placed, trail
from polyconv.see.shapes import Picture, Shape, Text, rect
from polyconv.see.theme import ThemeName, theme_named

MOST_FRAMES = 60
GAP = 24.0
MIDDLE = 0.9  # a middle as wide as the field itself says nothing
DIM = 0.16  # brightness of what is not read
TINT = np.array((0.94, 0.45, 0.10))  # where the weight lies


@dataclass(frozen=True)
class Stage:
    """What the middle output of one node sees.

    Args:
        name: of the layer, as text.
        field: its receptive field.
        spans: the first and last input along each axis, or None.
        effective: (height, width), how strongly each input weighs in it, the largest 1.
    """

    name: str
    field: ReceptiveField
    spans: tuple[Span | None, ...]
    effective: Array

    @cached_property
    def read(self) -> tuple[int, int]:
        """Positions inside the picture that are read, and positions of the box inside the picture."""
        inside = self.effective[self.box]
        return int((inside > 0).sum()), inside.size

    @property
    def box(self) -> tuple[slice, ...]:
        """The part of the box that lies inside the picture."""
        return tuple(
            slice(0, 0) if span is None else slice(max(span[0], 0), min(span[1] + 1, size))
            for span, size in zip(self.spans, self.effective.shape, strict=True)
        )

    @property
    def within(self) -> float:
        """The width of the middle of the weight, two standard deviations each way, as a share of the box's width."""
        return float(np.mean([_spread(self.effective, axis) / max(self.field.size[axis], 1) for axis in (0, 1)]))


def _spread(effective: Array, axis: int) -> float:
    """Four standard deviations of the weight along an axis, in pixels."""
    weight = effective.sum(axis=1 - axis)
    total = weight.sum() or 1.0
    place = np.arange(len(weight))
    mean = (weight * place).sum() / total
    return float(4 * np.sqrt((weight * (place - mean) ** 2).sum() / total))


@dataclass(frozen=True, eq=False)
class FieldComposer(Plate):
    """Draws the field after each stage, a frame each."""

    stages: tuple[Stage, ...]
    photo: Array
    note: str

    def __len__(self) -> int:
        """As many frames as stages."""
        return len(self.stages)

    @cached_property
    def _panel(self) -> tuple[float, float]:
        """Width of each of the two panels, and the height of the higher one."""
        width = (ROOM - GAP) / 2
        return width, width * max(1.0, self.photo.shape[0] / self.photo.shape[1])

    @cached_property
    def _names(self) -> list[str]:
        return [stage.name for stage in self.stages]

    @property
    def _under(self) -> float:
        return max(trail(self._names, index, TOP + 8, self.theme)[1] for index in (0, len(self) - 1))

    @property
    def height(self) -> int:
        """Of every frame."""
        return int(self._under + 26 + self._panel[1] + 104)

    def picture(self, index: int) -> Picture:
        """The field after one stage."""
        stage, (wide, _) = self.stages[index], self._panel
        shapes, _ = trail(self._names, index, TOP + 8, self.theme)
        top = self._under + 22
        right = MARGIN + wide + GAP
        for x, said in ((MARGIN, "input, and what this stage's middle output sees"), (right, "the field, enlarged")):
            shapes.append(Text(x, top - 8, said, SMALL, self.theme.faint))
        shapes += self._whole(index, top, wide)
        shapes += self._close(stage, right, top, wide)
        return self.framed(shapes, self._said(stage), self.height, (index + 1) / len(self))

    def _whole(self, index: int, top: float, wide: float) -> list[Shape]:
        """The photograph with the boxes of the stages so far."""
        scale = wide / self.photo.shape[1]
        lit = _lit(self.photo, self.stages[index].effective, shade=0.45)
        made: list[Shape] = [placed(lit, MARGIN, top, wide)]
        for number in range(max(0, index - 8), index + 1):
            stage, now = self.stages[number], number == index
            rows, columns = stage.box
            if rows.stop > rows.start and columns.stop > columns.start:
                x, y = MARGIN + columns.start * scale, top + rows.start * scale
                size = ((columns.stop - columns.start) * scale, (rows.stop - rows.start) * scale)
                colour = self.theme.output_loud if now else "#ffffff"
                made.append(rect(x, y, *size, None, colour, 2.0 if now else 0.6))
        return made

    def _close(self, stage: Stage, x: float, top: float, wide: float) -> list[Shape]:
        """The box alone, each pixel to be seen."""
        rows, columns = stage.box
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return [Text(x, top + 20, "nothing inside the picture is seen", SMALL, self.theme.faint)]
        lit = _lit(self.photo, stage.effective, shade=DIM)[rows, columns]
        scale = min(wide / lit.shape[1], self._panel[1] / lit.shape[0])
        width = round(lit.shape[1] * scale, 2)
        frame = rect(x, top, width, round(lit.shape[0] * scale, 2), None, self.theme.output_loud, 2.0)
        return [placed(lit, x, top, width, crisp=True), frame]

    def _said(self, stage: Stage) -> list[str]:
        size, stride = text.sizes(stage.field.size), text.sizes([str(s) for s in stage.field.stride])  # type: ignore[misc]
        read, box = stage.read
        holes = "" if read == box else f"; {read:,} of {box:,} pixels are read"
        most = self.photo.shape[:2]
        larger = " (more than the picture)" if any(s > m for s, m in zip(stage.field.size, most, strict=True)) else ""
        first = f"{stage.name}: field {size}{larger}, stride {stride}{holes}."
        share = ""
        if stage.within < MIDDLE and not larger:
            share = (
                f"Two standard deviations each way, the weight's middle, are {stage.within:.0%} of the field's width. "
            )
        return [*lines_of(first, 1), *lines_of(share + self.note, 3)]


def _lit(photo: Array, effective: Array, shade: float) -> Array:
    """The photograph, dark where nothing is read, tinted where the weight lies."""
    strength = (effective**0.5)[:, :, None]
    seen = (effective > 0)[:, :, None]
    bright = photo * (1 - 0.72 * strength) + TINT * 0.72 * strength
    return np.where(seen, bright, photo * shade)


def draw_field(
    network: Network | str,
    picture: Photo = None,
    *,
    input_size: Sizes | int | None = None,
    weights: Mapping[str, Any] | None = None,
    theme: ThemeName = "auto",
    max_frames: int = MOST_FRAMES,
) -> Drawing:
    """The receptive field growing through a 2-D network over a photograph, a frame a stage.

    The box is what the middle output of the stage can see; inside it, orange says how strongly each pixel weighs in
    that output (the gradient of the network made linear: Luo et al., arXiv 1701.04128), and what is never read, as
    between the taps of dilated layers, is dark.

    Args:
        network: a network or its text.
        picture: a file, an array (height, width, 3) with values from 0 to 1, or None for the one that ships.
        input_size: (height, width) in pixels to bring the picture to; else 224 on its longer side at most.
        weights: by name, as ``Network.bind`` takes them; None for uniform ones, where every path counts the same.
        theme: "light", "dark", or "auto": light, where a page follows its reader.
        max_frames: of more stages only every second, third, ... is drawn.

    Raises:
        ValueError: a network that is not 2-D or does not fit, or a picture that cannot be read.

    Example:
        >>> import polyconv as pc
        >>> pc.draw_field("conv 3x3 16 dilation 4 same | maxpool 2x2")
        Drawing('Receptive field of conv 3x3 16 same dilation 4 | maxpool 2x2', 2 frames of 600x471)
    """
    from polyconv.run.weights import checked_weights

    net, colours = parsed(network), theme_named(theme)
    whole(max_frames, "max_frames")
    arrays, channels = (None, None) if weights is None else checked_weights(net, weights)
    channels = channels or channels_for(net)
    photo = for_network(net, picture, input_size, channels)
    shape = (1, channels, *photo.shape[:2])
    every = fields(net, (shape, *net.shapes(shape)))
    moving = [index for index, node in enumerate(net.nodes) if _moves(node.layer)] or [len(net.nodes) - 1]
    step = -(-len(moving) // max_frames)
    kept = moving[::-1][::step][::-1]  # the last is always among them
    stages = tuple(_stage(net, shape, index, every[index], arrays) for index in kept)
    note = "Every path weighs the same" if arrays is None else "The gradient for the given weights"
    note += ", activations passed on and a maximum taken as a mean."
    if step > 1:
        note += f" {len(kept)} of {len(moving)} stages are shown."
    return Drawing(FieldComposer(f"Receptive field of {net}", colours, stages, photo, note))


def _moves(layer: Layer) -> bool:
    """Whether a layer reads other positions than its own, or joins branches."""
    return isinstance(layer, Conv | ConvTranspose | Pool | GlobalPool | Upsample | Join)


def _stage(net: Network, shape: Sizes, index: int, field: ReceptiveField, weights: dict[str, Array] | None) -> Stage:
    position, effective = central_gradient(net, shape, index, weights)
    spans = tuple(axis.at(where) for axis, where in zip(field.axes, position, strict=True))
    node = net.nodes[index]
    return Stage(node.text, field, spans, effective)
