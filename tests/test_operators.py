"""Every operator against the loops of the oracle: equal on integer-valued data, for every parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import polyconv as pc
import strategies
from engines import numpy_engine
from strategies import Case
from tolerance import assert_close, assert_equal

Operator = Callable[..., Any]


def check(operator: Operator, meaning: Callable[..., oracle.Answer], case: Case, exact: bool = True) -> None:
    """Both engines give what the oracle gives, or refuse what has no output, and leave their inputs alone."""
    try:
        expected = meaning(*case.arrays, **case.options).y
    except oracle.NoOutputError:
        expected = None
    check_engine(operator, expected, case, exact)
    with numpy_engine():
        check_engine(operator, expected, case, exact)


def check_engine(operator: Operator, expected: np.ndarray | None, case: Case, exact: bool) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"\d"):
            operator(*case.arrays, **case.options)
        return
    before = [None if a is None else a.tobytes() for a in case.arrays]
    y = operator(*case.arrays, **case.options)
    assert [None if a is None else a.tobytes() for a in case.arrays] == before, "an input was changed"
    assert not any(a is not None and np.may_share_memory(y, a) for a in case.arrays), "the output is an input"
    assert y.flags.writeable
    if exact:
        assert_equal(y, expected)
    else:
        weight = case.arrays[1] if len(case.arrays) > 1 else None
        terms = 2 if weight is None else weight.size
        assert_close(y, expected, terms=terms, activation=case.options.get("activation"))


def test_the_engines_are_two():
    """The switch used above does switch."""
    model = pc.network("conv 3x3 4 nobias").bind({"0.weight": np.ones((4, 2, 3, 3), "float32")})
    with numpy_engine():
        assert "numpy" in pc.network("conv 3x3 4 nobias").bind({"0.weight": np.ones((4, 2, 3, 3), "float32")}).explain(
            (1, 2, 8, 8)
        )
    assert "POLYCONV_ENGINE=numpy" not in model.explain((1, 2, 8, 8))


@given(strategies.convs())
def test_conv(case):
    check(pc.conv, oracle.conv, case)


@given(strategies.conv_transposes())
def test_conv_transpose(case):
    check(pc.conv_transpose, oracle.conv_transpose, case)


@given(strategies.pools(average=False))
def test_max_pool(case):
    check(pc.max_pool, oracle.max_pool, case)


@given(strategies.pools(average=True))
def test_avg_pool(case):
    check(pc.avg_pool, oracle.avg_pool, case, exact=False)


@pytest.mark.parametrize("activation", list(oracle.ACTIVATIONS))
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_activations(activation, dtype):
    """From far below zero to far above it, and the corners of the pieces."""
    x = np.linspace(-12, 12, 193, dtype=dtype).reshape(1, 1, -1)
    x = np.concatenate([x, np.array([[[-100.0, -3, 0, 3, 6, 100, 1e-20, -1e-20]]], dtype)], axis=2)
    one = np.ones((1, 1, 1), dtype)
    assert_close(pc.conv(x, one, activation=activation), oracle.activate(x, activation), terms=1, activation=activation)


@given(strategies.convs(activations=strategies.ACTIVATIONS, smallest=1))
def test_conv_with_any_activation(case):
    check(pc.conv, oracle.conv, case, exact=case.options["activation"] in oracle.EXACT_ACTIVATIONS)


@given(strategies.conv_transposes(activations=strategies.ACTIVATIONS))
def test_conv_transpose_with_any_activation(case):
    check(pc.conv_transpose, oracle.conv_transpose, case, exact=case.options["activation"] in oracle.EXACT_ACTIVATIONS)


@given(st.data())
def test_real_valued_data(data):
    """Within the bound of the tolerance table on data which does round."""
    case = data.draw(strategies.convs(activations=[None]) | strategies.conv_transposes(activations=[None]))
    transposed = "output_padding" in case.options
    operator, meaning = (pc.conv_transpose, oracle.conv_transpose) if transposed else (pc.conv, oracle.conv)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    arrays = [None if a is None else rng.standard_normal(a.shape).astype(a.dtype) for a in case.arrays]
    try:
        expected = meaning(*arrays, **case.options).y
    except oracle.NoOutputError:
        return
    magnitude = meaning(*[None if a is None else abs(a) for a in arrays], **case.options).y
    terms = arrays[1].size + 1
    assert_close(operator(*arrays, **case.options), expected, terms=terms, magnitude=magnitude)


def test_nan_and_infinity_stay_where_they_are_read():
    x = np.arange(25, dtype="float32").reshape(1, 1, 5, 5)
    x[0, 0, 1, 1], x[0, 0, 3, 4] = np.nan, np.inf
    w = np.ones((1, 1, 2, 3), "float32")
    for padding in (0, 1, ((0, 1), (2, 0))):
        assert_equal(pc.conv(x, w, padding=padding), oracle.conv(x, w, padding=padding).y)
        assert_equal(pc.max_pool(x, 3, stride=1, padding=1), oracle.max_pool(x, 3, stride=1, padding=1).y)
    with numpy_engine():
        assert_equal(pc.conv_transpose(x, w, stride=3), oracle.conv_transpose(x, w, stride=3).y)


def test_nan_and_infinity_stay_where_a_transposed_layer_stamps_them():
    x = np.arange(25, dtype="float32").reshape(1, 1, 5, 5)
    x[0, 0, 1, 1], x[0, 0, 3, 4] = np.nan, np.inf
    w = np.ones((1, 1, 2, 3), "float32")
    assert_equal(pc.conv_transpose(x, w, stride=3), oracle.conv_transpose(x, w, stride=3).y)


@pytest.mark.parametrize("activation", list(oracle.ACTIVATIONS))
def test_nan_comes_through_activations(activation):
    x = np.array([[[np.nan, 1.0, np.nan]]])
    y = pc.conv(x, np.ones((1, 1, 1)), activation=activation)
    assert np.isnan(y).tolist() == [[[True, False, True]]]


def test_four_axes():
    """The rank is a length: nothing stops at three."""
    x, w = strategies.integers((1, 2, 3, 4, 3, 5), "float64", 1), strategies.integers((3, 2, 2, 1, 3, 2), "float64", 2)
    options = {"stride": (1, 2, 1, 2), "padding": ((0, 1), (1, 0), 1, 0), "dilation": (1, 1, 1, 2)}
    check(pc.conv, oracle.conv, Case((x, w, None), options))
    check(pc.conv_transpose, oracle.conv_transpose, Case((x[:, :, :2, :2], w[:2], None), options))
    check(pc.max_pool, oracle.max_pool, Case((x,), {"kernel_size": 2, "stride": 1}))


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: tuple(np.int64(n) for n in v)])
def test_options_in_any_kind_of_sequence(kind):
    x, w = strategies.integers((1, 2, 7, 8), "float64", 1), strategies.integers((2, 2, 3, 2), "float64", 2)
    for options in ({"stride": (2, 1)}, {"dilation": (1, 2)}, {"padding": (1, 2)}):
        given = {name: kind(value) for name, value in options.items()}
        assert_equal(pc.conv(x, w, **given), oracle.conv(x, w, **options).y)
        assert_equal(pc.conv_transpose(x, w, **given), oracle.conv_transpose(x, w, **options).y)
        assert_equal(pc.max_pool(x, kind((3, 4)), **given), oracle.max_pool(x, (3, 4), **options).y)
    pairs = {"padding": kind([(1, 2), (0, 1)])} if kind in (list, tuple, np.array) else {"padding": [[1, 2], [0, 1]]}
    assert_equal(pc.conv(x, w, **pairs), oracle.conv(x, w, padding=((1, 2), (0, 1))).y)


def test_max_pool_of_negative_values_is_not_cut_at_zero():
    x = -np.arange(1, 10, dtype="float64").reshape(1, 1, 3, 3)
    assert pc.max_pool(x, 3, stride=1, padding=1).max() == -1
    assert pc.max_pool(x, 3, stride=1, padding=1).min() == -5
    low = np.full((1, 1, 4), -np.inf)
    assert_equal(pc.max_pool(low, 2), np.full((1, 1, 2), -np.inf))


def test_the_same_input_gives_the_same_bits():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 6, 17, 13)).astype("float32"), rng.standard_normal((8, 3, 3, 2)).astype("float32")
    first = pc.conv(x, w, groups=2, padding=1)
    for _ in range(3):
        assert pc.conv(x, w, groups=2, padding=1).tobytes() == first.tobytes()


# -- the named kinds -------------------------------------------------------------------------------------------------


def without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


@given(strategies.convs(), st.booleans())
def test_pointwise_conv(case, flat):
    """(O, I/g) or (O, I/g, 1, ...) weights; the same as conv with a window of one."""
    x, weight, bias = case.arrays
    weight = np.ascontiguousarray(weight.reshape(*weight.shape[:2], -1)[:, :, 0])
    options = {name: case.options[name] for name in ("stride", "groups", "activation", "layout")}
    full = weight.reshape(*weight.shape, *[1] * case.ndim)
    check(
        lambda x, w, b: pc.pointwise_conv(x, weight if flat else w, b, **options),
        lambda x, w, b: oracle.conv(x, w, b, **options),
        Case((x, full, bias)),
    )


@given(strategies.convs(), st.integers(1, 3), st.integers(0, 2**16))
def test_depthwise_conv(case, multiplier, seed):
    """(C * M, 1, *kernel) weights; output channel c * M + m reads channel c."""
    x, weight, _ = case.arrays
    channels = x.shape[1 if case.options["layout"] == "channels_first" else -1]
    weight = strategies.integers((channels * multiplier, 1, *weight.shape[2:]), x.dtype.name, seed)
    bias = strategies.integers((channels * multiplier,), x.dtype.name, seed + 1)
    options = without(case.options, "groups")
    check(
        lambda *a: pc.depthwise_conv(*a, **options),
        lambda *a: oracle.conv(*a, groups=channels, **options),
        Case((x, weight, bias)),
    )


@given(strategies.convs(), st.integers(1, 2), st.integers(0, 2**16), st.booleans())
def test_separable_conv(case, multiplier, seed, with_bias):
    """Depthwise, then pointwise; stride, padding and dilation on the depthwise, the activation last."""
    x, weight, _ = case.arrays
    dtype = x.dtype.name
    channels = x.shape[1 if case.options["layout"] == "channels_first" else -1]
    depthwise = strategies.integers((channels * multiplier, 1, *weight.shape[2:]), dtype, seed)
    pointwise = strategies.integers((3, channels * multiplier, *[1] * case.ndim), dtype, seed + 1)
    biases = [strategies.integers((n,), dtype, seed + n) if with_bias else None for n in (channels * multiplier, 3)]
    options = without(case.options, "groups")

    def meaning(x, depthwise, pointwise):
        middle = oracle.conv(x, depthwise, biases[0], groups=channels, **without(options, "activation"))
        last = {name: options[name] for name in ("activation", "layout")}
        return oracle.conv(middle.y, pointwise, biases[1], **last)

    check(
        lambda x, d, p: pc.separable_conv(x, d, p, biases[1], depthwise_bias=biases[0], **options),
        meaning,
        Case((x, depthwise, pointwise)),
    )


def axis_options(options: dict[str, Any], axis: int, ndim: int) -> dict[str, Any]:
    """The options which apply to the one axis of a spatially separable stage."""

    def only(value: Any, rest: Any) -> Any:
        if isinstance(value, str):
            return value
        return tuple((value if isinstance(value, int) else value[axis]) if a == axis else rest for a in range(ndim))

    return {
        "stride": only(options["stride"], 1),
        "dilation": only(options["dilation"], 1),
        "padding": only(options["padding"], 0),
        "padding_mode": options["padding_mode"],
        "layout": options["layout"],
    }


@given(strategies.convs(ndims=(2, 3), smallest=1), st.integers(0, 2**16), st.booleans())
def test_spatially_separable_conv(case, seed, with_bias):
    """One weight per axis, in the order of the axes, each with the options of its own axis; the activation last."""
    x, weight, _ = case.arrays
    dtype, ndim = x.dtype.name, case.ndim
    channels = x.shape[1 if case.options["layout"] == "channels_first" else -1]
    options = without(case.options, "groups")
    widths = [channels, *[2] * ndim]
    weights = [
        strategies.integers(
            (2, widths[axis], *(k if a == axis else 1 for a, k in enumerate(weight.shape[2:]))),
            dtype,
            seed + axis,
            -2,
            2,
        )
        for axis in range(ndim)
    ]
    biases = [strategies.integers((2,), dtype, seed + 7 + axis) for axis in range(ndim)] if with_bias else None

    def meaning(x):
        for axis, w in enumerate(weights):
            last = axis == ndim - 1
            activation = options["activation"] if last else None
            bias = biases[axis] if biases else None
            answer = oracle.conv(x, w, bias, activation=activation, **axis_options(options, axis, ndim))
            x = answer.y
        return answer

    check(lambda x: pc.spatially_separable_conv(x, weights, biases, **options), meaning, Case((x,)))


def test_spatially_separable_conv_is_the_outer_product():
    """3x1 then 1x3: six weights for nine."""
    x = strategies.integers((1, 1, 6, 7), "float64", 3)
    column, row = np.array([1.0, 2, -1]), np.array([3.0, 0, -2])
    y = pc.spatially_separable_conv(x, [column.reshape(1, 1, 3, 1), row.reshape(1, 1, 1, 3)], padding="same")
    assert_equal(y, pc.conv(x, np.outer(column, row)[None, None], padding="same"))
