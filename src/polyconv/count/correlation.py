"""How far the filters of neighbouring layers go together: the correlation of their responses.

Two layers are neighbours where one reads the channels of the other: activations, batch norms, pooling and upsampling
may stand between, joins may not. The correlation is Pearson's, between a channel that the second layer reads and the
linear response of one of its filters. A response reads several places of a channel, one for each tap; of these the one
with the strongest correlation counts.

Source of the question and of the picture: Ioannou, Robertson, Cipolla and Criminisi, "Deep Roots: Improving CNN
Efficiency with Hierarchical Filter Groups" (arXiv 1605.06489), figures of inter-layer filter correlation.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polyconv import reference
from polyconv.count.adjoint import input_gradient
from polyconv.count.field import receptive_field
from polyconv.geometry import product
from polyconv.layers import Activation, BatchNorm, Conv, ConvTranspose, GlobalPool, Identity, Pool, Upsample
from polyconv.network import INPUT, Network
from polyconv.run.lower import sizes_of
from polyconv.run.problem import Array

MOST_WORK = 2 * 10**10  # multiply-accumulates
_BETWEEN = (Activation, BatchNorm, GlobalPool, Identity, Pool, Upsample)
Pairs = tuple[tuple[int, int], ...]
_AT_ONCE = 32  # filters of the second layer


@dataclass(frozen=True, eq=False)
class Correlation:
    """Two neighbouring layers.

    Args:
        first: index in ``network.nodes`` of the layer that is read.
        second: index of the layer that reads it.
        groups: of the second layer.
        values: (filters of the second, filters of the first), from -1 to 1; 0 where either never varies.
    """

    first: int
    second: int
    groups: int
    values: Array

    @property
    def inside(self) -> Array:
        """A mask over ``values``: the pairs that the second layer's groups connect."""
        rows, columns = self.values.shape
        of_row = np.arange(rows) * self.groups // rows
        of_column = np.arange(columns) * self.groups // columns
        return np.asarray(of_row[:, None] == of_column)


def neighbours(network: Network) -> Pairs:
    """Every pair of neighbouring convolutions, as indices in ``network.nodes``.

    Example:
        >>> from polyconv import network
        >>> neighbours(network("conv 3x3 8 relu | maxpool 2x2 | separable 3x3 8"))
        ((0, 2), (2, 3))
    """
    found = []
    for index, node in enumerate(network.nodes):
        before = node.inputs[0]
        while before != INPUT and isinstance(network.nodes[before].layer, _BETWEEN):
            before = network.nodes[before].inputs[0]
        if before != INPUT and _convolves(node.layer) and _convolves(network.nodes[before].layer):
            found.append((before, index))
    return tuple(found)


def _convolves(layer: Any) -> bool:
    return isinstance(layer, Conv | ConvTranspose)


def of_noise(
    network: Network, weights: Mapping[str, Array], in_channels: int, ndim: int, pairs: Pairs | None = None
) -> tuple[Correlation, ...]:
    """The correlations where white noise enters the first layer of each pair: from the weights alone, exact.

    The two layers act as linear ones, far from every border; what stands between them is left out. Independent inputs
    of equal variance make the covariance of two responses the inner product of their gradients at the input.

    Args:
        network: its pairs are compared.
        weights: by name.
        in_channels: of the network's input.
        ndim: spatial axes.
        pairs: which of the ``neighbours``; all if not given.

    Raises:
        ValueError: for layers so large that this would take minutes (``check_work``).

    Example:
        >>> import numpy as np
        >>> from polyconv import network
        >>> net = network("conv 1 2 groups 2 nobias | conv 1 2 groups 2 nobias")
        >>> (found,) = of_noise(net, {"0.weight": np.ones((2, 1, 1)), "1.weight": -np.ones((2, 1, 1))}, 2, 1)
        >>> found.values.tolist()
        [[-1.0, 0.0], [0.0, -1.0]]
    """
    check_work(network, in_channels, ndim, pairs)
    jobs = _jobs(network, in_channels, ndim, pairs)
    return tuple(Correlation(*job.pair, job.groups, job.values(weights)) for job in jobs)


def check_work(network: Network, in_channels: int, ndim: int, pairs: Pairs | None = None) -> None:
    """Refuse what ``of_noise`` would take minutes for."""
    work = sum(job.work for job in _jobs(network, in_channels, ndim, pairs))
    if work > MOST_WORK:
        raise ValueError(
            f"the correlation needs {work:,} multiply-accumulates, at most {MOST_WORK:,} are done. "
            "Draw a part of the network"
        )


def _jobs(network: Network, in_channels: int, ndim: int, pairs: Pairs | None) -> list[_Noise]:
    channels = network.channels(in_channels)
    made = []
    for pair in neighbours(network) if pairs is None else pairs:
        nodes = [network.nodes[index] for index in pair]
        bare = Network(tuple(_bare(node.layer) for node in nodes))
        made.append(_Noise(pair, (nodes[0].name, nodes[1].name), bare, channels[nodes[0].inputs[0]], ndim))
    return made


