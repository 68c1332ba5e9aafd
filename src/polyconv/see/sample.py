"""Small whole numbers to draw with, so that every sum can be followed in the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from polyconv.geometry import Axis, product
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Pool, Sizes
from polyconv.network import Network
from polyconv.run.problem import Array

LARGEST_ARRAY = 1_000_000
LARGEST_SIDE = 12
FEWEST_OUTPUTS = 3


def sample_input(shape: Sizes, seed: int) -> Array:
    """Whole numbers from 0 to 3, as (channels, *spatial)."""
    return np.random.default_rng([seed, 0]).integers(0, 4, shape).astype(np.float64)


def sample_weights(network: Network, in_channels: int, ndim: int, seed: int) -> dict[str, Array]:
    """Whole numbers: kernels from -1 to 2, biases from -1 to 2, batch norms from 1 to 2."""
    random = np.random.default_rng([seed, 1])
    shapes = network.parameters(in_channels, ndim)
    largest = max((product(shape) for shape in shapes.values()), default=0)
    if largest > LARGEST_ARRAY:
        raise ValueError(
            f"the largest weight has {largest:,} numbers, a drawing takes at most {LARGEST_ARRAY:,}. "
            "Draw fewer channels: the geometry is the same"
        )
    found: dict[str, Array] = {}
    for name, shape in shapes.items():
        made = random.integers(-1, 3, shape).astype(np.float64)
        if name.endswith(("running_var", "running_mean")) or (name.endswith("weight") and len(shape) == 1):
            made = np.maximum(made, 1)  # a batch norm that neither divides by nothing nor forgets its input
        found[name] = made
    return found


def given_weights(weights: Mapping[str, Any], shapes: Mapping[str, Sizes]) -> dict[str, Array]:
    """The caller's weights as float64, after checking names and shapes."""
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a mapping from name to array, got {type(weights).__name__}")
    if set(weights) != set(shapes):
        raise ValueError(f"weights must be named {', '.join(shapes) or '(none)'}; got {', '.join(map(str, weights))}")
    found = {name: real_array(weights[name], name) for name in shapes}
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ValueError(f"{name} has shape {found[name].shape}, expected {shape}")
    return found


def real_array(value: Any, name: str) -> Array:
    """Any array of real numbers as float64."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} of type {type(value).__name__} cannot be read as an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite numbers: a drawing needs finite ones. Replace them first")
    return array.astype(np.float64)


def first_channels(network: Network) -> int:
    """Input channels for a drawing where none are given: the fewest that fit, and two for a depthwise layer."""
    first = next((n.layer for n in network.nodes if isinstance(n.layer, Conv | ConvTranspose)), None)
    least = 2 if isinstance(first, Conv) and first.depthwise else 1
    if isinstance(first, Conv | ConvTranspose) and first.groups:
        least = first.groups
    count: int
    for count in (least, *range(1, 65)):
        try:
            network.channels(count)
        except ValueError:
            continue
        return count
    raise ValueError("no number of input channels up to 64 fits this network. Pass in_channels")


def first_size(network: Network) -> Sizes:
    """An input size for a drawing where none is given: the smallest whose last output has three positions an axis."""
    ndim, channels = network.ndim or 2, first_channels(network)
    fitting = None
    for side in range(1, LARGEST_SIDE + 1):
        try:
            out = network.out_shape((1, channels, *(side,) * ndim))[2:]
        except ValueError:
            continue
        fitting = (side,) * ndim
        if min(out) >= FEWEST_OUTPUTS and side > 2 and side >= _widest(network):
            return fitting
        if any(isinstance(node.layer, GlobalPool) for node in network.nodes) and side >= 4:
            return fitting
    if fitting is None:
        raise ValueError(f"no input size up to {LARGEST_SIDE} along each axis fits this network. Pass input_size")
    return fitting


def _widest(network: Network) -> int:
    """The largest span of a window, so that one fits inside the input's real data."""
    rank = network.ndim or 2
    spans: list[int] = [1]
    for layer in (node.layer for node in network.nodes):
        if isinstance(layer, Conv | Pool):
            windows = zip(layer.kernel_for(rank), layer.dilations_for(rank), strict=True)
            spans += [Axis(kernel, dilation=dilation).span for kernel, dilation in windows]
    widest: int = max(spans)
    return min(widest, LARGEST_SIDE)
