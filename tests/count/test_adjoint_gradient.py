"""Gradients at the input: the adjoint of what the network itself computes, and inside the receptive field."""

from __future__ import annotations

import numpy as np
import pytest

import polyconv as pc
from polyconv.count.adjoint import central_gradient, input_gradient
from polyconv.count.field import fields

LINEAR = [
    ("conv 3x5 6 stride 2x1 padding 1:0x2:3 dilation 2x1 groups 2 nobias", (2, 4, 11, 13)),
    ("conv 3x3 4 padding 2 reflect nobias | conv 4x3 2 padding 1 replicate nobias", (1, 3, 9, 8)),
    ("conv 3 5 padding 2 circular stride 2 nobias", (2, 3, 11)),
    ("transposed 4x3 6 stride 2x3 padding 1 output_padding 1x2 groups 3 nobias", (1, 3, 5, 4)),
    ("avgpool 3x3 stride 2 padding 1 | upsample 2x3", (2, 3, 9, 11)),
    ("depthwise 3x3x2 multiplier 2 same nobias | globalpool", (1, 2, 5, 4, 6)),
    ("concat(pointwise 2 nobias, conv 3x3 3 same nobias | avgpool 3x3 stride 1 same)", (1, 3, 7, 6)),
    ("add(identity, conv 3x3 3 same nobias | batchnorm) | separable 3x3 4 nobias", (1, 3, 7, 8)),
]


@pytest.mark.parametrize(("text", "shape"), LINEAR, ids=[text for text, _ in LINEAR])
def test_it_is_the_adjoint_of_the_network(text, shape):
    random = np.random.default_rng(3)
    net = pc.network(text)
    weights = net.weights(shape[1], 5, dtype="float64", ndim=len(shape) - 2)
    model = net.bind(weights)
    x = random.standard_normal(shape)
    flat = model(np.zeros(shape))  # what biases add
    y = model(x) - flat
    g = random.standard_normal(y.shape)
    found = input_gradient(net, shape, len(net.nodes) - 1, g, weights)
    assert found.shape == shape
    assert np.vdot(g, y) == pytest.approx(np.vdot(found, x), rel=1e-9)


def test_a_wrong_gradient_is_noticed():
    net = pc.network("conv 3x3 1 nobias")
    weight = {"0.weight": np.arange(9.0).reshape(1, 1, 3, 3)}
    one = np.zeros((1, 1, 2, 2))
    one[0, 0, 0, 0] = 1
    found = input_gradient(net, (1, 1, 4, 4), 0, one, weight)[0, 0]
    assert found[:3, :3].tolist() == weight["0.weight"][0, 0].tolist()
    assert found.sum() == 36


@pytest.mark.parametrize(
    "text",
    [
        "2 * (conv 3x3 8 same relu) | maxpool 2x2 | conv 3x3 8 dilation 2 same",
        "conv 7x7 8 stride 2 padding 3 | maxpool 3x3 stride 2 padding 1 | transposed 4x4 3 stride 2 padding 1",
        "concat(pointwise 8, conv 5x5 8 same) | upsample 2 | avgpool 3x3",
        "add(identity, conv 3x3 3 same | batchnorm | relu)",
    ],
)
def test_uniform_weights_reach_exactly_the_receptive_field(text):
    net, shape = pc.network(text), (1, 3, 48, 52)
    for index, field in enumerate(fields(net, (shape, *net.shapes(shape)))):
        position, effective = central_gradient(net, shape, index)
        for axis, (where, one) in enumerate(zip(position, field.axes, strict=True)):
            read = np.flatnonzero(effective.any(axis=1 - axis))
            assert (read[0], read[-1]) == one.at(where)


def test_dilation_leaves_holes():
    _, effective = central_gradient(pc.network("2 * (conv 3 1 dilation 2 same)"), (1, 1, 17), 1)
    assert np.flatnonzero(effective).tolist() == [4, 6, 8, 10, 12]
    assert effective[[4, 6, 8]].round(3).tolist() == [0.333, 0.667, 1.0]  # 1 2 3 2 1 of the paths


def test_the_middle_weighs_more_than_the_border():
    _, effective = central_gradient(pc.network("6 * (conv 3x3 4 same)"), (1, 3, 31, 31), 5)
    assert effective[15, 15] == 1.0
    assert effective[9, 9] < 0.001