@dataclass(frozen=True, eq=False)
class _Noise:
    """One pair, its layers bare: no padding, no bias, no activation."""

    pair: tuple[int, int]
    names: tuple[str, str]
    layers: Network
    in_channels: int
    ndim: int

    @property
    def channels(self) -> dict[int, int]:
        return self.layers.channels(self.in_channels)

    @property
    def groups(self) -> int:
        return _groups(self.layers.nodes[1].layer, self.channels[0])

    @property
    def size(self) -> tuple[int, ...]:
        """An input whose middle output has its whole field inside."""
        field = receptive_field(self.layers).size
        turned = any(isinstance(node.layer, ConvTranspose) for node in self.layers.nodes)
        sizes = (field * self.ndim)[: self.ndim]
        return tuple(2 * size + 1 if turned else size for size in sizes)

    @property
    def work(self) -> int:
        """Multiply-accumulates, about: the first layer forwards and backwards for each filter of the second."""
        taps = product(self.layers.parameters(self.in_channels, self.ndim)["0.weight"])
        turned = isinstance(self.layers.nodes[0].layer, ConvTranspose)
        middle = self.layers.shapes((1, self.in_channels, *self.size))[0][2:]
        return 2 * self.channels[1] * taps * product(self.size if turned else middle)

    def values(self, weights: Mapping[str, Array]) -> Array:
        own = [np.asarray(weights[f"{name}.weight"], np.float64) for name in self.names]
        first, second = (node.layer for node in self.layers.nodes)
        shape = (1, self.in_channels, *self.size)
        middle, out = self.layers.shapes(shape)
        ones = np.ones(shape)
        variance = _forward(first, ones, own[0] ** 2)[0]
        read = _read(second, middle[2:], out[2:])
        places: Any = (slice(None), slice(None), *np.nonzero(read))
        spread = np.sqrt(variance[places[1:]])  # (filters of the first, places)
        named = {"0.weight": own[0], "1.weight": own[1]}
        rows = []
        for start in range(0, out[1], _AT_ONCE):
            seed = np.zeros((min(_AT_ONCE, out[1] - start), *out[1:]))
            at: Any = (range(len(seed)), range(start, start + len(seed)), *(size // 2 for size in out[2:]))
            seed[at] = 1
            gradient = input_gradient(self.layers, (len(seed), *shape[1:]), 1, seed, named)
            norm = np.sqrt((gradient.reshape(len(seed), -1) ** 2).sum(axis=1))
            together = _forward(first, gradient, own[0])[places]
            rows.append(_strongest(_ratio(together, norm[:, None, None] * spread)))
        return np.concatenate(rows)


def _bare(layer: Any) -> Any:
    found: dict[str, Any] = {"padding": 0, "bias": False, "activation": None}
    if isinstance(layer, Conv):
        return replace(layer, **found, padding_mode="zeros")
    return replace(layer, **found, output_padding=0)


def _groups(layer: Any, in_channels: int) -> int:
    return int(layer.groups_for(in_channels) if isinstance(layer, Conv) else layer.groups)


def _forward(layer: Any, x: Array, weight: Array) -> Array:
    """The layer as a linear map."""
    rank, spatial = x.ndim - 2, x.shape[2:]
    pads, out = sizes_of(layer, spatial)
    run = reference.conv if isinstance(layer, Conv) else reference.conv_transpose
    return run(
        x,
        weight,
        stride=layer.strides_for(rank),
        dilation=layer.dilations_for(rank),
        groups=_groups(layer, x.shape[1]),
        padding=pads,
        out_size=out,
    )


def _read(layer: Any, spatial: tuple[int, ...], out: tuple[int, ...]) -> Array:
    """The positions that the middle output reads."""
    seed = np.zeros((1, 1, *out))
    seed[(0, 0, *(size // 2 for size in out))] = 1
    return np.asarray(input_gradient(Network((layer,)), (1, _some_channels(layer), *spatial), 0, seed)[0, 0] > 0)


def _some_channels(layer: Any) -> int:
    return int(layer.groups or 1)


def _ratio(together: Array, spread: Array) -> Array:
    """Covariances over the product of the standard deviations; 0 where nothing varies."""
    still = spread <= 1e-12 * (spread.max(initial=0.0) or 1.0)
    return np.clip(np.where(still, 0.0, together / np.where(still, 1.0, spread)), -1.0, 1.0)


def _strongest(values: Array) -> Array:
    """Of the last axis the value farthest from 0."""
    chosen = np.abs(values).argmax(axis=-1)
    return np.take_along_axis(values, chosen[..., None], axis=-1)[..., 0]


def of_responses(layer: Conv | ConvTranspose, x: Array, y: Array) -> Array:
    """The correlations between what a layer reads and what it answers, over all positions that read data.

    Args:
        layer: the second of two neighbours.
        x: (channels, *spatial) that it reads.
        y: (filters, *spatial) of its answer, before its activation.

    Returns:
        (filters, channels), from -1 to 1.
    """
    rank, axes = x.ndim - 1, layer.axes(x.shape[1:])
    wide, narrow = (x, y) if isinstance(layer, Conv) else (y, x)
    found = []
    for tap in itertools.product(*map(range, layer.kernel_for(rank))):
        picked = []
        for axis, t, size, count in zip(axes, tap, wide.shape[1:], narrow.shape[1:], strict=True):
            windows = axis.tap_windows(t, size, count)
            start = axis.position(windows.start, t)
            picked.append((windows, slice(start, start + axis.stride * len(windows), axis.stride)))
        one = wide[(slice(None), *(places for _, places in picked))].reshape(len(wide), -1)
        other = narrow[(slice(None), *(slice(w.start, w.stop) for w, _ in picked))].reshape(len(narrow), -1)
        if one.shape[1] > 1:
            found.append(_pearson(other, one) if isinstance(layer, Conv) else _pearson(one, other))
    if not found:
        raise ValueError(f"an output of {y.shape[1:]} has too few positions to correlate. Use a larger input_size")
    return _strongest(np.stack(found, axis=-1))


def _pearson(rows: Array, columns: Array) -> Array:
    """The correlation of every row of the one with every row of the other."""
    rows, columns = (part - part.mean(axis=1, keepdims=True) for part in (rows, columns))
    spread = [np.sqrt((part**2).sum(axis=1)) for part in (rows, columns)]
    return _ratio(rows @ columns.T, spread[0][:, None] * spread[1])
