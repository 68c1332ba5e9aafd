"""What each stage of a network makes of a photograph: a few of its channels, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyconv._checks import whole
from polyconv.layers import Sizes
from polyconv.network import INPUT, Join, Network
from polyconv.notation import network as parsed
from polyconv.run.problem import Array
from polyconv.run.weights import checked_weights
from polyconv.see import numbers as text
from polyconv.see.arrange import MARGIN, ROOM, SMALL
from polyconv.see.drawing import Drawing
from polyconv.see.photo import TOP, Photo, Plate, as_channels, channels_for, for_network, placed
from polyconv.see.shapes import Picture, Shape, Text
from polyconv.see.theme import ThemeName, theme_named

MOST_STAGES = 60
GAP = 8.0


@dataclass(frozen=True, eq=False)
class FeatureComposer(Plate):
    """Draws one stage a frame: its first channels."""

    stages: tuple[tuple[str, Array], ...]
    columns: int
    note: str

    def __len__(self) -> int:
        """As many frames as stages, the input among them."""
        return len(self.stages)

    @property
    def _wide(self) -> float:
        return (ROOM - GAP * (self.columns - 1)) / self.columns

    @property
    def height(self) -> int:
        """Of every frame."""
        return int(TOP + 30 + self._wide * max(maps.shape[1] / maps.shape[2] for _, maps in self.stages) + 60)

    def picture(self, index: int) -> Picture:
        """The channels of one stage."""
        name, maps = self.stages[index]
        heading = f"{name}: {text.plural(len(maps), 'channel')} of {text.sizes(maps.shape[1:])}"
        made: list[Shape] = [Text(MARGIN, TOP + 10, heading, SMALL + 1, self.theme.ink)]
        for number, plane in enumerate(maps[: self.columns]):
            x = MARGIN + number * (self._wide + GAP)
            made.append(placed(_grey(plane), x, TOP + 24, self._wide, crisp=True))
        more = len(maps) - self.columns
        said = [f"{heading}{f', the first {self.columns} are shown' if more > 0 else ''}", self.note]
        return self.framed(made, said, self.height, (index + 1) / len(self))


def _grey(plane: Array) -> Array:
    """A channel from its least value, black, to its largest, white."""
    low, high = float(plane.min()), float(plane.max())
    return (plane - low) / ((high - low) or 1.0)


def draw_features(
    network: Network | str,
    picture: Photo = None,
    *,
    input_size: Sizes | int | None = None,
    weights: Mapping[str, Any] | None = None,
    seed: int = 0,
    channels: int = 4,
    theme: ThemeName = "auto",
) -> Drawing:
    """The feature maps of a photograph in a 2-D network: a few channels of each stage, a frame a stage.

    Each channel is scaled by itself, from its least value (black) to its largest (white).

    Args:
        network: a network or its text.
        picture: a file, an array (height, width, 3) with values from 0 to 1, or None for the one that ships.
        input_size: (height, width) in pixels to bring the picture to; else 224 on its longer side at most.
        weights: by name, as ``Network.bind`` takes them; random ones of ``seed`` if not given.
        seed: of the weights.
        channels: how many of each stage are shown, from 1 to 8.
        theme: "light", "dark", or "auto": light, where a page follows its reader.

    Raises:
        ValueError: a network that is not 2-D or does not fit, or a picture that cannot be read.

    Example:
        >>> import polyconv as pc
        >>> pc.draw_features("conv 3x3 8 same relu | maxpool 2x2 | conv 3x3 16")
        Drawing('Feature maps of conv 3x3 8 same relu | maxpool 2x2 | conv 3x3 16', 4 frames of 600x224)
    """
    net, colours = parsed(network), theme_named(theme)
    if whole(channels, "channels") > 8:
        raise ValueError(f"channels is {channels}, at most 8 are shown beside each other")
    if len(net.nodes) > MOST_STAGES:
        raise ValueError(f"the network has {len(net.nodes)} layers, at most {MOST_STAGES} are drawn. Draw a part of it")
    read = None if weights is None else checked_weights(net, weights)[1]
    read = read or channels_for(net)
    photo = for_network(net, picture, input_size, read)
    arrays = net.weights(read, seed, ndim=2) if weights is None else dict(weights)
    x = as_channels(photo, read)
    maps = every_output(net, x[None], arrays)
    named = (("input", x), *((node.text, maps[index][0]) for index, node in enumerate(net.nodes)))
    note = f"Random weights, seed {seed}." if weights is None else "With the given weights."
    return Drawing(FeatureComposer(f"Feature maps of {net}", colours, named, channels, note))


def every_output(network: Network, x: Array, arrays: Mapping[str, Any]) -> dict[int, Array]:
    """Every node's output (batch, channels, *spatial) under its index, the input's under -1."""
    dtype = next((np.asarray(array).dtype for array in arrays.values()), x.dtype)
    values: dict[int, Array] = {INPUT: x.astype(dtype)}
    for index, node in enumerate(network.nodes):
        inputs = [values[number] for number in node.inputs]
        if isinstance(node.layer, Join):
            values[index] = np.sum(inputs, axis=0) if node.layer.kind == "add" else np.concatenate(inputs, axis=1)
            continue
        keys = node.layer.parameters(inputs[0].shape[1], 2)
        own = {f"0.{key}": arrays[f"{node.name}.{key}"] for key in keys}
        values[index] = Network((node.layer,)).bind(own)(inputs[0])
    return values
