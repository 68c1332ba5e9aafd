"""SciPy for the flip: deep learning's convolution is correlation."""

from __future__ import annotations

import numpy as np
import pytest

import polyconv as pc
import strategies
from tolerance import assert_equal

signal = pytest.importorskip("scipy.signal", reason="SciPy is not installed: nothing else checks the flip")

SIZES = [((11,), (4,)), ((7, 5), (3, 2)), ((5, 7, 4), (2, 3, 4))]


@pytest.mark.parametrize(("size", "kernel"), SIZES)
@pytest.mark.parametrize("word", ["valid", "full"])
def test_conv_is_correlation(size, kernel, word):
    x, w = strategies.integers(size, "float64", 1), strategies.integers(kernel, "float64", 2)
    y = pc.conv(x[None, None], w[None, None], padding=word)[0, 0]
    assert_equal(y, signal.correlate(x, w, mode=word, method="direct"))
    assert not np.array_equal(y, signal.convolve(x, w, mode=word, method="direct"))


@pytest.mark.parametrize(("size", "kernel"), SIZES)
def test_true_convolution_flips_every_axis(size, kernel):
    x, w = strategies.integers(size, "float64", 1), strategies.integers(kernel, "float64", 2)
    y = pc.conv(x[None, None], np.flip(w)[None, None], padding="full")[0, 0]
    assert_equal(y, signal.convolve(x, w, mode="full", method="direct"))


@pytest.mark.parametrize(("size", "kernel"), SIZES)
def test_transposed_is_true_convolution(size, kernel):
    """The adjoint of correlation with stride 1 is convolution: nothing is flipped by hand."""
    x, w = strategies.integers(size, "float64", 1), strategies.integers(kernel, "float64", 2)
    y = pc.conv_transpose(x[None, None], w[None, None])[0, 0]
    assert_equal(y, signal.convolve(x, w, mode="full", method="direct"))


@pytest.mark.parametrize(("mode", "boundary"), [("zeros", "fill"), ("circular", "wrap")])
def test_borders(mode, boundary):
    x, w = strategies.integers((7, 5), "float64", 1), strategies.integers((3, 3), "float64", 2)
    y = pc.conv(x[None, None], w[None, None], padding="same", padding_mode=mode)[0, 0]
    assert_equal(y, signal.correlate2d(x, w, mode="same", boundary=boundary))


def test_reflect_and_replicate():
    """ndimage calls reflect "mirror" and replicate "nearest"."""
    from scipy import ndimage

    x, w = strategies.integers((7, 5), "float64", 1), strategies.integers((3, 5), "float64", 2)
    for mode, theirs in [("reflect", "mirror"), ("replicate", "nearest")]:
        y = pc.conv(x[None, None], w[None, None], padding="same", padding_mode=mode)[0, 0]
        assert_equal(y, ndimage.correlate(x, w, mode=theirs))
