"""Networks: shapes, weights, binding and running, against the drawn tree's own meaning."""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import networks
import oracle
import polyconv as pc
import strategies
from engines import numpy_engine
from tolerance import assert_close, assert_equal

SIZES = {1: [7, 11, 4], 2: [5, 7, 4], 3: [3, 4, 2]}
LONGEST = {1: 3, 2: 3, 3: 1}


@st.composite
def calls(draw: st.DrawFn):
    """Stages, their text, and an input."""
    ndim = draw(st.integers(1, 3))
    stages = draw(networks.stages(ndim, depth=2 if ndim < 3 else 1, longest=LONGEST[ndim]))
    sizes = [draw(st.sampled_from(SIZES[ndim])) for _ in range(ndim)]
    assume(networks.growth(stages) ** ndim * np.prod(sizes) <= 20_000)
    shape = (draw(st.sampled_from([1, 2, 0])), 2, *sizes)
    x = strategies.integers(shape, "float64", draw(st.integers(0, 999)), -2, 2)
    return stages, networks.line(stages, random.Random(draw(st.integers(0, 9)))), x


def given_weights(net: pc.Network, ndim: int, seed: int) -> dict[str, np.ndarray]:
    """Random weights, batch norms that do something included."""
    weights = net.weights(in_channels=2, seed=seed, dtype="float64", ndim=ndim)
    rng = np.random.default_rng(seed)
    for name, array in weights.items():
        if name.endswith("running_mean"):
            array[...] = rng.normal(size=array.shape)
        elif name.endswith("running_var"):
            array[...] = rng.uniform(0.25, 4, array.shape)
    return weights


@given(calls(), st.integers(0, 99))
def test_a_model_gives_what_its_stages_mean(call, seed):
    stages, text, x = call
    net = pc.network(text)
    try:
        weights = given_weights(net, x.ndim - 2, seed)
    except ValueError:  # channels which do not fit: then no shape fits either
        with pytest.raises(ValueError, match=r"stage \d"):
            net.out_shape(x.shape)
        return
    try:
        expected = networks.evaluate_with(stages, x, weights)
    except oracle.NoOutputError:
        with pytest.raises(ValueError, match=r"stage \d"):
            net.out_shape(x.shape)
        with pytest.raises(ValueError, match=r"\d"):
            net.bind(weights)(x)
        return
    assert net.out_shape(x.shape) == expected.shape
    before = x.tobytes(), [w.tobytes() for w in weights.values()]
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    engines = [contextlib.nullcontext(), numpy_engine()]  # machine code for one layout, the reference for the other
    for layout, engine in zip(("channels_first", "channels_last"), engines[:: 1 if seed % 2 else -1], strict=True):
        last = layout == "channels_last"
        with engine:
            y = net.bind(weights, layout=layout)(np.moveaxis(x, 1, -1) if last else x)
        assert (x.tobytes(), [w.tobytes() for w in weights.values()]) == before, "an input was changed"
        assert not np.may_share_memory(y, x)
        assert_close(np.moveaxis(y, -1, 1) if last else y, expected, terms=4000, magnitude=scale)


def test_a_model_takes_any_spatial_size_and_batch():
    net = pc.network("conv 3x3 4 same relu | maxpool 2x2 | transposed 2x2 3 stride 2 nobias")
    weights = net.weights(in_channels=2, seed=3, dtype="float64")
    model = net.bind(weights)
    for shape in [(1, 2, 8, 6), (3, 2, 5, 9), (0, 2, 4, 4), (1, 2, 8, 6), (2, 2, 2, 31)]:
        x = strategies.integers(shape, "float64", sum(shape))
        middle = oracle.max_pool(oracle.conv(x, *list(weights.values())[:2], padding="same", activation="relu").y, 2).y
        expected = oracle.conv_transpose(middle, weights["2.weight"], stride=2).y
        assert_close(model(x), expected, terms=40, magnitude=10)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(
    "text",
    [
        "conv 3x2 6 groups 2 | batchnorm | relu",
        "conv 3x2 6 groups 2 nobias | batchnorm",
        "conv 3x2 6 tanh | batchnorm",
        "depthwise 3x3 multiplier 2 | batchnorm | hardswish",
        "transposed 3x2 6 groups 2 stride 2 | batchnorm | relu6",
        "transposed 3x2 6 groups 2 nobias | batchnorm",
        "separable 3x3 4 | batchnorm | silu",
        "spatial 3x3 4 | batchnorm",
        "batchnorm | relu",
        "conv 3x3 4 | batchnorm | batchnorm | sigmoid | sigmoid",
        "conv 3x3 4 | add(batchnorm, relu, identity)",
        "conv 3x3 4 | concat(batchnorm | relu, identity | batchnorm)",
        "maxpool 2x2 | batchnorm | leaky_relu",
    ],
)
def test_folding_changes_nothing(text, dtype):
    """Batch norms and activations do what they do on their own, wherever they stand."""
    net = pc.network(text)
    weights = net.weights(in_channels=4, seed=3, dtype=dtype)
    rng = np.random.default_rng(7)
    for name, array in weights.items():
        low = 0.25 if name.endswith("running_var") else -2
        if array.ndim == 1:
            array[...] = rng.uniform(low, 2, array.shape)
    x = strategies.integers((2, 4, 5, 7), dtype, 1)
    model = net.bind(weights)
    y, steps = model(x), x
    for number, stage in enumerate(net.stages):
        alone = pc.Network((stage,))
        own = {f"0.{n.partition('.')[2]}": w for n, w in weights.items() if n.startswith(f"{number}.")}
        steps = alone.bind(own)(steps)
    assert_close(y, steps, terms=200, magnitude=max(1.0, float(abs(steps).max())))


