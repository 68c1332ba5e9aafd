"""A layer as a sparse matrix: what a convolution does to an input, written out row by column.

Rows are outputs, columns inputs, both in row-major order of (channel, *position). A transposed convolution's matrix is
the transpose of the matrix of the convolution with the same weight.

Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (arXiv 1603.07285), section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from polyconv import reference
from polyconv._checks import per_axis, whole
from polyconv.geometry import Axis, product
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Identity, Layer, Pool, Sizes, Upsample
from polyconv.network import Network
from polyconv.notation import network as parsed
from polyconv.run.arrays import as_array
from polyconv.run.problem import Array

MAX_ENTRIES = 2**28


def matrix(
    network: Network | str, weight: Any = None, input_size: Any = None, *, in_channels: int | None = None
) -> Any:
    """The matrix of a network of one linear layer, so that ``output.ravel() = matrix @ input.ravel()`` for batch 1.

    It is the linear part: the text's bias is left out, and an activation is refused. Padding that reflects, replicates
    or wraps round is part of the matrix. An entry is kept for every product of real data, even where the weight is 0;
    entries that meet in one place (other padding modes) are summed.

    Args:
        network: one layer: a convolution of any kind (not ``separable`` or ``spatial``, which are several), transposed,
            average pooling, upsample or identity.
        weight: (out_channels, in_channels / groups, *kernel), transposed (in_channels, out_channels / groups, *kernel);
            float32 or float64; None for a layer without.
        input_size: the spatial size, a number or one per axis; transposed: of its own input.
        in_channels: for layers without a weight; 1 if not given.

    Returns:
        A ``scipy.sparse.csr_array`` of shape (out_channels * positions out, in_channels * positions in).

    Raises:
        ValueError: what does not fit, or more than 2**28 entries.
        TypeError: a weight of another dtype.
        ImportError: without SciPy.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> weight = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> c = pc.matrix("conv 3x3 1 nobias", weight, input_size=(4, 4))
        >>> c.shape, c.nnz
        ((4, 16), 36)
        >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
        >>> bool((c @ x.ravel() == pc.conv(x, weight).ravel()).all())
        True
    """
    sparse = _scipy_sparse()
    layer = _only_layer(parsed(network))
    size = _checked_size(layer, input_size)
    if isinstance(layer, Conv | ConvTranspose):
        return _convolution(sparse, layer, _checked_weight(layer, weight, size, in_channels), size)
    if weight is not None:
        raise ValueError(f"a layer without weights got one of shape {np.shape(weight)}. Leave weight out")
    one = _one_channel(sparse, layer, size)
    return sparse.kron(sparse.eye_array(1 if in_channels is None else whole(in_channels, "in_channels")), one, "csr")


def _scipy_sparse() -> Any:
    try:
        import scipy.sparse
    except ImportError:
        raise ImportError('polyconv.matrix needs SciPy. Install it with: pip install "polyconv[matrix]"') from None
    return scipy.sparse


def _only_layer(network: Network) -> Layer:
    if len(network.nodes) != 1:
        raise ValueError(
            f"a matrix is of one layer, {str(network)!r} has {len(network.nodes)}. Multiply the matrices of its layers"
        )
    layer = network.nodes[0].layer
    if isinstance(layer, Conv | ConvTranspose) and layer.activation is not None:
        raise ValueError(f"{layer.activation} is not linear: leave it out of the layer to get the matrix of the rest")
    linear = isinstance(layer, Conv | ConvTranspose | Upsample | Identity)
    if not linear and not (isinstance(layer, Pool | GlobalPool) and layer.kind == "avg"):
        raise ValueError(f"{network} is not a linear layer with a fixed matrix. Use a convolution or average pooling")
    return layer


def _checked_size(layer: Layer, input_size: Any) -> Sizes:
    if input_size is None:
        raise ValueError("a matrix needs the size of the input: pass input_size, as in input_size=(4, 4)")
    length = len(input_size) if isinstance(input_size, Sequence | np.ndarray) else 1
    size = per_axis(input_size, layer.ndim or length, "input_size", minimum=0)
    layer.out_size(size)
    return size


def _checked_weight(layer: Conv | ConvTranspose, weight: Any, size: Sizes, in_channels: int | None) -> Array:
    ndim = len(size)
    if weight is None:
        raise ValueError("a convolution's matrix needs its weight: pass an array of shape " + _wanted(layer))
    array = as_array(weight, "weight")
    if array.ndim == 2 and set(layer.kernel_for(ndim)) == {1}:
        array = array.reshape(*array.shape, *(1,) * ndim)
    channels = _in_channels(layer, array.shape)
    shape = layer.parameters(channels, ndim)["weight"] if channels else None
    if shape != array.shape or in_channels not in (None, channels):
        also = "" if in_channels is None else f" and in_channels = {in_channels}"
        raise ValueError(f"weight has shape {array.shape}{also}, the layer expects {_wanted(layer)}")
    return array


def _in_channels(layer: Conv | ConvTranspose, shape: Sizes) -> int:
    if len(shape) < 2:
        return 0
    if isinstance(layer, ConvTranspose):
        return shape[0] if shape[0] % layer.groups == 0 else 0
    if layer.groups is None:
        return shape[0] // layer.multiplier
    return shape[1] * layer.groups


def _wanted(layer: Conv | ConvTranspose) -> str:
    kernel = ", *kernel" if layer.kernel_size is None else "".join(f", {size}" for size in layer.kernel_size)
    if isinstance(layer, ConvTranspose):
        return f"(in_channels, {layer.out_channels // layer.groups}{kernel})"
    if layer.out_channels is None:
        return f"(in_channels x {layer.multiplier}, 1{kernel})"
    return f"({layer.out_channels}, in_channels / {layer.groups}{kernel})"


@dataclass(frozen=True)
class _Links:
    """Which window reads which position with which tap: three arrays of flat indices, one entry for each product."""

    windows: Array
    taps: Array
    positions: Array


def _links(axes: Sequence[Axis], windows: Sizes, sizes: Sizes, mode: str = "zeros") -> _Links:
    """The links of all axes together, from those of each: flat indices add up, in row-major order."""
    found = _Links(*(np.zeros(1, np.int64) for _ in range(3)))
    for axis, count, size in zip(axes, windows, sizes, strict=True):
        window, tap, position = _axis_links(axis, count, size, mode)
        found = _Links(
            np.add.outer(found.windows * count, window).ravel(),
            np.add.outer(found.taps * axis.kernel, tap).ravel(),
            np.add.outer(found.positions * size, position).ravel(),
        )
    return found


def _axis_links(axis: Axis, windows: int, size: int, mode: str) -> tuple[Array, Array, Array]:
    window, tap = (grid.ravel() for grid in np.indices((windows, axis.kernel), np.int64))
    position = cast(Array, axis.position(cast(Any, window), cast(Any, tap)))
    if mode != "zeros":  # the input position that a padded one shows
        shown = reference.pad_with(np.arange(size).reshape(1, 1, -1), ((axis.before, axis.after),), mode)
        return window, tap, shown.ravel()[position + axis.before]
    on_data = (position >= 0) & (position < size)
    return window[on_data], tap[on_data], position[on_data]


def _convolution(sparse: Any, layer: Conv | ConvTranspose, weight: Array, size: Sizes) -> Any:
    """The matrix of a convolution; a transposed one's is the transpose of its adjoint's."""
    axes, out = layer.axes(size), layer.out_size(size)
    if isinstance(layer, ConvTranspose):
        back = _of_weight(sparse, weight, layer.groups, axes, size, out)
        return back.T.tocsr()
    groups = weight.shape[0] // layer.multiplier if layer.groups is None else layer.groups
    return _of_weight(sparse, weight, groups, axes, out, size, layer.padding_mode)


def _of_weight(
    sparse: Any, weight: Array, groups: int, axes: Sequence[Axis], windows: Sizes, sizes: Sizes, mode: str = "zeros"
) -> Any:
    """The matrix of the convolution with this weight, whose windows slide over ``sizes``."""
    out_channels, per_group = weight.shape[:2]
    on_data = mode == "zeros"
    counts = (
        axis.taps_on_data(size, count) if on_data else axis.kernel * count
        for axis, count, size in zip(axes, windows, sizes, strict=True)
    )
    _check_entries(out_channels * per_group * product(counts))
    links = _links(axes, windows, sizes, mode)
    outputs = np.arange(out_channels)[:, None, None]
    inputs = outputs // (out_channels // groups) * per_group + np.arange(per_group)[None, :, None]
    rows, columns = np.broadcast_arrays(
        outputs * product(windows) + links.windows, inputs * product(sizes) + links.positions
    )
    values = weight.reshape(out_channels, per_group, -1)[:, :, links.taps]
    shape = (out_channels * product(windows), per_group * groups * product(sizes))
    return sparse.csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


def _check_entries(count: int) -> None:
    if count > MAX_ENTRIES:
        raise ValueError(
            f"the matrix would have {count:,} entries, at most {MAX_ENTRIES:,} are built. Use a smaller input_size or "
            "fewer channels"
        )


def _one_channel(sparse: Any, layer: Layer, size: Sizes) -> Any:
    """The matrix of a layer that treats every channel alike and by itself, for one channel."""
    if isinstance(layer, Identity):
        return sparse.eye_array(product(size), format="csr")
    if isinstance(layer, Upsample):
        scales = layer.scales_for(len(size))
        repeats = [Axis(scale, scale) for scale in scales]
        ones = np.ones((1, 1, *scales))
        return _of_weight(sparse, ones, 1, repeats, size, layer.out_size(size)).T.tocsr()
    pool = cast(Pool, layer.pool(size) if isinstance(layer, GlobalPool) else layer)
    axes, out = pool.axes(size), pool.out_size(size)
    total = _of_weight(sparse, np.ones((1, 1, *pool.kernel_size)), 1, axes, out, size)
    counts = [divisors(*axis, pool.count_include_pad) for axis in zip(axes, size, out, strict=True)]
    flat = counts[0]
    for more in counts[1:]:
        flat = np.multiply.outer(flat, more).ravel()
    return sparse.diags_array(1 / flat) @ total


def divisors(axis: Axis, size: int, windows: int, with_padding: bool) -> Array:
    """For each window, how many of its positions along this axis the average counts."""
    window, tap = np.indices((windows, axis.kernel))
    position = cast(Array, axis.position(window, tap))  # type: ignore[arg-type]
    low, high = (-axis.before, size + axis.after) if with_padding else (0, size)
    counted: Array = ((position >= low) & (position < high)).sum(axis=1)
    return counted
