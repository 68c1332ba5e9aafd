"""Weights by name: random ones to try a network with, and checking what callers pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from polyconv._checks import did_you_mean, dtype_name, whole
from polyconv.geometry import product
from polyconv.layers import BatchNorm, Conv, ConvTranspose
from polyconv.network import INPUT, Join, Network
from polyconv.run.arrays import DTYPES, as_array, same_dtype
from polyconv.run.problem import Array


def random_weights(network: Network, in_channels: int, *, seed: int, dtype: Any, ndim: int | None) -> dict[str, Array]:
    """He-normal kernels, small uniform biases, neutral batch norms; the same seed gives the same arrays."""
    dtype = dtype_name(dtype, DTYPES)
    random = np.random.default_rng(whole(seed, "seed", 0))
    found: dict[str, Array] = {}
    for name, shape in network.parameters(in_channels, ndim).items():
        if name.endswith((".running_mean", ".running_var")):
            found[name] = np.full(shape, float(name.endswith("var")), dtype)
        elif name.endswith(".weight") and len(shape) > 1:
            fan_in = product(shape[1:])
            found[name] = random.normal(0, (2 / fan_in) ** 0.5, shape).astype(dtype)
        elif name.endswith(".weight"):
            found[name] = np.ones(shape, dtype)
        else:
            found[name] = random.uniform(-0.1, 0.1, shape).astype(dtype)
    return found


def checked_weights(network: Network, weights: Mapping[str, Any]) -> tuple[dict[str, Array], int | None]:
    """The weights as arrays, and the network's input channels that they imply (None where any fit).

    Raises:
        ValueError: for names missing or unknown and shapes that do not fit.
        TypeError: for dtypes other than one of float32 or float64.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a mapping from name to array, got {type(weights).__name__}")
    arrays = {name: as_array(value, name) for name, value in weights.items()}
    _check_names(network, arrays)
    same_dtype(arrays, weights)
    in_channels = _implied_channels(network, arrays)
    if in_channels is None:
        return arrays, None
    ndim = network.ndim or max(array.ndim for array in arrays.values()) - 2
    for name, shape in network.parameters(in_channels, max(ndim, 1)).items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name} has shape {arrays[name].shape}, expected {shape} "
                f"for {in_channels} input channels of the network"
            )
    return arrays, in_channels


def _check_names(network: Network, arrays: dict[str, Array]) -> None:
    expected = [
        f"{node.name}.{key}" for node in network.nodes for key in node.layer.parameters(_some_channels(node.layer), 1)
    ]
    missing = [name for name in expected if name not in arrays]
    unknown = [name for name in arrays if name not in expected]
    if missing or unknown:
        hint = did_you_mean(unknown[0], missing) if unknown else ""
        raise ValueError(
            f"weights do not match the network: missing {missing[:5] or 'none'}, "
            f"unknown {unknown[:5] or 'none'}{hint}. "
            f"Expected names: {', '.join(expected[:8])}{', ...' if len(expected) > 8 else ''}"
        )


def _some_channels(layer: object) -> int:
    """A number of input channels that a layer's groups divide."""
    return (layer.groups or 1) if isinstance(layer, Conv | ConvTranspose) else 1


def _implied_channels(network: Network, arrays: dict[str, Array]) -> int | None:
    """The network's input channels, from the first weights that see a multiple of them."""
    flowing: dict[int, tuple[int, int]] = {INPUT: (1, 0)}  # channels = first * in_channels + second
    for index, node in enumerate(network.nodes):
        factor, constant = flowing[node.inputs[0]]
        weight = arrays.get(f"{node.name}.weight")
        if weight is not None and factor:
            channels = _channels_seen(node.layer, weight)
            found, rest = divmod(channels - constant, factor)
            if rest or found < 1:
                raise ValueError(f"{node.name}.weight of shape {weight.shape} fits no number of input channels")
            return found
        flowing[index] = _channels_after(node.layer, [flowing[number] for number in node.inputs])
    return None


def adjoint(weight: Array, groups: int) -> Array:
    """The weights of the convolution that a transposed one of stride 1 is: (in, out / groups, *kernel), flipped.

    Returns:
        (out, in / groups, *kernel).

    Example:
        >>> adjoint(np.arange(6.0).reshape(1, 2, 3), groups=1)
        array([[[2., 1., 0.]],
        <BLANKLINE>
               [[5., 4., 3.]]])
    """
    inputs, each, *kernel = weight.shape
    split = weight.reshape(groups, inputs // groups, each, *kernel).swapaxes(1, 2)
    return np.flip(split.reshape(groups * each, inputs // groups, *kernel), axis=tuple(range(2, weight.ndim)))


def _channels_seen(layer: object, weight: Array) -> int:
    """The input channels of a layer with this weight."""
    if isinstance(layer, BatchNorm) or weight.ndim < 3:
        return int(weight.shape[0]) if weight.ndim else 0
    if isinstance(layer, Conv):
        return int(weight.shape[0]) // layer.multiplier if layer.groups is None else int(weight.shape[1]) * layer.groups
    return int(weight.shape[0])


def _channels_after(layer: object, inputs: list[tuple[int, int]]) -> tuple[int, int]:
    """Output channels as (factor, constant) of the network's input channels."""
    if isinstance(layer, Join) and layer.kind == "concat":
        return (sum(factor for factor, _ in inputs), sum(constant for _, constant in inputs))
    if isinstance(layer, Conv) and layer.out_channels is None:
        return (inputs[0][0] * layer.multiplier, inputs[0][1] * layer.multiplier)
    if isinstance(layer, Conv | ConvTranspose):
        return (0, layer.out_channels or 0)
    return inputs[0]
