"""Filters of neighbouring layers and how far they go together: a matrix that shows what groups do.

Source of the picture: Ioannou's "A Tutorial on Filter Groups" (blog.yani.io/filter-group-tutorial) and "Deep Roots"
(arXiv 1605.06489).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from polyconv._checks import choice
from polyconv.count.correlation import Correlation, Pairs, check_work, neighbours, of_noise, of_responses
from polyconv.layers import Sizes
from polyconv.network import Network
from polyconv.notation import network as parsed
from polyconv.run.problem import Array
from polyconv.run.weights import checked_weights
from polyconv.see import numbers as text
from polyconv.see.arrange import MARGIN, ROOM, SMALL
from polyconv.see.drawing import Drawing
from polyconv.see.features import every_output
from polyconv.see.lettering import clipped, fitted
from polyconv.see.photo import TOP, Photo, Plate, as_channels, channels_for, for_network, lines_of, placed
from polyconv.see.shapes import Line, Picture, Shape, Text, rect
from polyconv.see.theme import Theme, ThemeName, between, clearest, theme_named

SIDE = 420.0  # of the matrix
LEGEND = 26.0
MOST_FRAMES, MOST_FILTERS = 60, 1024
READABLE = 22.0  # cells from this size on show their number
Over = Literal["noise", "photograph"]


def _top(strength: Array) -> float:
    """The strength that is shown darkest: 1, or less where nearly all are weaker, as in wide layers."""
    most = float(np.percentile(strength, 99))
    return next((top for top in (0.05, 0.1, 0.2, 0.5) if most <= top), 1.0) if most else 1.0


def shade(theme: Theme, strength: float) -> str:
    """Of nothing the background, of a half orange, of a full correlation ink: lighter to darker, also in print."""
    if strength < 0.5:
        return between(theme.background, theme.output_loud, 2 * strength)
    return between(theme.output_loud, theme.ink, 2 * strength - 1)


@dataclass(frozen=True, eq=False)
class CorrelationComposer(Plate):
    """Draws one pair of layers a frame."""

    names: tuple[tuple[str, str], ...]
    pairs: tuple[Correlation, ...]
    note: str

    @property
    def still(self) -> int:
        """The pair with the most groups."""
        return max(range(len(self.pairs)), key=lambda index: self.pairs[index].groups)

    def __len__(self) -> int:
        """As many frames as pairs."""
        return len(self.pairs)

    @property
    def height(self) -> int:
        """Of every frame."""
        return int(TOP + 44 + max(self._size(pair)[1] for pair in self.pairs) + 24 + 4 * 17 + MARGIN)

    @staticmethod
    def _size(pair: Correlation) -> tuple[float, float]:
        """Width and height of a pair's matrix."""
        rows, columns = pair.values.shape
        cell = min(SIDE / max(rows, columns), 60.0)
        return cell * columns, cell * rows

    def picture(self, index: int) -> Picture:
        """One pair."""
        pair, (first, second) = self.pairs[index], self.names[index]
        wide, high = self._size(pair)
        x, y = MARGIN + 24.0, TOP + 44.0
        across = f"across: filters of {first}"
        made: list[Shape] = [
            Text(x, y - 26, clipped(across, SMALL + 1, ROOM - 24), SMALL + 1, self.theme.ink),
            Text(x, y - 10, clipped(f"down: filters of {second}", SMALL + 1, ROOM - 24), SMALL + 1, self.theme.ink),
        ]
        made += self._ticks(pair, x, y)
        made += self._matrix(pair, x, y, wide, high)
        made += self._legend(MARGIN + ROOM - LEGEND - 58, y, _top(np.abs(pair.values)))
        said = [*lines_of(self._said(pair), 2), *lines_of(self.note, 2)]
        return self.framed(made, said, self.height, (index + 1) / len(self))

    def _ticks(self, pair: Correlation, x: float, y: float) -> list[Shape]:
        """The first and the last filter of each side, at the matrix's edge."""
        (wide, high), (rows, columns) = self._size(pair), pair.values.shape
        half = wide / columns / 2
        made: list[Shape] = []
        for number in {0, rows - 1}:
            made.append(Text(x - 5, y + (number + 0.5) * high / rows + 4, str(number), 10.0, self.theme.faint, "end"))
        for number in {0, columns - 1}:
            place = x + number * wide / columns + half
            made.append(Text(place, y + high + 12, str(number), 10.0, self.theme.faint, "middle"))
        return made

    def _matrix(self, pair: Correlation, x: float, y: float, wide: float, high: float) -> list[Shape]:
        """The cells, and round what a group connects an outline."""
        columns = pair.values.shape[1]
        strength, theme = np.abs(pair.values), self.theme
        strength = np.minimum(strength / _top(strength), 1.0)
        cell = wide / columns
        made: list[Shape] = [placed(_coloured(strength, theme), x, y, wide, crisp=True)]
        if cell >= READABLE:
            for (row, column), value in np.ndenumerate(pair.values):
                said = text.number(round(float(value), 2))
                size = fitted(said, min(11.0, cell * 0.36), cell - 3, 7.0)
                if size is not None:
                    ink = clearest(shade(theme, float(strength[row, column])), theme.ink, theme.background)
                    place = (x + (column + 0.5) * cell, y + (row + 0.5) * cell + size * 0.36)
                    made.append(Text(round(place[0], 1), round(place[1], 1), said, size, ink, "middle", cell))
        made.append(rect(x, y, wide, high, None, theme.faint, 1.0))
        if 1 < pair.groups <= 64:
            across, down = wide / pair.groups, high / pair.groups
            made += [
                rect(round(x + g * across, 2), round(y + g * down, 2), across, down, None, theme.faint, 1.5)
                for g in range(pair.groups)
            ]
        return made

    def _legend(self, x: float, y: float, top: float) -> list[Shape]:
        """The colours from no correlation to a full one."""
        high, theme = 160.0, self.theme
        ramp = _coloured(np.linspace(1, 0, 64)[:, None], theme)
        scale = np.repeat(ramp, 8, axis=1)
        bar = placed(scale, x, y, LEGEND * 0.7, crisp=True)
        made: list[Shape] = [
            replace(bar, height=high),
            rect(x, y, LEGEND * 0.7, high, None, theme.faint, 1.0),
        ]
        for value in (1.0, 0.5, 0.0):
            said = text.number(value * top) + (" or more" if value == 1 and top < 1 else "")
            line = y + (1 - value) * high
            made.append(Line(((x + LEGEND * 0.7, line), (x + LEGEND * 0.7 + 4, line)), theme.faint))
            made.append(Text(x + LEGEND * 0.7 + 7, line + 4, said, 11.0, theme.ink))
        made.append(Text(x, y - 10, "|correlation|", SMALL, theme.ink, box=120))
        return made

    def _said(self, pair: Correlation) -> str:
        strength, inside = np.abs(pair.values), pair.inside
        if pair.groups == 1:
            return f"One group: every filter reads every channel. Mean strength {text.number(strength.mean())}."
        within, across = float(strength[inside].mean()), float(strength[~inside].mean())
        return (
            f"{pair.groups} groups, outlined: mean strength {text.number(within)} inside, "
            f"{text.number(across)} across them."
        )


