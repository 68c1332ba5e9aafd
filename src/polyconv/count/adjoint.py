"""Gradients of a network made linear: how strongly each input weighs in one output, the effective receptive field.

Activations pass on what they are given and a maximum counts as a mean; every other layer runs backwards as its exact
adjoint. Source: Luo, Li, Urtasun and Zemel, "Understanding the effective receptive field in deep convolutional neural
networks" (arXiv 1701.04128).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyconv import reference
from polyconv.count.matrix import divisors
from polyconv.layers import BatchNorm, Conv, ConvTranspose, GlobalPool, Layer, Pool, Sizes, Upsample
from polyconv.network import INPUT, Join, Network
from polyconv.run.lower import sizes_of
from polyconv.run.problem import Array

Weights = Mapping[str, Array]


def input_gradient(
    network: Network, in_shape: Sizes, node: int, gradient: Array, weights: Weights | None = None
) -> Array:
    """The gradient at the input, for one at the output of a node.

    Args:
        network: it is taken as linear: see the module.
        in_shape: (batch, channels, *spatial) of the input.
        node: the index in ``network.nodes`` of the node whose output ``gradient`` is for.
        gradient: (batch, channels, *spatial) of that node's output; where ``weights`` is None, one channel.
        weights: by name; None for uniform ones, where every path counts the same: then a layer is the mean over what
            it reads, and one channel stands for all.

    Returns:
        (batch, channels, *spatial) of the input; one channel where ``weights`` is None.

    Example:
        >>> import numpy as np
        >>> from polyconv import network
        >>> one = np.zeros((1, 1, 5)); one[0, 0, 2] = 1
        >>> input_gradient(network("conv 3 8 same"), (1, 4, 5), 0, one).round(2).tolist()
        [[[0.0, 0.33, 0.33, 0.33, 0.0]]]
    """
    shapes = (network.checked_input(in_shape), *network.shapes(in_shape))
    waiting: dict[int, Array] = {node: np.asarray(gradient, np.float64)}
    for index in range(node, -1, -1):
        found = waiting.pop(index, None)
        if found is None:
            continue
        before = network.nodes[index].inputs
        own = None if weights is None else _own(network, index, weights)
        for number, part in zip(before, _backwards(network, index, found, shapes, own), strict=True):
            waiting[number] = waiting[number] + part if number in waiting else part
    return waiting[INPUT]


def _own(network: Network, index: int, weights: Weights) -> dict[str, Array]:
    start = f"{network.nodes[index].name}."
    return {name[len(start) :]: np.asarray(array) for name, array in weights.items() if name.startswith(start)}


def _backwards(
    network: Network, index: int, gradient: Array, shapes: Sequence[Sizes], own: dict[str, Array] | None
) -> list[Array]:
    """The gradient at each input of a node."""
    node = network.nodes[index]
    sources = [shapes[number + 1] for number in node.inputs]
    if not isinstance(node.layer, Join):
        return [_through(node.layer, gradient, sources[0][1:], own)]
    if node.layer.kind == "add":
        return [gradient] * len(sources)
    counts = [shape[1] for shape in sources]
    if own is None:  # the next layer reads every channel alike: a branch weighs as many as it has
        return [gradient * (count / sum(counts)) for count in counts]
    return np.split(gradient, np.cumsum(counts)[:-1].tolist(), axis=1)


def _through(layer: Layer, gradient: Array, in_shape: Sizes, own: dict[str, Array] | None) -> Array:
    """The gradient at the one input of a layer, of shape (channels, *spatial)."""
    channels, *rest = in_shape
    spatial, rank = tuple(rest), len(rest)
    if isinstance(layer, GlobalPool):
        layer = layer.pool(spatial)
    if isinstance(layer, Pool):
        return _pooled(layer, gradient, spatial)
    if isinstance(layer, Upsample):
        for axis, scale in enumerate(layer.scales_for(rank), start=2):
            gradient = np.add.reduceat(gradient, range(0, gradient.shape[axis], scale), axis=axis)
        return gradient
    if isinstance(layer, BatchNorm) and own is not None:
        factor: Array = own["weight"] / np.sqrt(own["running_var"] + BatchNorm.eps)
        return gradient * factor.reshape(-1, *(1,) * rank)
    if not isinstance(layer, Conv | ConvTranspose):
        return gradient
    groups = layer.groups_for(channels) if isinstance(layer, Conv) else layer.groups
    weight = own["weight"].astype(np.float64) if own is not None else _uniform(layer, rank)
    return _convolved(layer, gradient, weight, groups if own is not None else 1, spatial)


def _uniform(layer: Conv | ConvTranspose, rank: int) -> Array:
    kernel = layer.kernel_for(rank)
    return np.full((1, 1, *kernel), 1 / np.prod(kernel))


def _convolved(layer: Conv | ConvTranspose, gradient: Array, weight: Array, groups: int, spatial: Sizes) -> Array:
    rank = len(spatial)
    pads, _ = sizes_of(layer, spatial)
    options: dict[str, Any] = {
        "stride": layer.strides_for(rank),
        "dilation": layer.dilations_for(rank),
        "groups": groups,
    }
    if isinstance(layer, ConvTranspose):
        return reference.conv(gradient, weight, padding=pads, out_size=spatial, **options)
    if layer.padding_mode == "zeros":
        return reference.conv_transpose(gradient, weight, padding=pads, out_size=spatial, **options)
    grown = tuple(size + sum(pad) for size, pad in zip(spatial, pads, strict=True))
    found = reference.conv_transpose(gradient, weight, padding=((0, 0),) * rank, out_size=grown, **options)
    return _folded(found, pads, layer.padding_mode)


def _folded(gradient: Array, pads: Any, mode: str) -> Array:
    """The adjoint of ``reference.pad_with``: what fell on a copied position goes to where it was copied from."""
    for number, pad in enumerate(pads):
        axis = number + 2
        size = gradient.shape[axis] - sum(pad)
        source = reference.pad_with(np.arange(size)[None, None], (pad,), mode)[0, 0]
        moved = np.moveaxis(gradient, axis, 0)
        total = np.zeros((size, *moved.shape[1:]))
        np.add.at(total, source, moved)
        gradient = np.moveaxis(total, 0, axis)
    return gradient


def _pooled(layer: Pool, gradient: Array, spatial: Sizes) -> Array:
    """The adjoint of a mean: shared among the positions of each window that the mean counts."""
    rank = len(spatial)
    with_padding = layer.kind == "avg" and layer.count_include_pad
    for number, (axis, size) in enumerate(zip(layer.axes(spatial), spatial, strict=True)):
        count = divisors(axis, size, gradient.shape[number + 2], with_padding)
        gradient = gradient / np.maximum(count, 1).reshape(-1, *(1,) * (rank - number - 1))
    found = reference.conv_transpose(
        gradient.reshape(-1, 1, *gradient.shape[2:]),  # channels never meet
        np.ones((1, 1, *layer.kernel_size)),
        stride=layer.strides_for(rank),
        dilation=layer.dilations_for(rank),
        groups=1,
        padding=sizes_of(layer, spatial)[0],
        out_size=spatial,
    )
    return found.reshape(*gradient.shape[:2], *spatial)


def central_gradient(
    network: Network, in_shape: Sizes, node: int, weights: Weights | None = None
) -> tuple[Sizes, Array]:
    """The middle output position of a node, and how strongly each input position weighs in it.

    Returns:
        The position, and the absolute gradients (*spatial) added over the input's channels, the largest 1. With
        ``weights``, the gradient is of the sum over the node's channels.
    """
    _, channels, *spatial = network.shapes(in_shape)[node]
    position = tuple(size // 2 for size in spatial)
    seed = np.zeros((1, channels if weights is not None else 1, *spatial))
    middle: Any = (0, slice(None), *position)
    seed[middle] = 1
    one = (1, *network.checked_input(in_shape)[1:])
    found = np.abs(input_gradient(network, one, node, seed, weights)[0]).sum(axis=0)
    return position, found / (found.max() or 1.0)
