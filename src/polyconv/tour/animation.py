"""The animation beside each stop of the tour: the same kind at a size whose numbers can be read."""

from __future__ import annotations

from functools import cache

from polyconv.notation import network
from polyconv.see import film
from polyconv.see.drawing import Drawing

FRAMES = 10
SCALE = 0.8
FPS = 1.25
# For each stop by its title: a layer of its kind, and an input (channels, *spatial).
SMALL: dict[str, tuple[str, tuple[int, ...]]] = {
    "Standard, one channel": ("conv 3x3 1 nobias", (1, 5, 5)),
    "Standard, many channels": ("conv 3x3 2 nobias", (2, 4, 4)),
    "Pointwise (1x1)": ("pointwise 2 nobias", (3, 3, 3)),
    "Dilated (à trous)": ("conv 3x3 1 dilation 2 nobias", (1, 7, 7)),
    "Strided": ("conv 3x3 1 stride 2 padding 1 nobias", (1, 6, 6)),
    "Transposed": ("transposed 3x3 1 stride 2 padding 1 nobias", (1, 3, 3)),
    "Spatially separable": ("spatial 3x3 1 nobias", (1, 5, 5)),
    "Depthwise": ("depthwise 3x3 nobias", (2, 4, 4)),
    "Depthwise, multiplier 2": ("depthwise 3x3 multiplier 2 nobias", (2, 4, 4)),
    "Depthwise separable": ("separable 3x3 2 nobias", (2, 4, 4)),
    "Grouped": ("conv 3x3 2 groups 2 nobias", (4, 4, 4)),
    "1-D, along the rows": ("conv 3 1 same nobias", (1, 8)),
    "1-D, causal": ("conv 3 1 causal nobias", (1, 8)),
    "3-D": ("conv 2x3x3 1 nobias", (1, 3, 4, 4)),
    "Max pooling": ("maxpool 2x2", (1, 6, 6)),
    "Average pooling": ("avgpool 2x2", (1, 6, 6)),
    "Network in network": ("conv 3x3 2 relu nobias | pointwise 1 nobias", (1, 4, 4)),
    "Inception module": ("concat(pointwise 1 nobias, conv 3x3 1 same nobias)", (1, 3, 3)),
    "Dilated context": ("conv 3 1 same nobias | conv 3 1 dilation 2 same nobias", (1, 9)),
    "Encoder and decoder": ("conv 2x2 1 stride 2 nobias | transposed 2x2 1 stride 2 nobias", (1, 4, 4)),
    "Deconvolutional network": ("conv 3x3 1 stride 2 nobias | transposed 3x3 1 stride 2 nobias", (1, 5, 5)),
}


def drawing(title: str) -> Drawing:
    """The kind of this stop at work."""
    text, (channels, *size) = SMALL[title]
    return network(text).draw(tuple(size), channels, max_frames=FRAMES)


@cache
def animation(title: str) -> tuple[bytes, bytes, int, int]:
    """The kind at work as a film, one frame of it as a picture for those who want no motion, width and height."""
    made = drawing(title)
    moving = film.gif(made.frames, FPS, SCALE)
    still = film.png(made.picture(), SCALE)
    return moving, still, round(made.composer.width * SCALE), round(made.composer.height * SCALE)
