"""Networks: shapes, weights, binding and running, against the drawn tree's own meaning."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import networks
import oracle
import polyconv as pc
import strategies
from tolerance import assert_close

SIZES = {1: [7, 11, 4], 2: [5, 7, 4], 3: [3, 4, 2]}
CHEAP = {1: 3, 2: 3, 3: 1}


@st.composite
def calls(draw: st.DrawFn):
    """Stages, their text, and an input."""
    ndim = draw(st.integers(1, 3))
    stages = draw(networks.stages(ndim, depth=2 if ndim < 3 else 1, longest=CHEAP[ndim]))
    sizes = [draw(st.sampled_from(SIZES[ndim])) for _ in range(ndim)]
    shape = (draw(st.integers(0, 2)), 2, *sizes)
    x = strategies.integers(shape, "float64", draw(st.integers(0, 999)), -2, 2)
    return stages, networks.line(stages, random.Random(draw(st.integers(0, 9)))), x


@settings(max_examples=60)
@given(calls(), st.integers(0, 99))
def test_a_model_gives_what_its_stages_mean(call, seed):
    stages, text, x = call
    net = pc.network(text)
    try:
        shape = net.out_shape(x.shape)
    except ValueError:
        with pytest.raises(ValueError, match=r"\S"):
            net.count(x.shape)
        with pytest.raises((oracle.NoOutputError, AssertionError)):
            networks.evaluate(stages, x, Ones(stages, x))
        return
    assert net.count(x.shape).out_shape == shape
    weights = net.weights(in_channels=2, seed=seed, dtype="float64")
    expected = networks.evaluate_with(stages, x, weights)
    assert expected.shape == shape
    y = net.bind(weights)(x)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    assert_close(y, expected, terms=4000, magnitude=scale)
    last = net.bind(weights, layout="channels_last")(np.moveaxis(x, 1, -1))
    assert_close(last, np.moveaxis(expected, 1, -1), terms=4000, magnitude=scale)


class Ones:
    """Weights for a network which refuses its input: the oracle refuses it too, before or after using some."""

    def __init__(self, stages, x) -> None:
        raise NotImplementedError
