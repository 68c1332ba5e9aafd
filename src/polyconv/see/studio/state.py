"""What the studio shows, as the address says it: a network, its input, and how it is drawn. Bounded before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from polyconv._checks import choice
from polyconv.geometry import product
from polyconv.layers import Conv, ConvTranspose, Layer, Pool, Sizes, Upsample
from polyconv.network import Network
from polyconv.notation import NotationError, network
from polyconv.see import sample
from polyconv.see.size import sizes_in, with_channels

FIRST, FIRST_INPUT = "conv 3x3 2 padding 1", "1x5x5"
MAX_TEXT, MAX_LAYERS, MAX_AXES = 2000, 40, 3
MAX_SIDE, MAX_CHANNELS, MAX_POSITIONS = 4096, 16_384, 2**26
MAX_WINDOW = 128  # of a kernel, stride, dilation, padding or scale along an axis
MAX_UPSAMPLING = 64  # of all transposed and upsample strides together, along one axis


@dataclass(frozen=True)
class State:
    """One view of the studio.

    Args:
        text: the network as it was written.
        network: the network.
        in_shape: (channels, *spatial) of the input.
        view: how transposed layers are drawn.
        flip: whether convolutions are drawn with their kernels flipped.
        theme: the drawing's colours.
        seed: of the numbers in the drawing.
        stage: the stage that is being built.
        note: what was changed so that the input fits.
    """

    text: str
    network: Network
    in_shape: Sizes
    view: Literal["stamp", "slide"] = "stamp"
    flip: bool = False
    theme: Literal["light", "dark"] = "light"
    seed: int = 0
    stage: int = 0
    note: str = ""

    @property
    def input(self) -> str:
        """The input as the address has it."""
        return "x".join(map(str, self.in_shape))


def read_state(query: Mapping[str, str]) -> State:
    """The state that an address describes.

    Raises:
        ValueError: for text that is no network (with its caret), and for what is larger than the studio takes.

    Example:
        >>> read_state({"net": "conv 3x3 2", "input": "3x8x9"}).in_shape
        (3, 8, 9)
    """
    text = query.get("net", FIRST)
    if len(text) > MAX_TEXT:
        raise NotationError(f"the text has {len(text):,} characters, the studio reads at most {MAX_TEXT:,}")
    if not text.strip():
        raise NotationError("the text is empty. Write a network such as conv 3x3 2 padding 1")
    net = network(text)
    check_bounds(net)
    given, note = query.get("input", "" if "net" in query else FIRST_INPUT), ""
    try:
        in_shape = input_shape(net, given)
    except ValueError:
        if query.get("loose") != "1":
            raise
        in_shape, note = input_shape(net, ""), "the input was changed to one that fits"
    return State(
        text,
        net,
        in_shape,
        "slide" if choice(query.get("view", "stamp"), ("stamp", "slide"), "view") == "slide" else "stamp",
        choice(query.get("flip", "0"), ("0", "1"), "flip") == "1",
        "dark" if choice(query.get("theme", "light"), ("light", "dark"), "theme") == "dark" else "light",
        number(query, "seed", 9999),
        min(number(query, "stage", MAX_LAYERS), len(net) - 1),
        note,
    )


def number(query: Mapping[str, str], name: str, most: int) -> int:
    """A whole number of the address, from 0 to ``most``."""
    text = query.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise ValueError(f"{name} must be a whole number from 0 to {most:,}, got {text[:40]!r}")
    return int(text)


def input_shape(net: Network, text: str) -> Sizes:
    """The input (channels, *spatial) that a text such as "5x5" or "3x5x5" says; a small one that fits for none."""
    if not text:
        return (sample.first_channels(net), *sample.first_size(net))
    sizes = sizes_in(text, "the input")
    rank = max(1, min(len(sizes), MAX_AXES + 1) - 1)  # of an address, whose inputs have their channels
    channels, spatial = with_channels(net, sizes, "the input", rank)
    shape = (sample.first_channels(net) if channels is None else channels, *spatial)
    if 0 in shape:
        raise ValueError(f"the input {text} is empty. Every size must be 1 or more")
    if max(shape[1:]) > MAX_SIDE:
        raise ValueError(
            f"the input is {max(shape[1:]):,} along an axis, the studio takes at most {MAX_SIDE:,}. "
            "Use a smaller input: the arithmetic is the same"
        )
    if shape[0] > MAX_CHANNELS:
        raise ValueError(f"the input has {shape[0]:,} channels, the studio takes at most {MAX_CHANNELS:,}")
    if product(shape[1:]) > MAX_POSITIONS:
        raise ValueError(
            f"the input has {product(shape[1:]):,} positions, the studio takes at most {MAX_POSITIONS:,}. "
            "Use a smaller input"
        )
    return shape


def check_bounds(net: Network) -> None:
    """Refuse a network whose answer would take long; ValueError says what is too large."""
    if net.ndim is not None and net.ndim > MAX_AXES:
        raise ValueError(f"the network is {net.ndim}-D, the studio shows 1 to {MAX_AXES} axes")
    if len(net.nodes) > MAX_LAYERS:
        raise ValueError(
            f"the network has {len(net.nodes):,} layers, the studio takes at most {MAX_LAYERS}. "
            "polyconv count takes any number"
        )
    stretch = 1
    for node in net.nodes:
        largest, channels = _largest(node.layer, net.ndim or 1)
        if largest > MAX_WINDOW:
            raise ValueError(
                f"stage {node.name} ({node.text}) has {largest:,} on an axis, the studio takes {MAX_WINDOW}"
            )
        if channels > MAX_CHANNELS:
            raise ValueError(f"stage {node.name} has {channels:,} channels, the studio takes at most {MAX_CHANNELS:,}")
        if isinstance(node.layer, ConvTranspose):
            stretch *= max(node.layer.strides_for(net.ndim or 1))
        if isinstance(node.layer, Upsample):
            stretch *= max(node.layer.scales_for(net.ndim or 1))
    if stretch > MAX_UPSAMPLING:
        raise ValueError(f"the network upsamples by {stretch:,}, the studio takes at most {MAX_UPSAMPLING}")


def _largest(layer: Layer, ndim: int) -> tuple[int, int]:
    """The largest number along an axis, and the channels, that a layer says."""
    found: list[int] = [1]
    if isinstance(layer, Conv | ConvTranspose | Pool):
        found += [*layer.kernel_for(ndim), *layer.strides_for(ndim), *layer.dilations_for(ndim)]
        if not isinstance(layer.padding, str):
            found += [side for pair in layer._pairs(ndim) for side in pair]
    if isinstance(layer, Upsample):
        found += layer.scales_for(ndim)
    channels = [getattr(layer, name, None) or 1 for name in ("out_channels", "multiplier", "groups")]
    return max(found), max(channels)
