"""What is timed: layers in a row or in branches, on an input of a known size, in a form every adapter can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from polyconv._checks import per_axis
from polyconv.layers import Activation, BatchNorm, Conv, ConvTranspose, GlobalPool, Identity, Pool, Upsample
from polyconv.network import INPUT, Join, Network, Node
from polyconv.notation import network
from polyconv.run.lower import WINDOWED, Windowed, problem_of, sizes_of
from polyconv.run.problem import Array, Op, Pads

Weights = tuple[Array | None, Array | None]  # (weight, bias) of a step, as torch.nn.functional shapes them
Between = Literal["add", "concat", "upsample", "affine", "activate"]  # affine: x * weight + bias, channel by channel


@dataclass(frozen=True, slots=True)
class Step:
    """One layer. Weights are shaped as in ``torch.nn.functional``; padding is (before, after) per axis.

    ``inputs`` are the numbers of the steps it reads, `INPUT` for the case's own input. The ``stride`` of an upsampling
    is its scale. ``arrays`` are the names that its weight and bias have in the network's weights.
    """

    op: Op | Between
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pads
    dilation: tuple[int, ...]
    out_size: tuple[int, ...]
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    bias: bool = False
    activation: str | None = None
    count_include_pad: bool = True  # avg_pool only
    inputs: tuple[int, ...] = (INPUT,)
    arrays: tuple[str | None, str | None] = (None, None)
    whole: bool = False  # pooling over all positions

    @property
    def is_pool(self) -> bool:
        """Whether the step takes the largest or the mean of a window."""
        return self.op in ("max_pool", "avg_pool")

    @property
    def is_conv(self) -> bool:
        """Whether the step is a convolution, transposed or not."""
        return self.op in ("conv", "conv_transpose")

    @property
    def is_depthwise(self) -> bool:
        """Whether every group reads one input channel."""
        return self.is_conv and self.groups == self.in_channels and self.groups > 1

    @property
    def symmetric(self) -> bool:
        """Whether every axis is padded alike before and after, and never cropped."""
        return all(before == after >= 0 for before, after in self.padding)

    def weight_shape(self) -> tuple[int, ...] | None:
        """Shape of the weight array, or None for a step without."""
        if self.op == "affine":
            return (self.out_channels,)
        if not self.is_conv:
            return None
        outer, inner = self.out_channels, self.in_channels
        if self.op == "conv_transpose":
            outer, inner = inner, outer
        return (outer, inner // self.groups, *self.kernel)

    def lifted(self) -> Step:
        """A 1-D step as the 2-D step of height 1 that computes the same; others unchanged."""
        if len(self.kernel) != 1:
            return self
        return replace(
            self,
            kernel=(1, *self.kernel),
            stride=(1, *self.stride),
            dilation=(1, *self.dilation),
            padding=((0, 0), *self.padding),
            out_size=(1, *self.out_size),
            output_padding=(0, *self.output_padding) if self.output_padding else (),
        )


@dataclass(frozen=True, slots=True)
class Case:
    """Steps on one input shape (batch, channels, *spatial), whose last gives the result; and the same in notation."""

    name: str
    notation: str
    shape: tuple[int, ...]
    steps: tuple[Step, ...]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.shape) - 2

    @property
    def kind(self) -> str:
        """The part of the name before the slash: rows of a table are averaged by kind."""
        return self.name.split("/")[0]

    @property
    def is_chain(self) -> bool:
        """Whether every step reads the one before it."""
        return all(step.inputs == (number - 1,) for number, step in enumerate(self.steps))

    def last_uses(self) -> list[tuple[int, ...]]:
        """For each step, the values (`INPUT` is one) that nothing reads after it."""
        last = {source: number for number, step in enumerate(self.steps) for source in step.inputs}
        return [tuple(s for s, when in last.items() if when == number) for number in range(len(self.steps))]

    def evaluate(self, x: Any, apply: Callable[[int, Step, list[Any]], Any]) -> Any:
        """The last step's value, where ``apply(number, step, values of its inputs)`` gives each."""
        values = {INPUT: x}
        for number, (step, done) in enumerate(zip(self.steps, self.last_uses(), strict=True)):
            values[number] = apply(number, step, [values[source] for source in step.inputs])
            for source in done:
                del values[source]
        return values[len(self.steps) - 1]

    def lifted(self) -> Case:
        """A 1-D case as the 2-D case of height 1 that computes the same; others unchanged."""
        if self.ndim != 1:
            return self
        batch, channels, width = self.shape
        return replace(self, shape=(batch, channels, 1, width), steps=tuple(step.lifted() for step in self.steps))

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads them back."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Case:
        """The case that ``to_json`` wrote."""
        steps = tuple(Step(**{name: _frozen(value) for name, value in step.items()}) for step in data["steps"])
        return Case(data["name"], data["notation"], tuple(data["shape"]), steps)


