"""The command ``polyconv draw``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from polyconv.cli.app import Command, Given, network_argument

if TYPE_CHECKING:
    from polyconv.network import Network
    from polyconv.see.drawing import Drawing
    from polyconv.see.theme import ThemeName


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """The numbers of --input."""
    from polyconv.see.size import sizes_in

    return None if value is None else sizes_in(value, "--input")


@click.command(
    cls=Command,
    short_help="Draw a network at work, as a film, a picture or a page.",
    examples=(
        'polyconv draw "conv 3x3 1" --input 5x5 -o conv.gif',
        'polyconv draw "transposed 3x3 1 stride 2 padding 1" --view slide -o transposed.html',
        'polyconv draw "conv 3x3 1 nobias" --input 4x4 --matrix -o matrix.svg',
        'polyconv draw "3 * (conv 3x3 8 dilation 2 same)" --field --picture picture.jpg -o field.gif',
        'polyconv draw "2 * (conv 3x3 16 same groups 4)" --input 8x32x32 --correlation -o groups.png',
    ),
)
@network_argument
@click.option("--input", "size", metavar="[Cx]HxW", callback=_size, help="Size of the input, such as 5x5 or 3x5x5.")
@click.option("-o", "--output", "path", required=True, metavar="FILE", help=".gif .svg .png .webp .apng .mp4 .html")
@click.option("--matrix", is_flag=True, help="Draw the layer's sparse matrix and its transpose.")
@click.option("--field", is_flag=True, help="The receptive field growing over a photograph.")
@click.option("--features", is_flag=True, help="Some channels of each stage, for a photograph.")
@click.option("--correlation", is_flag=True, help="How far the filters of neighbouring layers go together.")
@click.option("--over", type=click.Choice(["noise", "photograph"]), help="For --correlation: what is responded to.")
@click.option("--picture", type=click.Path(), help="The photograph; the one that ships if not given.")
@click.option("--weights", type=click.Path(), help="An .npz file, arrays by name; uniform or random ones if not given.")
@click.option("--view", type=click.Choice(["stamp", "slide"]), default="stamp", help="Of transposed layers.")
@click.option("--flip", is_flag=True, help="Convolution as in mathematics: the kernel flipped.")
@click.option("--frame", type=int, help="For .svg and .png: which frame, counted from 0.")
@click.option("--sheet", is_flag=True, help="For .png: all frames on one sheet.")
@click.option("--dark", is_flag=True, help="Light on dark; a page follows its reader if not given.")
@click.option("--fps", type=float, default=2.0, show_default=True, help="Frames a second.")
@click.option("--seed", type=int, default=0, help="Of the numbers shown.")
def draw(
    given: Given,
    size: tuple[int, ...] | None,
    path: str,
    matrix: bool,
    field: bool,
    features: bool,
    correlation: bool,
    over: str | None,
    picture: str | None,
    weights: str | None,
    view: str,
    flip: bool,
    frame: int | None,
    sheet: bool,
    dark: bool,
    fps: float,
    seed: int,
) -> None:
    """Draw NETWORK at work on a small input: which inputs each output reads, and its sum in numbers."""
    from polyconv._files import checked_output
    from polyconv.see.drawing import EXTENSIONS

    checked_output(path, EXTENSIONS)
    every = {"--matrix": matrix, "--field": field, "--features": features, "--correlation": correlation}
    kinds = [name for name, wanted in every.items() if wanted]
    if len(kinds) > 1:
        raise ValueError(f"{' and '.join(kinds)} are different drawings. Give one of them")
    if over is not None and not correlation:
        raise ValueError("--over belongs to --correlation. Add it")
    theme: ThemeName = "dark" if dark else "auto"
    if field or features or correlation:
        drawing = _with_weights(given, kinds[0], size, over, picture, weights, theme, seed)
    elif picture is not None or weights is not None:
        raise ValueError(
            "--picture and --weights belong to other drawings of the network. Add --field, --features or --correlation"
        )
    else:
        drawing = _drawing(given.network, size, matrix, view, flip, theme, seed)
    try:
        target = drawing.save(path, frame=frame, sheet=sheet, fps=fps)
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    count = len(drawing.frames)
    click.echo(f"wrote {target}: {count} frame{'' if count == 1 else 's'}, {target.stat().st_size:,} bytes")


def _drawing(
    network: Network, size: tuple[int, ...] | None, matrix: bool, view: str, flip: bool, theme: ThemeName, seed: int
) -> Drawing:
    channels, spatial = _split(network, size)
    if matrix and flip:
        raise ValueError("--flip is for the layer at work. Leave out --matrix")
    if matrix:
        from polyconv.see.matrix import draw_matrix

        return draw_matrix(network, None, spatial, in_channels=channels, theme=theme)
    from polyconv.see.drawing import draw as drawn

    return drawn(
        network,
        spatial,
        channels,
        seed=seed,
        view="slide" if view == "slide" else "stamp",
        flip=flip,
        theme=theme,
    )


def _split(network: Network, size: tuple[int, ...] | None) -> tuple[int | None, tuple[int, ...] | None]:
    """Channels, where the size has them, and the spatial sizes."""
    from polyconv.see.size import with_channels

    return (None, None) if size is None else with_channels(network, size, "--input", min(len(size), 2))


def _with_weights(
    given: Given,
    kind: str,
    size: tuple[int, ...] | None,
    over: str | None,
    picture: str | None,
    weights: str | None,
    theme: ThemeName,
    seed: int,
) -> Drawing:
    """A drawing over a photograph, or of the weights themselves."""
    from polyconv.cli.run import read_weights
    from polyconv.see.correlation import draw_correlation
    from polyconv.see.features import draw_features
    from polyconv.see.field import draw_field

    if size is None and given.in_shape is not None:  # a named network: the size it was published with
        size = given.in_shape[1:]
    channels, spatial = _split(given.network, size)
    options: dict[str, Any] = {"weights": None if weights is None else read_weights(weights), "theme": theme}
    try:
        if kind == "--correlation":
            over = over or ("noise" if picture is None else "photograph")
            options |= {"over": over, "picture": picture, "input_size": None if over == "noise" else spatial}
            return draw_correlation(given.network, in_channels=channels, seed=seed, **options)
        if kind == "--field":
            return draw_field(given.network, picture, input_size=spatial, **options)
        return draw_features(given.network, picture, input_size=spatial, seed=seed, **options)
    except TypeError as error:  # a dtype that does not fit
        raise ValueError(str(error)) from None
