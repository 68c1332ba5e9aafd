"""What drawings with photographs share: reading one for a network, and placing it on a canvas."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from polyconv._checks import per_axis
from polyconv.images import encoded, fitted, photograph, read_picture, to_bytes
from polyconv.layers import Sizes
from polyconv.network import Network
from polyconv.run.problem import Array
from polyconv.see.arrange import MARGIN, ROOM, SMALL, WIDTH
from polyconv.see.lettering import clipped, wrapped
from polyconv.see.sample import first_channels, real_array
from polyconv.see.shapes import Line, Picture, Raster, Shape, Text, rect
from polyconv.see.sums import Sum
from polyconv.see.theme import Theme

LONGEST = 224  # pixels of a photograph's longer side where no size is given
LARGEST = 1024  # pixels along an axis that are drawn
TOP = MARGIN + 27.0  # under the title
Photo: TypeAlias = "str | os.PathLike[str] | Array | None"


@dataclass(frozen=True, eq=False)
class Plate:
    """A drawing with a title and lines of words beneath, whose frames have no cells to click: what frames share."""

    title: str
    theme: Theme

    width = WIDTH

    @property
    def still(self) -> int:
        """The frame that says most on its own: the last."""
        return len(self) - 1

    def __len__(self) -> int:
        """One frame, where nothing else is said."""
        return 1

    def check(self) -> None:
        """What does not fit was refused before."""

    def outputs(self) -> dict[str, Sum]:
        """No output is drawn as a cell."""
        return {}

    def framed(self, shapes: list[Shape], said: list[str], height: int, done: float | None = None) -> Picture:
        """A picture with the title above and words at its foot; ``done`` of the film as a bar."""
        theme, y = self.theme, height - MARGIN - 8.0 - 17 * (len(said) - 1)
        made: list[Shape] = [Text(MARGIN, MARGIN + 12, clipped(self.title, 15.0, ROOM), 15.0, theme.ink), *shapes]
        for number, line in enumerate(said):
            colour = theme.ink if number == 0 else theme.faint
            made.append(Text(MARGIN, y, clipped(line, 12.0, ROOM), 12.0, colour))
            y += 17
        if done is not None:
            made.append(rect(MARGIN, height - MARGIN, ROOM, 3, theme.cropped))
            made.append(rect(MARGIN, height - MARGIN, round(ROOM * done, 1), 3, theme.output_loud))
        return Picture(WIDTH, height, theme.background, tuple(made), f"polyconv: {self.title}", " ".join(said))


def placed(values: Array, x: float, y: float, width: float, crisp: bool = False) -> Raster:
    """A picture (height, width) or (height, width, 3) from 0 to 1 in a box of this width and its own proportions."""
    content = encoded(values, ".png" if crisp else ".jpg", quality=85)
    return Raster(x, y, width, round(width * values.shape[0] / values.shape[1], 2), content, crisp)


def trail(stages: list[str], current: int, y: float, theme: Theme, most: int = 3) -> tuple[list[Shape], float]:
    """The stages in a row, the one under way marked, and the y beneath."""
    from polyconv.see.lettering import measure

    made: list[Shape] = []
    rows: list[list[tuple[str, bool]]] = [[]]
    x = float(MARGIN)
    places = []
    for index, word in enumerate(stages):
        word = clipped(word, SMALL + 1, ROOM)
        wide = measure(word, SMALL + 1) * 1.1
        if x + wide > WIDTH - MARGIN and rows[-1]:
            rows.append([])
            x = float(MARGIN)
        rows[-1].append((word, index == current))
        places.append((x, len(rows) - 1, word, index == current))
        x += wide + 14
    here = next(row for _, row, _, now in places if now)
    first = max(0, min(here - most // 2, len(rows) - most))
    for x, row, word, now in places:
        if first <= row < first + most:
            line = y + (row - first) * 18
            made.append(Text(x, line, word, SMALL + 1, theme.ink if now else theme.faint))
            if now:
                end = x + measure(word, SMALL + 1)
                made.append(Line(((x, line + 4), (end, line + 4)), theme.output_loud, 2))
    return made, y + 18 * min(most, len(rows))


def lines_of(text: str, most: int = 3) -> list[str]:
    """Words in lines as wide as the canvas."""
    return wrapped(text, 12.0, ROOM, most)


def for_network(network: Network, picture: Photo, input_size: Any = None, channels: int | None = None) -> Array:
    """A photograph as (height, width, 3) from 0 to 1, in a size for this network.

    Args:
        network: must take 2 spatial axes, and 3 channels or as many as ``channels``.
        picture: a file, an array (height, width, 3) from 0 to 1, or None for the one that ships.
        input_size: (height, width) to bring it to, from 1 to 1024; else it is made smaller where it is large.
        channels: that the network reads, where they are known.

    Raises:
        ValueError: a network or a picture that does not fit.
    """
    if network.ndim not in (None, 2):
        raise ValueError(f"a photograph has 2 axes, the network {str(network)!r} has {network.ndim}. Use a 2-D one")
    if picture is None:
        pixels = photograph()
    elif isinstance(picture, str | os.PathLike):
        pixels = read_picture(picture)
    else:
        pixels = real_array(picture, "picture").astype(np.float32)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"picture must be (height, width, 3) with values from 0 to 1, got shape {pixels.shape}")
    if input_size is None:
        pixels = fitted(pixels, LONGEST)
    else:
        size = per_axis(input_size, 2, "input_size")
        if max(size) > LARGEST:
            raise ValueError(f"input_size is {size}, at most {LARGEST} pixels along each axis are drawn")
        pixels = _covering(pixels, size)
    in_channels = channels_for(network) if channels is None else channels
    network.shapes((1, in_channels, *pixels.shape[:2]))
    return pixels


def channels_for(network: Network) -> int:
    """Input channels: the photograph's 3 where they fit, else the fewest that do."""
    try:
        network.channels(3)
    except ValueError:
        return first_channels(network)
    return 3


def as_channels(photo: Array, channels: int) -> Array:
    """A photograph (height, width, 3) as (channels, height, width): its colours for 3, else its brightness in each."""
    planes = np.moveaxis(photo, -1, 0)
    x = planes if channels == 3 else np.stack([planes.mean(axis=0)] * channels)
    return np.ascontiguousarray(x, dtype=np.float32)


def _covering(pixels: Array, size: Sizes) -> Array:
    """The picture scaled and cut to a size, its middle kept."""
    from PIL import Image, ImageOps

    made = ImageOps.fit(Image.fromarray(to_bytes(pixels)), (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(made, np.float32) / np.float32(255)
