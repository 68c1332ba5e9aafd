"""From a network and an input's size to a scene: what is in the picture, with no pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from polyconv._checks import choice, flag, per_axis, whole
from polyconv.geometry import product
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Identity, Layer, Pool, Sizes
from polyconv.network import INPUT, Join, Network, Node
from polyconv.run.lower import problem_of, sizes_of
from polyconv.run.numpy_engine import NumpyEngine
from polyconv.run.problem import Array
from polyconv.see import choose, sample
from polyconv.see import numbers as text
from polyconv.see.parts import MAX_FRAMES, Frame, Scene, Step
from polyconv.see.pointwise import Pointwise
from polyconv.see.slide import Sliding, make_step
from polyconv.see.stamp import Stamping

VIEWS = ("stamp", "slide")
DEFAULT_FRAMES = 200
MAX_STEPS = 12


class Maker(Protocol):
    """What can give the frames of one step."""

    def frames(self, step: int, kept: list[int]) -> Any:
        """The frames of these numbers."""
        ...


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A node with its inputs, result and weights."""

    node: Node
    inputs: tuple[Array, ...]
    y: Array
    weights: dict[str, Array]


def scene(
    network: Network,
    input_size: Sizes | int | None = None,
    in_channels: int | None = None,
    *,
    x: Any = None,
    weights: Mapping[str, Any] | None = None,
    seed: int = 0,
    view: Literal["stamp", "slide"] = "stamp",
    flip: bool = False,
    max_frames: int = DEFAULT_FRAMES,
    max_channels: int = choose.MAX_CHANNELS,
) -> Scene:
    """What a drawing of ``network`` shows.

    Args:
        network: what is drawn.
        input_size: positions along each axis; a small one that fits if not given.
        in_channels: channels of the input; the fewest that fit if not given.
        x: the input as (channels, *spatial); small whole numbers if not given.
        weights: arrays under the names of ``Network.parameters``; small whole numbers if not given.
        seed: of the numbers that are not given.
        view: how a transposed convolution is drawn: "stamp" (each input stamps the kernel) or "slide" (a window
            over the input with zeros in between).
        flip: whether convolutions are those of mathematics, which flip the kernel before it slides.
        max_frames: of more moments, only every second, third, ... is shown, and the picture says so.
        max_channels: of more channels, only the first are drawn, and the picture says how many more there are.

    Raises:
        ValueError: for sizes that do not fit or would need too many cells.

    Example:
        >>> from polyconv import network
        >>> made = scene(network("conv 3x3 1 nobias"), (5, 5))
        >>> len(made.frames), made.steps[0].out_shape
        (9, (1, 3, 3))
    """
    choice(view, VIEWS, "view")
    flag(flip, "flip")
    whole(max_frames, "max_frames")
    whole(max_channels, "max_channels")
    if max_frames > MAX_FRAMES:
        raise ValueError(f"max_frames is {max_frames:,}, a film has at most {MAX_FRAMES:,} frames")
    given = _input(network, input_size, in_channels, x, seed)
    arrays = _weights(network, weights, given.shape, seed)
    if flip:
        arrays = _flipped(network, arrays)
    drawn = _run(network, given, arrays)
    made = [_make(item, view, max_channels, flip) for item in drawn]
    every, kept = choose.kept([step.moments for step, _ in made], max_frames)
    steps = tuple(step for step, _ in made)

    def frames() -> Iterator[Frame]:
        for index, ((_, maker), numbers) in enumerate(zip(made, kept, strict=True)):
            yield from maker.frames(index, numbers)

    values = (given, *(item.y for item in drawn))
    shown, total = sum(map(len, kept)), sum(step.moments for step in steps)
    notes = () if every == 1 else (f"{shown} of {total:,} steps are shown",)
    return Scene(str(network) + (", kernel flipped" if flip else ""), steps, values, frames, notes)


