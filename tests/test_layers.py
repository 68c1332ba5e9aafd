"""Layers made in Python: what they refuse, and that whatever they accept has a text which reads back as equal."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyconv as pc
from polyconv import Activation, BatchNorm, Branches, Conv, ConvTranspose, GlobalPool, Identity, Network, Pool
from polyconv.layers import PADDING_MODES, Separable, Spatial, Upsample

SMALL = st.integers(1, 3)


def per_axis(ndim: int, values: st.SearchStrategy) -> st.SearchStrategy:
    return values | st.tuples(*[values] * ndim)


def window(ndim: int) -> st.SearchStrategy:
    amount = st.integers(0, 2)
    return st.fixed_dictionaries(
        {
            "stride": per_axis(ndim, SMALL),
            "dilation": per_axis(ndim, SMALL),
            "padding": st.sampled_from(["valid", "same", "full"])
            | per_axis(ndim, amount)
            | st.tuples(*[st.tuples(amount, amount)] * ndim),
        }
    )


@st.composite
def built(draw: st.DrawFn) -> object:
    """One layer of any kind, made by its constructor."""
    ndim = draw(SMALL)
    kernel = draw(st.tuples(*[SMALL] * ndim) | st.lists(SMALL, min_size=ndim, max_size=ndim))
    options = draw(window(ndim))
    ends = {"bias": draw(st.booleans()), "activation": draw(st.sampled_from([None, *pc.ACTIVATIONS]))}
    mode = draw(st.sampled_from(PADDING_MODES))
    groups, channels = draw(SMALL), draw(SMALL)
    full = Conv(kernel_size=kernel, out_channels=channels, padding_mode=mode, **options, **ends)
    kind = draw(st.sampled_from(["conv", "pointwise", "depthwise", "separable", "spatial", "transposed", "pool", "up"]))
    match kind:
        case "conv":
            return Conv(kernel_size=kernel, out_channels=channels * groups, groups=groups, **options, **ends)
        case "pointwise":
            return Conv(kernel_size=None, out_channels=channels, padding_mode=mode, **options, **ends)
        case "depthwise":
            return Conv(kernel_size=kernel, out_channels=None, groups=None, multiplier=groups, **options, **ends)
        case "separable":
            return Separable.of(full, groups)
        case "spatial":
            return Spatial(full)
        case "transposed":
            return ConvTranspose(kernel_size=kernel, out_channels=channels, **options, **ends)
        case "pool":
            average = draw(st.booleans())
            if average:
                options["dilation"] = 1
            flags = {"ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans())}
            return Pool(kind="avg" if average else "max", kernel_size=kernel, **options, **flags)
        case _:
            return draw(st.sampled_from([Upsample(tuple(kernel)), GlobalPool("max"), BatchNorm(), Activation("silu")]))


@given(st.lists(built(), min_size=1, max_size=1))
def test_a_layer_that_is_built_has_a_text(layers):
    net = Network(layers)
    again = pc.network(str(net))
    assert again == net, str(net)
    assert hash(again) == hash(net)


def test_a_layer_stands_for_a_network():
    layer = Conv(kernel_size=(3, 3), out_channels=4)
    assert pc.network(layer) == pc.network("conv 3x3 4")
    assert pc.receptive_field(layer).size == (3, 3)
    branches = Branches("add", [[Identity()], [BatchNorm()]])
    assert pc.network(branches) == pc.network("add(identity, batchnorm)")


def test_fields_in_any_kind_of_sequence():
    layer = Conv(
        kernel_size=np.array([3, 5]), out_channels=np.int32(4), stride=np.int64(2), padding=np.array([[0, 1], [2, 0]])
    )
    assert str(Network([layer])) == "conv 3x5 4 stride 2 padding 0:1x2:0"
    assert Upsample(np.int64(3)) == Upsample(3)


BAD = [
    (lambda: Conv(kernel_size=(3,), out_channels=4, multiplier=2), "multiplier = 2"),
    (lambda: Conv(kernel_size=None, out_channels=None, groups=None), "depthwise layer needs a kernel"),
    (lambda: Conv(kernel_size=(3,), out_channels=4, bias="no"), "bias must be True or False, got 'no'"),
    (lambda: ConvTranspose(kernel_size=None, out_channels=4), "kernel_size is None"),
    (lambda: Pool(kind="max", kernel_size=None), "kernel_size is None"),
    (lambda: Pool(kind="max", kernel_size=2, ceil_mode=1), "ceil_mode must be True or False, got 1"),
    (
        lambda: Separable(
            Conv(kernel_size=(3,), out_channels=None, groups=None, bias=False),
            Conv(kernel_size=None, out_channels=4),
        ),
        "bias False and True",
    ),
    (
        lambda: Separable(
            Conv(kernel_size=(3,), out_channels=None, groups=None, activation="relu"),
            Conv(kernel_size=None, out_channels=4),
        ),
        "activation relu",
    ),
    (lambda: Separable(*[Conv(kernel_size=(3,), out_channels=4)] * 2), r"groups 1 .*kernel \(3,\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_what_has_no_text_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("stages", ["conv 3x3 4", ["conv 3x3 4"], [pc.Layer()], [None], 3])
def test_a_network_holds_layers(stages):
    with pytest.raises(TypeError, match=r"holds layers and Branches, got .*polyconv\.network"):
        Network(stages)
    with pytest.raises(TypeError, match=r"a branch holds layers"):
        Branches("add", [stages])


def test_dilation_says_nothing_about_one_tap():
    layer = Conv(kernel_size=None, out_channels=4, dilation=(2, 3))
    assert layer == Conv(kernel_size=None, out_channels=4)
    assert re.fullmatch(r"pointwise 4", str(Network([layer])))
