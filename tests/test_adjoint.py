"""A transposed convolution is the adjoint of the convolution with the same geometry: <Ax, y> = <x, A'y>, exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import oracle
import polyconv as pc
import strategies


@given(strategies.convs(activations=[None], modes=["zeros"]), st.integers(0, 2**16))
def test_adjoint(case, seed):
    x, weight, _ = case.arrays
    options = {name: case.options[name] for name in ("stride", "dilation", "groups", "layout")}
    first = case.options["layout"] == "channels_first"
    sizes = x.shape[2:] if first else x.shape[1:-1]
    strides = oracle.per_axis(options["stride"], case.ndim)
    dilations = oracle.per_axis(options["dilation"], case.ndim)
    reaches = [oracle.reach(k, d) for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = oracle.conv_padding(case.options["padding"], sizes, reaches, strides)
    left = [size + sum(pair) - reach for size, pair, reach in zip(sizes, pads, reaches, strict=True)]
    if min(left) < 0 or min(sizes) < 1:
        return
    ax = pc.conv(x, weight, padding=pads, **options)
    y = strategies.integers(ax.shape, x.dtype.name, seed)
    extra = tuple(rest % stride for rest, stride in zip(left, strides, strict=True))
    aty = pc.conv_transpose(y, weight, padding=pads, output_padding=extra, **options)
    assert aty.shape == x.shape
    assert np.vdot(ax, y) == np.vdot(x, aty)


def test_the_transposed_is_the_matrix_turned():
    """Column by column: the matrix of conv, read the other way, is conv_transpose; so the check above can fail."""
    weight = strategies.integers((2, 3, 3, 2), "float64", 5)
    size = (3, 4, 5)
    geometry = {"stride": (1, 2), "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}
    basis = np.eye(60).reshape(60, *size)
    matrix = pc.conv(basis, weight, **geometry).reshape(60, -1).T
    out = pc.conv(basis[:1], weight, **geometry).shape[1:]
    count = int(np.prod(out))
    back = pc.conv_transpose(np.eye(count).reshape(count, *out), weight, output_padding=(0, 1), **geometry)
    assert np.array_equal(back.reshape(count, 60), matrix)
    flipped = pc.conv_transpose(
        np.eye(count).reshape(count, *out), weight[:, :, ::-1], output_padding=(0, 1), **geometry
    )
    assert not np.array_equal(flipped.reshape(count, 60), matrix)
