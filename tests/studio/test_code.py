"""The code texts: PyTorch's is run beside polyconv with the same weights; the others parse, or say why not."""

from __future__ import annotations

import ast

import numpy as np
import pytest

import polyconv as pc
from polyconv.see.code import SYSTEMS, code

CASES = [
    ("conv 3x3 5", (1, 3, 7, 9)),
    ("conv 3x5 6 stride 2x1 padding 1x2 dilation 1x2 groups 3 nobias", (2, 3, 11, 13)),
    ("conv 3x3 4 padding 0:2x1:0 relu6", (1, 2, 7, 6)),
    ("conv 3x3 4 padding 0:2x1:0 reflect", (1, 2, 7, 6)),
    ("conv 3x3 4 padding 2 circular gelu", (1, 2, 7, 6)),
    ("conv 3x3 4 padding 2x1:2 replicate", (1, 2, 7, 6)),
    ("conv 4x4 4 same stride 3 tanh", (1, 2, 11, 7)),
    ("conv 3 4 causal dilation 3 leaky_relu", (1, 2, 13)),
    ("conv 2x3x3 4 full silu", (1, 2, 4, 5, 6)),
    ("pointwise 5 stride 2", (1, 3, 7, 5)),
    ("depthwise 3x3 multiplier 2 same stride 2", (1, 3, 7, 5)),
    ("separable 3x5 4 padding 1 hardswish", (1, 3, 7, 9)),
    ("spatial 3x5 4 same sigmoid", (1, 3, 7, 9)),
    ("transposed 3x2 4 stride 2x3 padding 1x0 output_padding 1x2", (1, 3, 5, 4)),
    ("transposed 4x4 4 stride 2 padding 0:1x2:1 groups 2 relu", (1, 2, 5, 4)),
    ("transposed 3x3 4 stride 2 same", (1, 3, 5, 4)),
    ("transposed 2x2 4 stride 3 same nobias", (1, 3, 5, 4)),
    ("transposed 3 4 causal stride 2", (1, 3, 6)),
    ("maxpool 3x2 stride 2x1 padding 1", (1, 3, 7, 8)),
    ("maxpool 3x3 stride 2 same", (1, 3, 8, 7)),
    ("maxpool 3x3 stride 2 dilation 2 ceil", (1, 3, 12, 13)),
    ("maxpool 2x2 padding 0:1x1:0", (1, 3, 7, 8)),
    ("avgpool 3x3 stride 2 padding 1", (1, 3, 8, 8)),
    ("avgpool 3x3 stride 2 padding 1 exclude_pad", (1, 3, 8, 9)),
    ("avgpool 2x2 stride 1 same", (1, 3, 8, 9)),
    ("globalpool | pointwise 4", (1, 3, 8, 9)),
    ("globalpool max", (1, 3, 8, 9)),
    ("upsample 2x3 | conv 3x3 2 same", (1, 3, 4, 5)),
    ("conv 3x3 4 | batchnorm | relu | identity", (1, 3, 6, 5)),
    (
        "concat(pointwise 2, conv 3x3 3 same | conv 3x3 4 same) | add(identity, depthwise 3x3 same) | maxpool 2x2",
        (1, 3, 6, 8),
    ),
    ("2 * (add(identity, concat(pointwise 1, conv 3x3 2 same)))", (1, 3, 6, 8)),
]


KERAS_HAS_NOT = (
    "stride 2x1 padding 1x2 dilation",
    "circular",
    "replicate",
    "output_padding",
    "padding 0:1x2:1 groups 2",
    "stride 2 dilation 2 ceil",
    "exclude_pad",
)


@pytest.mark.parametrize(("text", "shape"), CASES, ids=[text for text, _ in CASES])
def test_the_pytorch_text_is_the_same_network(text, shape):
    torch = pytest.importorskip("torch", reason="NOT RUN: the PyTorch code is compared where torch is installed")
    net = pc.network(text)
    names: dict = {}
    exec(compile(code(net, shape, "PyTorch"), "text", "exec"), names)
    model = names["model"].eval()
    weights = net.weights(shape[1], seed=3, dtype="float64", ndim=len(shape) - 2)
    slots = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert [tuple(value.shape) for value in slots.values()] == [value.shape for value in weights.values()]
    pairs = zip(slots, weights.values(), strict=True)
    model.double().load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in pairs}, strict=False)
    x = np.random.default_rng(5).normal(size=shape)
    with torch.no_grad():
        theirs = model(torch.from_numpy(x)).numpy()
    ours = np.asarray(net.bind(weights)(x))
    assert theirs.shape == ours.shape == tuple(names["y"].shape)
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("text", "shape"), CASES, ids=[text for text, _ in CASES])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_text_is_python_or_a_reason(text, shape, system):
    if system == "Keras" and any(word in text for word in KERAS_HAS_NOT):
        with pytest.raises(ValueError, match=r"stage \S+ \(.*\): Keras has no such layer: "):
            code(text, shape, system)
        return
    written = code(text, shape, system)
    ast.parse(written)
    assert "@" not in written


def test_what_pytorch_has_not_is_refused():
    with pytest.raises(ValueError, match="ceil_mode takes no padding that differs"):
        code("maxpool 3x3 padding 0:1x0:1 ceil", (1, 1, 8, 8))
    with pytest.raises(ValueError, match="Theano"):
        code("relu", (1, 1, 8, 8), "Theano")


def test_keras_texts():
    written = code("conv 3x3 8 stride 2 padding 1 relu | transposed 3x3 4 stride 2 padding 1", (1, 3, 9, 8), "Keras")
    assert "x = keras.Input((9, 8, 3))" in written
    assert "x0 = layers.ZeroPadding2D(((1, 1), (1, 1)))(x)" in written
    assert 'x0 = layers.Conv2D(8, (3, 3), strides=(2, 2), activation="relu")(x0)' in written
    assert "x1 = layers.Cropping2D(((1, 1), (1, 1)))(x1)" in written
    assert 'padding="same"' in code("conv 3x3 8 same stride 2", (1, 3, 9, 8), "Keras")
    assert "DepthwiseConv2D((3, 3), depth_multiplier=2)" in code("depthwise 3x3 multiplier 2", (1, 3, 9, 8), "Keras")


def test_onnx_texts_hold_the_geometry():
    written = code("conv 3x3 8 stride 2 same groups 2 | silu", (1, 4, 9, 8), "ONNX")
    assert "strides=[2, 2], pads=[1, 0, 1, 1], dilations=[1, 1], group=2" in written
    assert '"0.weight": [8, 2, 3, 3]' in written
    assert 'helper.make_node("Mul", ["x0", "x1_gate"], ["x1"])' in written