@pytest.mark.parametrize(
    "text",
    [
        "identity",
        "identity | identity",
        "add(identity)",
        "concat(identity)",
        "upsample 1",
        "maxpool 1x1",
        "add(identity | add(identity))",
    ],
)
@pytest.mark.parametrize("layout", strategies.LAYOUTS)
def test_an_output_is_never_the_input(text, layout):
    x = strategies.integers((1, 2, 3, 4), "float32", 1)
    y = pc.network(text).bind({}, layout=layout)(x)
    assert_equal(y, x)
    assert not np.may_share_memory(y, x)


def test_what_nothing_reads_any_more_is_let_go():
    """Forty layers hold a few activations at a time, not forty."""
    model = pc.network("40 * (relu)").bind({})
    x = np.zeros((1, 1, 512, 512), "float32")
    model(x)
    tracemalloc.start()
    model(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * x.nbytes, f"{peak / x.nbytes:.1f} activations at once"


def test_a_good_call_does_not_let_a_bad_one_through():
    """What a model remembers of a shape holds for that shape and dtype only."""
    net = pc.network("conv 3x3 4 | relu")
    model = net.bind(net.weights(in_channels=3))
    model(np.ones((1, 3, 8, 8), "float32"))
    for bad, error in [((1, 4, 8, 8), "float32"), ((1, 3, 8, 8), "float64"), ((1, 3, 2, 8), "float32")]:
        with pytest.raises((ValueError, TypeError), match=r"\d"):
            model(np.ones(bad, error))
    free = pc.network("relu | maxpool 2x2").bind({})
    for shape, dtype in [((1, 3, 4, 4), "float32"), ((1, 2, 4, 4), "float32"), ((2, 3, 4, 4), "float64")]:
        y = free(np.ones(shape, dtype))
        assert (y.shape, y.dtype.name) == ((*shape[:2], 2, 2), dtype)


def test_a_model_keeps_its_own_weights():
    """Packed once: changing an array afterwards changes nothing."""
    net = pc.network("conv 3 2 | batchnorm | add(identity, pointwise 2)")
    weights = given_weights(net, 1, 1)
    model = net.bind(weights)
    x = strategies.integers((1, 2, 9), "float64", 2)
    before = model(x)
    for array in weights.values():
        array += 1
    assert_equal(model(x), before)


@pytest.mark.parametrize(
    ("text", "in_channels", "expected"),
    [
        ("conv 3x3 4 groups 2", 6, {"0.weight": (4, 3, 3, 3), "0.bias": (4,)}),
        ("conv 3 4 nobias | relu | conv 5 2", 3, {"0.weight": (4, 3, 3), "2.weight": (2, 4, 5), "2.bias": (2,)}),
        ("transposed 3x5 4 groups 2 nobias", 6, {"0.weight": (6, 2, 3, 5)}),
        ("depthwise 3x3 multiplier 2", 3, {"0.weight": (6, 1, 3, 3), "0.bias": (6,)}),
        (
            "separable 3x3 8",
            3,
            {
                "0.depthwise.weight": (3, 1, 3, 3),
                "0.depthwise.bias": (3,),
                "0.pointwise.weight": (8, 3, 1, 1),
                "0.pointwise.bias": (8,),
            },
        ),
        (
            "spatial 3x5 8",
            3,
            {
                "0.axis0.weight": (8, 3, 3, 1),
                "0.axis0.bias": (8,),
                "0.axis1.weight": (8, 8, 1, 5),
                "0.axis1.bias": (8,),
            },
        ),
        (
            "relu | maxpool 2x2 | concat(pointwise 4 nobias | conv 3x3 5 same nobias, identity)",
            3,
            {"2.0.0.weight": (4, 3, 1, 1), "2.0.1.weight": (5, 4, 3, 3)},
        ),
        (
            "identity | batchnorm",
            3,
            {"1.weight": (3,), "1.bias": (3,), "1.running_mean": (3,), "1.running_var": (3,)},
        ),
    ],
)
def test_names_and_shapes_of_weights(text, in_channels, expected):
    weights = pc.network(text).weights(in_channels=in_channels, seed=0)
    assert {name: array.shape for name, array in weights.items()} == expected
    assert {array.dtype.name for array in weights.values()} == {"float32"}


def test_weights_follow_their_seed():
    net = pc.network("conv 3x3 4 | separable 3x3 5")
    one, same, other = (net.weights(in_channels=3, seed=seed) for seed in (1, 1, 2))
    assert all(one[name].tobytes() == same[name].tobytes() for name in one)
    assert any(one[name].tobytes() != other[name].tobytes() for name in one)


def test_weights_bind_in_any_order_and_kind():
    net = pc.network("conv 3 4 | conv 3 2")
    weights = net.weights(in_channels=3, seed=1)
    x = strategies.integers((2, 3, 9), "float32", 1)
    expected = net.bind(weights)(x)
    assert_equal(net.bind(dict(reversed(weights.items())))(x), expected)
    assert_equal(net.bind({name: strategies.MEMORY["strided"](w) for name, w in weights.items()})(x), expected)


def test_explain_has_a_line_for_every_stage():
    net = pc.network("conv 3x3 8 same | batchnorm | relu | maxpool 2x2 | add(identity, separable 3x3 8 same)")
    text = net.bind(net.weights(in_channels=3)).explain((1, 3, 32, 32))
    for name in ("0", "1", "2", "3", "4.1.0.depthwise", "4.1.0.pointwise", "4"):
        assert any(line.startswith(f"{name} ") for line in text.splitlines()), text


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("conv 3x3 64 same relu | maxpool 2x2", (1, 3, 224, 224), (1, 64, 112, 112)),
        ("conv 3x3 64 same stride 2", (2, 3, 7, 8), (2, 64, 4, 4)),
        ("conv 3 64 causal dilation 4 stride 2", (1, 3, 10), (1, 64, 5)),
        ("conv 3x5 64 full", (1, 3, 10, 10), (1, 64, 12, 14)),
        ("transposed 4x4 64 stride 2 padding 1", (1, 3, 10, 12), (1, 64, 20, 24)),
        ("transposed 3x3 64 stride 2 padding 1 output_padding 1", (1, 3, 10, 12), (1, 64, 20, 24)),
        ("transposed 3x3 64 stride 2 same", (1, 3, 10, 12), (1, 64, 20, 24)),
        ("depthwise 3x3 multiplier 3 | globalpool", (1, 3, 10, 12), (1, 9, 1, 1)),
        ("upsample 2", (1, 3, 4, 5), (1, 3, 8, 10)),
        ("upsample 3", (1, 3, 4), (1, 3, 12)),
        ("batchnorm | relu | identity", (0, 3, 4, 5, 6), (0, 3, 4, 5, 6)),
        ("concat(pointwise 64, pointwise 96 | conv 3x3 128 same)", (1, 192, 28, 28), (1, 192, 28, 28)),
        ("add(identity, conv 3x3 64 same | conv 3x3 64 same)", (1, 64, 28, 28), (1, 64, 28, 28)),
        ("3 * (conv 3x3 64 same relu | maxpool 2x2)", (1, 3, 64, 48), (1, 64, 8, 6)),
        ("maxpool 3x3 stride 2 padding 1", (1, 3, 112, 112), (1, 3, 56, 56)),
        ("avgpool 2x3", (1, 3, 9, 9), (1, 3, 4, 3)),
    ],
)
def test_shapes(text, shape, expected):
    net = pc.network(text)
    assert net.out_shape(shape) == expected
    small = tuple(min(size, 64) for size in shape)
    if small == shape:
        model = net.bind(net.weights(in_channels=shape[1], ndim=len(shape) - 2))
        assert model(np.zeros(shape, "float32")).shape == expected