def case_of(notation: str | Network, shape: Sequence[int], name: str = "") -> Case:
    """The case of a network.

    A batch norm is folded into the convolution before it, where nothing else reads that: for all libraries alike, as
    one does before inference. What is left of it is a bias.

    Args:
        notation: the network, or its text.
        shape: of the input, (batch, channels, *spatial).
        name: what tables call it; the notation if not given.

    Raises:
        ValueError: the network does not parse, does not fit the shape, has nothing to time, or a layer that libraries
            do not agree on.

    Example:
        >>> case = case_of("conv 3x3 64 same relu | maxpool 2x2", (1, 3, 32, 32))
        >>> [step.op for step in case.steps], case.steps[0].padding
        (['conv', 'max_pool'], ((1, 1), (1, 1)))
        >>> [step.inputs for step in case_of("add(conv 3x3 8 same, identity) | relu", (1, 8, 9, 9)).steps]
        [(-1,), (0, -1)]
    """
    net = network(notation) if isinstance(notation, str) else notation
    in_shape = tuple(shape)
    shapes = (in_shape, *net.shapes(in_shape))
    origin = {INPUT: INPUT}  # of a node's value: the node that computes it
    for index, node in enumerate(net.nodes):
        origin[index] = origin[node.inputs[0]] if isinstance(node.layer, Identity) else index
    readers = Counter(origin[n] for node in net.nodes if not isinstance(node.layer, Identity) for n in node.inputs)
    steps: list[Step] = []
    made = {INPUT: INPUT}  # a node -> the step that gives its value
    for index, node in enumerate(net.nodes):
        before = origin[node.inputs[0]]
        inputs = tuple(made[origin[number]] for number in node.inputs)
        alone = before != INPUT and readers[before] == 1
        merged = _merged(steps[inputs[0]], node) if alone else None
        if merged is not None:
            steps[inputs[0]] = merged
        elif not isinstance(node.layer, Identity):
            steps.append(_step(node, shapes[node.inputs[0] + 1], shapes[index + 1], inputs))
        made[index] = inputs[0] if merged is not None or isinstance(node.layer, Identity) else len(steps) - 1
    if not any(step.is_conv or step.is_pool for step in steps):
        raise ValueError(f"{net!s} has no convolution or pooling to time")
    return Case(name or str(net), str(net), in_shape, tuple(steps))


def _merged(step: Step, node: Node) -> Step | None:
    """The step that does a node's work as well, for an activation or a batch norm that alone reads it."""
    if step.activation is not None:
        return None
    if isinstance(node.layer, Activation):
        return replace(step, activation=node.layer.name)
    if isinstance(node.layer, BatchNorm) and step.is_conv:
        return replace(step, bias=True, arrays=(step.arrays[0], step.arrays[1] or f"{node.name}.bias"))
    return None