def _input(network: Network, input_size: Any, in_channels: Any, x: Any, seed: int) -> Array:
    """The input as (channels, *spatial), checked."""
    whole(seed, "seed", 0)
    if x is not None:
        array = sample.real_array(x, "x")
        rank = network.ndim or array.ndim - 1
        if array.ndim == rank and (in_channels in (None, 1)):
            array = array[None]
        if array.ndim != rank + 1 or rank < 1:
            raise ValueError(f"x must be (channels, *spatial) with {rank} spatial axes, got shape {array.shape}")
        for wanted, got, name in (
            (input_size, array.shape[1:], "input_size"),
            (in_channels, len(array), "in_channels"),
        ):
            if wanted is not None and _plain(wanted) != _plain(got):
                raise ValueError(f"x has {name} {got}, the argument says {wanted}. Leave one of them out")
    else:
        channels = sample.first_channels(network) if in_channels is None else whole(in_channels, "in_channels")
        spatial = _spatial(network, input_size)
        _refuse_volume((channels, *spatial), "the input")
        array = sample.sample_input((channels, *spatial), seed)
    _refuse_volume(array.shape, "the input")
    if len(array.shape) > 4:
        raise ValueError(f"a drawing shows 1, 2 or 3 spatial axes, the input has {len(array.shape) - 1}")
    for shape in network.shapes((1, *array.shape)):
        _refuse_volume(shape, "an output")
    return array


def _plain(value: Any) -> Any:
    return tuple(value) if not isinstance(value, int) else value


def _spatial(network: Network, input_size: Any) -> Sizes:
    if input_size is None:
        return sample.first_size(network)
    rank = network.ndim or (2 if isinstance(input_size, int) else len(tuple(input_size)))
    return per_axis(input_size, rank, "input_size")


def _refuse_volume(shape: Sizes, what: str) -> None:
    if product(shape) > sample.LARGEST_ARRAY:
        raise ValueError(
            f"{what} of shape {shape} has {product(shape):,} numbers, a drawing takes at most "
            f"{sample.LARGEST_ARRAY:,}. Draw a smaller input_size or fewer channels: the arithmetic is the same"
        )


def _weights(network: Network, weights: Mapping[str, Any] | None, shape: Sizes, seed: int) -> dict[str, Array]:
    rank = len(shape) - 1
    if weights is None:
        return sample.sample_weights(network, shape[0], rank, seed)
    return sample.given_weights(weights, network.parameters(shape[0], rank))


def _flipped(network: Network, arrays: dict[str, Array]) -> dict[str, Array]:
    """The weights with every convolution's kernel reversed along its spatial axes: correlating with it convolves."""
    names = [f"{node.name}.weight" for node in network.nodes if isinstance(node.layer, Conv)]
    if not names:
        raise ValueError(f"flip is for convolutions, {network} has none (a transposed one never flips its kernel)")
    return {name: np.flip(a, tuple(range(2, a.ndim))) if name in names else a for name, a in arrays.items()}


def _run(network: Network, x: Array, arrays: dict[str, Array]) -> list[_Drawn]:
    """Every node's result, by the operators themselves."""
    busy = [node for node in network.nodes if not isinstance(node.layer, Identity)]
    if len(busy) > MAX_STEPS:
        raise ValueError(f"the network has {len(busy)} layers, a drawing shows at most {MAX_STEPS}. Draw a part of it")
    found: list[_Drawn] = []
    values: dict[int, Array] = {INPUT: x}
    for index, node in enumerate(network.nodes):
        inputs = tuple(values[number] for number in node.inputs)
        own = {key: arrays[f"{node.name}.{key}"] for key in node.layer.parameters(len(inputs[0]), x.ndim - 1)}
        values[index] = y = _result(node.layer, inputs, own)
        if not isinstance(node.layer, Identity) or len(network.nodes) == 1:
            found.append(_Drawn(node, inputs, y, own))
    return found


def _result(layer: Layer, inputs: tuple[Array, ...], own: dict[str, Array]) -> Array:
    """One layer's output for (channels, *spatial)."""
    if isinstance(layer, Join):
        return np.sum(inputs, axis=0) if layer.kind == "add" else np.concatenate(inputs)
    x = inputs[0]
    if not isinstance(layer, Conv | ConvTranspose | Pool):
        y: Array = Network((layer,)).bind({f"0.{key}": value for key, value in own.items()})(x[None])[0]
        return y
    from polyconv.reference import pad_with

    padding, out_size = sizes_of(layer, x.shape[1:])
    problem = problem_of(layer, len(x), x.ndim - 1, "float64", "channels_first")
    run = NumpyEngine().prepare(problem, own.get("weight"), own.get("bias"))
    if isinstance(layer, Conv) and layer.padding_mode != "zeros":
        x, padding = pad_with(x[None], padding, layer.padding_mode)[0], ((0, 0),) * len(padding)
    result: Array = run(x[None], padding, out_size)[0]
    return result