def _coloured(strength: Array, theme: Theme) -> Array:
    """Strengths (height, width) from 0 to 1 as (height, width, 3)."""
    table = np.array([_parts(shade(theme, level / 255)) for level in range(256)])
    return np.asarray(table[np.round(strength * 255).astype(int)])


def _parts(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def draw_correlation(
    network: Network | str,
    weights: Mapping[str, Any] | None = None,
    *,
    over: Over | None = None,
    picture: Photo = None,
    input_size: Sizes | int | None = None,
    in_channels: int | None = None,
    seed: int = 0,
    theme: ThemeName = "auto",
) -> Drawing:
    """How far the filters of neighbouring layers go together: blocks where a layer has groups, a frame a pair.

    A row is a filter of the second layer, a column one of the first. Of noise, the correlation is that of the two
    layers' linear responses to white noise at the first's input: exact, from the weights alone, and 0 between groups
    that share nothing. Of a photograph, it is that of what the network makes of it: every input of the second layer
    with every filter's response, activations in between included.

    Args:
        network: a network or its text, with two convolutions one after the other.
        weights: by name, as ``Network.bind`` takes them; random ones of ``seed`` if not given, and the picture says so.
        over: "noise" or "photograph"; noise if not given, and a photograph where ``picture`` is.
        picture: a file, an array (height, width, 3) with values from 0 to 1, or None for the one that ships.
        input_size: for a photograph: (height, width) in pixels; else 224 on its longer side at most.
        in_channels: of the network's input, where the weights do not say; 3 where they fit if not given.
        seed: of random weights.
        theme: "light", "dark", or "auto": light, where a page follows its reader.

    Raises:
        ValueError: a network without neighbouring convolutions, or so large that it would take minutes.

    Example:
        >>> import polyconv as pc
        >>> drawing = pc.draw_correlation("conv 3x3 16 same groups 4 | conv 3x3 16 same groups 4", in_channels=8)
        >>> drawing.picture().description[:68]
        '4 groups, outlined: mean strength 0.39 inside, 0 across them. Respon'
    """
    net, colours = parsed(network), theme_named(theme)
    choice(over or "noise", ("noise", "photograph"), "over")
    if over == "noise" and (picture is not None or input_size is not None):
        raise ValueError("over='noise' takes no picture and no input_size. Use over='photograph'")
    every = neighbours(net)
    if not every:
        raise ValueError(f"{net} has no two convolutions one after the other. Use two, as conv 3x3 8 | conv 3x3 8")
    arrays, given = ({}, None) if weights is None else checked_weights(net, weights)
    channels = given or in_channels or channels_for(net)
    on_photo = over == "photograph" or picture is not None or input_size is not None
    chosen = _drawable(net, channels, every)
    if not on_photo:
        check_work(net, channels, net.ndim or 2, chosen)
    arrays = arrays if weights is not None else net.weights(channels, seed)
    if on_photo:
        pairs = _of_photograph(net, for_network(net, picture, input_size, channels), arrays, channels, chosen)
        note = "Response to the photograph, at the tap where it is strongest."
    else:
        pairs = of_noise(net, arrays, channels, net.ndim or 2, chosen)
        note = "Response to white noise at the first layer's input, at the tap where it is strongest."
    note += f" Random weights, seed {seed}." if weights is None else " The given weights."
    left = len(every) - len(pairs)
    note += f" {left} of {len(every)} pairs, of more than {MOST_FILTERS:,} filters, are left out." if left else ""
    names = tuple((_name(net, pair.first), _name(net, pair.second)) for pair in pairs)
    return Drawing(CorrelationComposer(f"Correlation of filters in {net}", colours, names, pairs, note))


def _name(network: Network, index: int) -> str:
    node = network.nodes[index]
    return f"stage {node.name}, {node.text}"


def _drawable(network: Network, in_channels: int, pairs: Pairs) -> Pairs:
    """The pairs whose filters can be told apart in a picture; ValueError where none can."""
    channels = network.channels(in_channels)
    chosen = tuple(pair for pair in pairs if max(channels[index] for index in pair) <= MOST_FILTERS)
    if not chosen:
        second = pairs[0][1]
        most = max(channels[index] for index in pairs[0])
        raise ValueError(
            f"{_name(network, second)} and what it reads have {most:,} filters, at most {MOST_FILTERS:,} are drawn"
        )
    if len(chosen) > MOST_FRAMES:
        raise ValueError(f"the network has {len(chosen)} pairs of layers, at most {MOST_FRAMES} are drawn. Draw a part")
    return chosen


def _of_photograph(
    net: Network, photo: Array, arrays: Mapping[str, Any], channels: int, pairs: Pairs
) -> tuple[Correlation, ...]:
    """The correlations of what the network makes of a photograph."""
    x = as_channels(photo, channels)
    outputs = every_output(net, x[None], arrays)
    made = []
    for first, second in pairs:
        node = net.nodes[second]
        read = outputs[node.inputs[0]].astype(np.float64)
        layer: Any = node.layer
        linear = Network((replace(layer, activation=None),))
        keys = layer.parameters(read.shape[1], 2)
        own = {f"0.{key}": np.asarray(arrays[f"{node.name}.{key}"], np.float64) for key in keys}
        values = of_responses(layer, read[0], linear.bind(own)(read)[0])
        groups = layer.groups_for(read.shape[1]) if hasattr(layer, "groups_for") else layer.groups
        made.append(Correlation(first, second, groups, values))
    return tuple(made)