def _step(node: Node, in_shape: tuple[int, ...], out_shape: tuple[int, ...], inputs: tuple[int, ...]) -> Step:
    layer = node.layer
    if isinstance(layer, GlobalPool):
        return replace(_windowed(node.name, layer.pool(in_shape[2:]), in_shape), inputs=inputs, whole=True)
    if isinstance(layer, WINDOWED):
        return replace(_windowed(node.name, layer, in_shape), inputs=inputs)
    ones = (1,) * (len(in_shape) - 2)
    plain = Step(
        "add", in_shape[1], out_shape[1], ones, ones, ((0, 0),) * len(ones), ones, out_shape[2:], inputs=inputs
    )
    if isinstance(layer, Join):
        return replace(plain, op=layer.kind)
    if isinstance(layer, Upsample):
        return replace(plain, op="upsample", stride=layer.scales_for(len(ones)))
    if isinstance(layer, Activation):
        return replace(plain, op="activate", activation=layer.name)
    if isinstance(layer, BatchNorm):
        return replace(plain, op="affine", bias=True, arrays=(f"{node.name}.weight", f"{node.name}.bias"))
    raise ValueError(f"stage {node.name} ({type(layer).__name__.lower()}) is not timed beside other libraries")


def _windowed(name: str, layer: Windowed, in_shape: tuple[int, ...]) -> Step:
    spatial = in_shape[2:]
    padding, out_size = sizes_of(layer, spatial)
    if isinstance(layer, Conv) and layer.padding_mode != "zeros":
        raise ValueError(f"stage {name} pads by {layer.padding_mode!r}: other libraries take zeros")
    if (
        isinstance(layer, Pool)
        and layer.ceil_mode
        and sizes_of(replace(layer, ceil_mode=False), spatial)[1] != out_size
    ):
        raise ValueError(f"stage {name} rounds its size up (ceil_mode): libraries differ there, use padding instead")
    problem = problem_of(layer, in_shape[1], len(spatial), "float32", "channels_first")
    weighted = not isinstance(layer, Pool)
    return Step(
        op=problem.op,
        in_channels=problem.in_channels,
        out_channels=problem.out_channels,
        kernel=problem.kernel_size,
        stride=problem.stride,
        padding=padding,
        dilation=problem.dilation,
        out_size=out_size,
        groups=problem.groups,
        output_padding=per_axis(layer.output_padding, len(spatial), "output_padding", minimum=0)
        if isinstance(layer, ConvTranspose)
        else (),
        bias=problem.bias,
        activation=problem.activation,
        count_include_pad=problem.count_include_pad,
        arrays=(f"{name}.weight" if weighted else None, f"{name}.bias" if problem.bias else None),
    )


def sample_arrays(case: Case, seed: int = 0) -> tuple[Array, list[Weights]]:
    """An input and weights for a case: float32, normal, scaled so that every layer's output stays near 1.

    Returns:
        x of ``case.shape``, and (weight, bias) for every step (None where it has none).
    """
    rng = np.random.default_rng(seed)

    def draw(shape: Sequence[int], scale: float) -> Array:
        return (rng.standard_normal(tuple(shape), dtype=np.float32) * np.float32(scale)).astype(np.float32)

    x = draw(case.shape, 1.0)
    weights: list[Weights] = []
    for step in case.steps:
        shape = step.weight_shape()
        if shape is None:
            weights.append((None, None))
            continue
        if step.op == "affine":
            weights.append((1 + draw(shape, 0.1), draw(shape, 0.1)))
            continue
        terms = step.in_channels // step.groups * prod(step.kernel)
        weights.append((draw(shape, terms**-0.5), draw((step.out_channels,), 0.1) if step.bias else None))
    return x, weights


def named_arrays(case: Case, weights: Sequence[Weights]) -> dict[str, Array]:
    """The weights of a case by the names they have in its network; batch norms that were folded do nothing more."""
    net = network(case.notation)
    named = dict(net.weights(in_channels=case.shape[1], seed=0))
    for node in net.nodes:
        if isinstance(node.layer, BatchNorm):
            one = np.ones_like(named[f"{node.name}.weight"])
            variance = (1 - BatchNorm.eps) * one
            own = {"weight": one, "bias": 0 * one, "running_mean": 0 * one, "running_var": variance.astype(one.dtype)}
            named |= {f"{node.name}.{key}": array for key, array in own.items()}
    for step, pair in zip(case.steps, weights, strict=True):
        named |= {name: array for name, array in zip(step.arrays, pair, strict=True) if name and array is not None}
    return named


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
