"""What is timed: a chain of layers on an input of a known size, in a form every library's adapter can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np

from polyconv._checks import per_axis
from polyconv.layers import Activation, Conv, ConvTranspose, GlobalPool, Identity, Pool
from polyconv.network import Network, Node
from polyconv.notation import network
from polyconv.run.lower import problem_of, sizes_of
from polyconv.run.problem import Array, Op, Pads

Weights = tuple[Array | None, Array | None]  # (weight, bias) of a step, as torch.nn.functional shapes them


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a chain. Weights are shaped as in ``torch.nn.functional``; padding is (before, after) per axis."""

    op: Op
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

    @property
    def is_pool(self) -> bool:
        """Whether the step has no weights."""
        return self.op in ("max_pool", "avg_pool")

    @property
    def is_depthwise(self) -> bool:
        """Whether every group reads one input channel."""
        return not self.is_pool and self.groups == self.in_channels and self.groups > 1

    @property
    def symmetric(self) -> bool:
        """Whether every axis is padded alike before and after, and never cropped."""
        return all(before == after >= 0 for before, after in self.padding)

    def weight_shape(self) -> tuple[int, ...] | None:
        """Shape of the weight array, or None for pooling."""
        if self.is_pool:
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
    """A chain of steps on one input shape (batch, channels, *spatial), and the same in notation."""

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
    """The case of a network that is one chain of convolutions and pooling.

    Args:
        notation: the network, or its text.
        shape: of the input, (batch, channels, *spatial).
        name: what tables call it; the notation if not given.

    Raises:
        ValueError: the network does not parse, does not fit the shape, or is more than such a chain.

    Example:
        >>> case = case_of("conv 3x3 64 same relu | maxpool 2x2", (1, 3, 32, 32))
        >>> [step.op for step in case.steps], case.steps[0].padding
        (['conv', 'max_pool'], ((1, 1), (1, 1)))
    """
    chain = network(notation) if isinstance(notation, str) else notation
    in_shape = tuple(shape)
    shapes = (in_shape, *chain.shapes(in_shape))
    steps: list[Step] = []
    for index, node in enumerate(chain.nodes):
        if node.inputs != (index - 1,):
            raise ValueError(
                f"stage {node.name} joins branches; only chains of layers are timed beside other libraries"
            )
        if isinstance(node.layer, Activation) and steps and steps[-1].activation is None and not steps[-1].is_pool:
            steps[-1] = replace(steps[-1], activation=node.layer.name)
        elif not isinstance(node.layer, Identity):
            steps.append(_step(node, shapes[index]))
    if not steps:
        raise ValueError(f"{chain!s} has no convolution or pooling to time")
    return Case(name or str(chain), str(chain), in_shape, tuple(steps))


def _step(node: Node, in_shape: tuple[int, ...]) -> Step:
    spatial = in_shape[2:]
    layer = node.layer.pool(spatial) if isinstance(node.layer, GlobalPool) else node.layer
    if not isinstance(layer, Conv | ConvTranspose | Pool):
        what = type(layer).__name__.lower()
        raise ValueError(
            f"stage {node.name} ({what}) is not timed beside other libraries: use convolutions and pooling"
        )
    if isinstance(layer, Conv) and layer.padding_mode != "zeros":
        raise ValueError(f"stage {node.name} pads by {layer.padding_mode!r}: other libraries take zeros")
    if isinstance(layer, Pool) and layer.ceil_mode:
        raise ValueError(
            f"stage {node.name} rounds its size up (ceil_mode): libraries differ there, use padding instead"
        )
    problem = problem_of(layer, in_shape[1], len(spatial), "float32", "channels_first")
    padding, out_size = sizes_of(layer, spatial)
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
        terms = step.in_channels // step.groups * prod(step.kernel)
        weights.append((draw(shape, terms**-0.5), draw((step.out_channels,), 0.1) if step.bias else None))
    return x, weights


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
