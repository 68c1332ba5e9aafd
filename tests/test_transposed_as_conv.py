"""Transposed layers of stride 1 are convolutions: the same numbers by definition, and what is fast for those."""

import numpy as np
import pytest

import oracle
import polyconv as pc
from polyconv.layers import ConvTranspose
from polyconv.run.weights import adjoint

CASES = [  # notation, channels, size
    ("transposed 3x3 6 padding 1", 4, (7, 9)),
    ("transposed 3x3 6", 4, (5, 4)),
    ("transposed 2x5 6 padding 1x2 groups 2 relu", 4, (6, 8)),
    ("transposed 3x4 4 padding 0:2x1:0 nobias", 3, (5, 6)),
    ("transposed 3 4 dilation 3 output_padding 2 padding 1", 2, (8,)),
    ("transposed 2x3x3 6 padding 0x1x2 groups 3 dilation 1x1x2", 3, (3, 5, 6)),
    ("transposed 1x1 5", 3, (4, 4)),
    ("transposed 4x3 5 same", 3, (6, 7)),
]


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(("notation", "channels", "size"), CASES)
def test_values_are_those_of_the_definition(notation, channels, size, layout):
    net = pc.network(notation)
    layer = net.nodes[0].layer
    assert layer.as_conv is not None
    assert layer.as_conv.out_size(size) == layer.out_size(size)
    rng = np.random.default_rng(3)
    weights = {name: rng.integers(-4, 5, a.shape).astype(np.float64) for name, a in net.weights(channels).items()}
    x = rng.integers(-5, 6, (2, channels, *size)).astype(np.float64)
    window = layer.as_conv._pairs(len(size))
    expected = oracle.conv(
        x, adjoint(weights["0.weight"], layer.groups), weights.get("0.bias"), padding=window, groups=layer.groups,
        dilation=layer.dilations_for(len(size)), activation=layer.activation,
    ).y  # fmt: skip
    by_scattering = oracle.conv_transpose(
        x, weights["0.weight"], weights.get("0.bias"), padding=[(b, a) for b, a, _ in layer._crops],
        output_padding=[more for *_, more in layer._crops], groups=layer.groups,
        dilation=layer.dilations_for(len(size)), activation=layer.activation,
    ).y  # fmt: skip
    np.testing.assert_array_equal(expected, by_scattering)
    last = layout == "channels_last"
    given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
    found = net.bind(weights, layout=layout)(given)
    np.testing.assert_array_equal(np.moveaxis(found, -1, 1) if last else found, expected)
    once = pc.conv_transpose(
        given, weights["0.weight"], weights.get("0.bias"), padding=layer.padding, groups=layer.groups, layout=layout,
        output_padding=layer.output_padding, dilation=layer.dilation, activation=layer.activation,
    )  # fmt: skip
    np.testing.assert_array_equal(once, found)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"stride": 2}, "positions lie apart"), ({"stride": (1, 2)}, "one axis"), ({"padding": 3}, "crops too much")],
)
def test_others_stay_as_they_are(options, why):
    assert ConvTranspose(kernel_size=(3, 3), out_channels=4, **options).as_conv is None, why


def test_explain_says_so_and_winograd_is_there_for_it():
    pytest.importorskip("llvmlite")
    net = pc.network("transposed 3x3 32 padding 1 nobias | batchnorm | relu")
    weights = net.weights(64)
    rng = np.random.default_rng(0)
    weights["1.running_var"] = rng.uniform(0.5, 2, 32).astype(np.float32)
    model = net.bind(weights, layout="channels_last")
    said = model.explain((1, 56, 56, 64)).splitlines()[0]
    assert said.startswith("0 winograd")
    assert said.endswith(", as a convolution of the flipped kernel, batch norm folded in, with relu")
    x = rng.standard_normal((1, 56, 56, 64), dtype=np.float32)
    wide = net.bind({name: a.astype(np.float64) for name, a in weights.items()}, layout="channels_last")
    np.testing.assert_allclose(model(x), wide(x.astype(np.float64)), atol=1e-3)


def test_nothing_gives_nothing():
    layer = pc.network("transposed 3x3 8")
    assert layer.bind(layer.weights(4))(np.zeros((2, 4, 0, 5), np.float32)).shape == (2, 8, 0, 7)
    layer = pc.network("transposed 1x1 8")
    assert layer.bind(layer.weights(4))(np.zeros((2, 4, 0, 5), np.float32)).shape == (2, 8, 0, 5)


def test_a_picture_that_is_cropped_away_is_refused_as_ever():
    net = pc.network("transposed 3x3 8 padding 2")
    with pytest.raises(ValueError, match=r"stage 0 .*padding crops 2 \+ 2 of them"):
        net.bind(net.weights(4))(np.zeros((1, 4, 2, 2), np.float32))
