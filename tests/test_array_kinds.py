"""What comes in: NumPy arrays and what speaks DLPack or __array_interface__. What goes out: the caller's kind."""

from __future__ import annotations

import numpy as np
import pytest

import polyconv as pc
import strategies
from tolerance import assert_equal

X, W = strategies.integers((2, 4, 6, 5), "float32", 1), strategies.integers((6, 2, 3, 2), "float32", 2)
B = strategies.integers((6,), "float32", 3)
OPTIONS = {"stride": (2, 1), "padding": 1, "groups": 2}
EXPECTED = pc.conv(X, W, B, **OPTIONS)


class Interface:
    """Speaks only __array_interface__."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


class DLPack:
    """Speaks only DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", [Interface, DLPack])
def test_protocols_come_in(kind):
    assert_equal(np.asarray(pc.conv(kind(X), kind(W), kind(B), **OPTIONS)), EXPECTED)
    assert_equal(np.asarray(pc.conv(kind(X), W, B, **OPTIONS)), EXPECTED)
    assert_equal(np.asarray(pc.max_pool(kind(X), 2)), pc.max_pool(X, 2))


def test_lists_of_floats_come_in():
    y = pc.conv(X.tolist(), W.tolist(), B.tolist(), **OPTIONS)
    assert_equal(y, EXPECTED.astype("float64"))


def test_array_subclasses():
    class Mine(np.ndarray):
        pass

    y = pc.conv(X.view(Mine), W, B, **OPTIONS)
    assert np.array_equal(np.asarray(y), EXPECTED)


def test_torch_tensors_come_in_and_go_out():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, w, b = map(torch.tensor, (X, W, B))
    kept = x.clone()
    outputs = {
        "conv": (pc.conv(x, w, b, **OPTIONS), EXPECTED),
        "conv_transpose": (pc.conv_transpose(x, w[:4]), pc.conv_transpose(X, W[:4])),
        "max_pool": (pc.max_pool(x, 2), pc.max_pool(X, 2)),
        "avg_pool": (pc.avg_pool(x, 2), pc.avg_pool(X, 2)),
        "pointwise_conv": (
            pc.pointwise_conv(x, w[:, :, 0, 0], groups=2),
            pc.pointwise_conv(X, W[:, :, 0, 0], groups=2),
        ),
        "depthwise_conv": (pc.depthwise_conv(x, w[:4, :1]), pc.depthwise_conv(X, W[:4, :1])),
    }
    for name, (y, expected) in outputs.items():
        assert isinstance(y, torch.Tensor), name
        assert_equal(y.numpy(), expected)
    assert torch.equal(x, kept)
    model = pc.network("conv 3x2 6 groups 2 stride 2x1 padding 1").bind({"0.weight": w, "0.bias": b})
    assert_equal(model(x).numpy(), EXPECTED)


def test_torch_views_with_any_strides():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(X).permute(0, 1, 3, 2)[:, :, ::2]
    assert_equal(pc.conv(x, W, B, groups=2).numpy(), pc.conv(X.swapaxes(2, 3)[:, :, ::2], W, B, groups=2))
    last = torch.tensor(X).contiguous(memory_format=torch.channels_last)
    assert_equal(pc.conv(last, W, B, **OPTIONS).numpy(), EXPECTED)


def test_torch_tensors_which_need_gradients():
    """Refused with what to do, or run without a graph: never a wrong gradient in silence."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(X, requires_grad=True)
    with pytest.raises((ValueError, TypeError), match="detach"):
        pc.conv(x, torch.tensor(W), torch.tensor(B), **OPTIONS)


# -- dtypes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "complex64", "object", "U3"])
def test_other_dtypes_are_refused_with_the_conversion(dtype):
    x = np.ones((1, 1, 5)).astype(dtype)
    w = np.ones((1, 1, 3), "float32")
    for call in (
        lambda: pc.conv(x, w),
        lambda: pc.conv_transpose(x, w),
        lambda: pc.max_pool(x, 2),
        lambda: pc.avg_pool(x, 2),
        lambda: pc.conv(np.ones((1, 1, 5), "float32"), w.astype(dtype)),
    ):
        with pytest.raises(TypeError, match=rf"(?s){dtype}.*float32"):
            call()


@pytest.mark.parametrize("dtype", ["float16", "longdouble"])
def test_other_floats_are_refused(dtype):
    x = np.ones((1, 1, 5), dtype)
    with pytest.raises(TypeError, match=rf"(?s){x.dtype.name}.*float32"):
        pc.conv(x, np.ones((1, 1, 3), dtype))


def test_mixtures_are_refused_and_name_both():
    with pytest.raises(TypeError, match=r"(?s)(float32.*float64|float64.*float32)"):
        pc.conv(X, W.astype("float64"))
    with pytest.raises(TypeError, match=r"(?s)(float32.*float64|float64.*float32)"):
        pc.conv(X, W, B.astype("float64"), **OPTIONS)
    with pytest.raises(TypeError, match=r"(?s)(float32.*float64|float64.*float32)"):
        pc.separable_conv(X, W[:4, :1], np.ones((3, 4)))
    with pytest.raises(TypeError, match=r"(?s)(float32.*float64|float64.*float32)"):
        pc.network("conv 3x2 6 groups 2").bind({"0.weight": W, "0.bias": B})(X.astype("float64"))


def test_lists_of_integers_are_refused():
    with pytest.raises(TypeError, match=r"(?s)int.*float"):
        pc.conv([[[1, 2, 3]]], [[[1, 2]]])


def test_what_is_no_array_is_refused():
    for x in ("picture.jpg", None, {"a": 1}, object()):
        with pytest.raises((TypeError, ValueError)):
            pc.conv(x, W)
    with pytest.raises((TypeError, ValueError)):
        pc.conv([[[1.0, 2.0], [3.0]]], W)  # ragged


def test_foreign_byte_order_is_right_or_refused():
    """The other byte order may be refused, but never read as if it were native."""
    swapped = X.astype(X.dtype.newbyteorder())
    try:
        y = pc.conv(swapped, W, B, **OPTIONS)
    except TypeError:
        with pytest.raises(TypeError, match="byte"):
            pc.conv(swapped, W, B, **OPTIONS)
    else:
        assert np.array_equal(y, EXPECTED)
