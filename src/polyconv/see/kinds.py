"""One small example of every kind, for pictures that show them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from polyconv.see.drawing import Drawing


@dataclass(frozen=True, slots=True)
class Example:
    """A kind of layer and a small case of it.

    Args:
        name: what the kind is called.
        text: the network.
        size: of its input.
        channels: of its input.
        options: for ``Network.draw``.
    """

    name: str
    text: str
    size: tuple[int, ...]
    channels: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def draw(self, **options: Any) -> Drawing:
        """Its drawing."""
        from polyconv.notation import network

        return network(self.text).draw(self.size, self.channels, **{**self.options, **options})


EXAMPLES = (
    Example("standard", "conv 3x3 1", (5, 5)),
    Example("stride and padding", "conv 3x3 1 stride 2 padding 1", (5, 5)),
    Example("many channels", "conv 3x3 2 relu", (5, 5), 3),
    Example("pointwise", "pointwise 2", (4, 4), 3),
    Example("dilated", "conv 3x3 1 dilation 2", (7, 7)),
    Example("asymmetric, reflect", "conv 3x2 1 padding 1:0x0:2 reflect", (5, 4)),
    Example("transposed: stamping", "transposed 3x3 1 stride 2 padding 1", (3, 3)),
    Example("transposed: sliding", "transposed 3x3 1 stride 2 padding 1", (3, 3), 1, {"view": "slide"}),
    Example("spatially separable", "spatial 3x3 1", (5, 5)),
    Example("depthwise", "depthwise 3x3 multiplier 2", (4, 4), 2),
    Example("depthwise separable", "separable 3x3 2", (5, 5), 2),
    Example("grouped", "conv 3x3 4 groups 2", (4, 4), 4),
    Example("max pooling", "maxpool 2x2", (6, 6)),
    Example("average pooling", "avgpool 3x3 stride 2 padding 1", (5, 5)),
    Example("one axis, causal", "conv 3 1 causal dilation 2", (8,)),
    Example("one axis, channels", "conv 3 2 same", (6,), 2),
    Example("one axis, transposed", "transposed 3 1 stride 2", (4,)),
    Example("three axes", "conv 2x3x3 1", (3, 4, 4)),
    Example("three axes, transposed", "transposed 2x2x2 1 stride 2", (2, 2, 2)),
    Example("a chain", "conv 3x3 2 | maxpool 3x3", (11, 11)),
    Example("branches", "concat(identity, conv 3 1 same) | relu", (6,)),
    Example("many more channels", "conv 3x3 64", (5, 5), 64, {"max_channels": 2}),
)


def sheet(theme: str = "light", columns: int = 4) -> Image:
    """Every example under its name, packed in columns."""
    import PIL.Image
    import PIL.ImageDraw

    from polyconv.see.lettering import font
    from polyconv.see.raster import raster
    from polyconv.see.theme import theme_named

    colours = theme_named(theme)
    gap, head = 24, 34
    images = [raster(example.draw(theme=theme).picture()) for example in EXAMPLES]
    tops, places = [gap] * columns, []
    for image in images:  # each where there is most room
        column = tops.index(min(tops))
        places.append((gap + column * (image.width + gap), tops[column]))
        tops[column] += head + image.height + gap
    made = PIL.Image.new("RGB", (columns * (images[0].width + gap) + gap, max(tops)), colours.cropped)
    brush = PIL.ImageDraw.Draw(made)
    for example, image, (x, y) in zip(EXAMPLES, images, places, strict=True):
        brush.text((x, y + 24), example.name, fill=colours.ink, font=font(22.0), anchor="ls")
        made.paste(image, (x, y + head))
    return made


if __name__ == "__main__":
    import sys

    sheet().save(sys.argv[1], optimize=True)