def _make(item: _Drawn, view: str, most: int, flip: bool) -> tuple[Step, Maker]:
    """The step of one node, and what gives its frames."""
    layer, x, y = item.node.layer, item.inputs[0], item.y
    weight, bias = item.weights.get("weight"), item.weights.get("bias")
    line = _line(layer)
    if isinstance(layer, GlobalPool):
        layer = layer.pool(x.shape[1:])
    groups = _groups(layer, len(x))
    chosen = choose.shown(len(x), len(y), groups, most)
    notes = _more(len(x), len(chosen.inputs), "input") + _more(len(y), len(chosen.outputs), "output")
    if isinstance(layer, ConvTranspose) and view == "stamp" and weight is not None:
        stamping = Stamping(layer, layer.axes(x.shape[1:]), x, y, weight, bias, chosen)
        return stamping.step(item.node.name, line, notes), stamping
    if isinstance(layer, ConvTranspose) and weight is not None:
        sliding = _turned(layer, x, y, weight, bias, chosen)
        notes = ("the kernel is flipped, and the input has zeros put in between", *notes)
        return make_step(sliding, item.node.name, line, notes, True), sliding
    if isinstance(layer, Conv | Pool):
        sliding = Sliding(layer, layer.axes(x.shape[1:]), x, y, weight, bias, groups, chosen)
        flipped = flip and isinstance(layer, Conv)
        notes = (*notes, *_about_flip(weight)) if flipped and weight is not None else notes
        return make_step(sliding, item.node.name, line, notes, flipped), sliding
    outputs = chosen.outputs
    if isinstance(layer, Join) and layer.kind == "concat":
        outputs = _of_each([len(branch) for branch in item.inputs], most)
    pointwise = Pointwise(layer, item.inputs, y, item.weights, outputs)
    return pointwise.step(item.node.name, line, _more(len(y), len(outputs), "output")), pointwise


def _about_flip(flipped: Array) -> tuple[str, ...]:
    """What a flipped kernel was before, where it is small enough to be said."""
    said = "convolution as in mathematics: the kernel is flipped along every axis; deep learning does not flip"
    if flipped.size > 9 or flipped.shape[:2] != (1, 1):
        return (said,)
    before = np.flip(flipped, tuple(range(2, flipped.ndim)))[0, 0]
    return (said, f"the kernel before it was flipped: {_listed(before)}")


def _listed(values: Array) -> str:
    inside = [_listed(value) if value.ndim else text.number(float(value)) for value in values]
    return f"[{', '.join(inside)}]"


def _turned(
    layer: ConvTranspose, x: Array, y: Array, weight: Array, bias: Array | None, chosen: choose.Shown
) -> Sliding:
    """A transposed layer as a window over the zero-stuffed input: the kernel flipped, its channels swapped."""
    axes, strides = layer.axes(x.shape[1:]), layer.strides_for(x.ndim - 1)
    places = zip(axes, x.shape[1:], y.shape[1:], strict=True)
    windows = tuple(axis.stuffed(size, out)[1] for axis, size, out in places)
    by_group = weight.reshape(layer.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    turned = by_group.reshape(len(y), -1, *weight.shape[2:])
    flipped = turned[(slice(None), slice(None), *(slice(None, None, -1),) * len(axes))]
    return Sliding(layer, windows, x, y, flipped, bias, layer.groups, chosen, strides)


def _groups(layer: Layer, channels: int) -> int:
    if isinstance(layer, Conv):
        return layer.groups_for(channels)
    return layer.groups if isinstance(layer, ConvTranspose) else (1 if isinstance(layer, Join) else channels)


def _of_each(counts: list[int], most: int) -> Sizes:
    """The first channels of every branch."""
    quota, starts = max(1, most // len(counts)), np.cumsum([0, *counts])
    return tuple(
        int(start) + c for start, count in zip(starts[:-1], counts, strict=True) for c in range(min(count, quota))
    )


def _more(count: int, drawn: int, side: str) -> tuple[str, ...]:
    """An honest note on the channels that are not drawn."""
    return (f"… and {count - drawn:,} more {side} channel{'s' if count - drawn > 1 else ''}",) if count > drawn else ()


def _line(layer: Layer) -> str:
    from polyconv.notation import render

    return layer.kind if isinstance(layer, Join) else render((layer,))
