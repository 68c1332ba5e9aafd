"""Where frameworks disagree, and what polyconv means. Every one of these has bitten users."""

from __future__ import annotations

import numpy as np
import pytest

import polyconv as pc
import strategies
from tolerance import assert_equal


def ramp(*shape: int) -> np.ndarray:
    return np.arange(1.0, np.prod(shape) + 1).reshape(1, 1, *shape)


def weight(*shape: int) -> np.ndarray:
    return strategies.integers((1, 1, *shape), "float64", sum(shape))


def test_1_dilation_one_is_none():
    """As PyTorch, Keras, JAX and ONNX; oneDNN, OpenVX and some lecture notes write 0."""
    x, w = ramp(7, 6), weight(3, 2)
    assert_equal(pc.conv(x, w, dilation=1), pc.conv(x, w))
    assert pc.conv(x, w, dilation=2).shape == (1, 1, 3, 4)
    with pytest.raises(ValueError, match=r"(?s)dilation.*0"):
        pc.conv(x, w, dilation=0)
    with pytest.raises(ValueError, match=r"(?s)dilation.*0"):
        pc.network("conv 3x2 1 dilation 0")


def test_2_weights_are_correlated_not_flipped():
    """numpy.convolve, SciPy and MATLAB flip the kernel."""
    x, w = ramp(9), np.array([[[1.0, 10, 100]]])
    assert_equal(pc.conv(x, w)[0, 0], np.correlate(x[0, 0], w[0, 0], "valid"))
    assert_equal(pc.conv(x, w[..., ::-1])[0, 0], np.convolve(x[0, 0], w[0, 0], "valid"))


def test_3_transposed_is_the_gradient_of_conv():
    """As PyTorch and Keras; JAX's conv_transpose does not flip by default."""
    x, w = ramp(5), np.array([[[1.0, 10, 100]]])
    grad = np.ones((1, 1, 3)) * [1, 2, 4]
    numeric = [((pc.conv(x + step, w) - pc.conv(x, w)) * grad).sum() for step in np.eye(5)[:, None, None]]
    assert pc.conv_transpose(grad, w)[0, 0].tolist() == numeric == [1, 12, 124, 240, 400]


def test_4_same_puts_the_odd_element_after():
    """TensorFlow pads (0, 1), PyTorch's padding=1 pads (1, 1): the same size, the picture shifted by one."""
    x, w = ramp(6, 8), weight(3, 3)
    same = pc.conv(x, w, stride=2, padding="same")
    assert_equal(same, pc.conv(x, w, stride=2, padding=((0, 1), (0, 1))))
    one = pc.conv(x, w, stride=2, padding=1)
    assert one.shape == same.shape == (1, 1, 3, 4)
    assert not np.array_equal(one, same)
    assert_equal(pc.conv(x, weight(2, 4), padding="same"), pc.conv(x, weight(2, 4), padding=((0, 1), (1, 2))))


def test_5_transposed_same_is_cropped_as_keras_does():
    """Kernel 3, stride 2, 5 -> 10: Keras takes full[0:10], PyTorch (padding 1, output_padding 1) full[1:11]."""
    x, w = ramp(5), weight(3)
    full = pc.conv_transpose(x, w, stride=2)[0, 0]
    assert full.shape == (11,)
    assert_equal(pc.conv_transpose(x, w, stride=2, padding="same")[0, 0], full[0:10])
    assert_equal(pc.conv_transpose(x, w, stride=2, padding=1, output_padding=1)[0, 0], full[1:11])
    assert_equal(
        pc.conv_transpose(x, weight(5), stride=2, padding="same")[0, 0],
        pc.conv_transpose(x, weight(5), stride=2)[0, 0, 1:11],
    )
    assert pc.network("transposed 3 1 stride 2 same").out_shape((1, 1, 5)) == (1, 1, 10)


def test_6_transposed_with_a_stride_beyond_the_kernel():
    """PyTorch gives (H-1)s+k; Keras fills up to (H-1)s+s."""
    y = pc.conv_transpose(ramp(4), weight(2), stride=5)
    assert y.shape == (1, 1, 3 * 5 + 2)
    assert pc.conv_transpose(ramp(4), weight(2), stride=5, padding="same").shape == (1, 1, 20)
    assert_equal(pc.conv_transpose(ramp(4), weight(2), stride=5, padding="same")[..., :17], y)


def test_7_output_padding_computes_more_rows():
    """At the end, not zeros; smaller than the stride or the dilation."""
    x, w = ramp(4), np.array([[[1.0, 2, 3]]])
    full = pc.conv_transpose(x, w, stride=2)[0, 0]
    more = pc.conv_transpose(x, w, stride=2, padding=1, output_padding=1)[0, 0]
    assert_equal(more, full[1:9])
    assert more[-1] != 0
    assert pc.conv_transpose(x, w, stride=2, dilation=3, output_padding=2).shape == (1, 1, 15)
    with pytest.raises(ValueError, match=r"(?s)output_padding.*2"):
        pc.conv_transpose(x, w, stride=2, output_padding=2)


def test_8_pooling_rounds_down_and_counts_padding():
    """Caffe rounds up; TensorFlow's average does not count padding. Both can be had."""
    x = ramp(6)
    assert pc.max_pool(x, 3, stride=2).shape == (1, 1, 2)
    assert pc.max_pool(x, 3, stride=2, ceil_mode=True).tolist() == [[[3, 5, 6]]]
    assert pc.avg_pool(x, 2, stride=2, padding=1).tolist() == [[[0.5, 2.5, 4.5, 3]]]
    assert pc.avg_pool(x, 2, stride=2, padding=1, count_include_pad=False).tolist() == [[[1, 2.5, 4.5, 6]]]
    # ceil_mode: the overhang beyond the padded input is never in the divisor
    assert pc.avg_pool(x, 4, stride=3, ceil_mode=True).tolist() == [[[2.5, 5]]]
    assert pc.avg_pool(x, 4, stride=4, ceil_mode=True).tolist() == [[[2.5, 5.5]]]


def test_9_weight_layouts():
    """Keras conv (k..., I/g, O), transposed (k..., O, I), depthwise (k..., C, M), into those of polyconv."""
    x = strategies.integers((1, 3, 5, 6), "float64", 1)
    keras_conv = strategies.integers((2, 3, 3, 4), "float64", 2)
    y = pc.conv(x, keras_conv.transpose(3, 2, 0, 1))
    assert y[0, 1, 2, 3] == sum(
        x[0, c, 2 + i, 3 + j] * keras_conv[i, j, c, 1] for i in range(2) for j in range(3) for c in range(3)
    )
    keras_depthwise = strategies.integers((2, 3, 3, 2), "float64", 3)
    y = pc.depthwise_conv(x, keras_depthwise.transpose(2, 3, 0, 1).reshape(6, 1, 2, 3))
    for c, m in np.ndindex(3, 2):  # output channel c * M + m
        expected = sum(x[0, c, 1 + i, 2 + j] * keras_depthwise[i, j, c, m] for i in range(2) for j in range(3))
        assert y[0, c * 2 + m, 1, 2] == expected
    keras_transposed = strategies.integers((2, 3, 4, 3), "float64", 4)
    y = pc.conv_transpose(x, keras_transposed.transpose(3, 2, 0, 1))
    assert y.shape == (1, 4, 6, 8)
    assert y[0, 3, 0, 0] == sum(x[0, c, 0, 0] * keras_transposed[0, 0, 3, c] for c in range(3))
