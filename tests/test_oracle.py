"""The checkers are checked: the oracle against figures and definitions, every assertion against a wrong answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import oracle
import strategies
from tolerance import assert_close, assert_equal, bound


def naive(x: list[float], w: list[float]) -> list[float]:
    return [sum(x[i + j] * w[j] for j in range(len(w))) for i in range(len(x) - len(w) + 1)]


def test_the_oracle_correlates_and_does_not_flip():
    answer = oracle.conv(np.array([[[1.0, 2, 3, 5]]]), np.array([[[1.0, 10]]]))
    assert answer.y.tolist() == [[[21, 32, 53]]]
    assert naive([1, 2, 3, 5], [1, 10]) == [21, 32, 53]


def test_the_oracle_counts_what_it_does():
    answer = oracle.conv(np.ones((2, 4, 5)), np.ones((6, 2, 3)), padding=1, groups=2)
    # 5 outputs of 3 taps, of which one at each end is padding; 2 pictures, 6 filters of 2 channels
    assert answer.multiplications == 2 * 6 * 2 * 15
    assert answer.on_data == 2 * 6 * 2 * 13
    assert answer.padding == 2 * 6 * 2 * 2
    assert answer.reads[(0,)] == {(0,), (1,)}
    assert answer.reads[(2,)] == {(1,), (2,), (3,)}


def test_the_oracle_counts_transposed_layers_by_their_inputs():
    answer = oracle.conv_transpose(np.ones((1, 8, 16, 16)), np.ones((8, 4, 4, 4)), stride=2, padding=1)
    assert answer.y.shape == (1, 4, 32, 32)
    assert answer.multiplications == 131_072
    assert answer.on_data == (16 * 4 - 2) ** 2 * 8 * 4  # per axis one tap at each end is cropped away


@pytest.mark.parametrize(
    ("size", "pads", "window", "stride", "ceil_mode", "starts"),
    [
        (5, (0, 0), 3, 1, False, [0, 1, 2]),
        (5, (0, 0), 2, 2, False, [0, 2]),
        (5, (0, 0), 2, 2, True, [0, 2, 4]),
        (4, (1, 1), 3, 2, False, [-1, 1]),
        (4, (1, 1), 3, 2, True, [-1, 1, 3]),
        (3, (1, 1), 2, 3, True, [-1, 2]),
        (3, (1, 1), 1, 4, True, [-1]),  # the next would start at 3, in the right padding: left out
        (2, (0, 0), 3, 2, True, [0]),
        (1, (0, 0), 3, 2, True, []),
        (0, (1, 1), 2, 1, False, [-1]),
    ],
)
def test_windows_slide(size, pads, window, stride, ceil_mode, starts):
    assert oracle.window_starts(size, pads, window, stride, ceil_mode) == starts


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("replicate", [0, 0, 0, 1, 2, 2, 2]),
        ("circular", [1, 2, 0, 1, 2, 0, 1]),
        ("reflect", [2, 1, 0, 1, 2, 1, 0]),
        ("zeros", [None, None, 0, 1, 2, None, None]),
    ],
)
def test_padding_modes_show_these_positions(mode, shown):
    assert [oracle.source(p, 3, mode) for p in range(-2, 5)] == shown


def test_padding_words():
    assert oracle.conv_padding("same", [4, 5, 1], [3, 3, 4], [2, 2, 1]) == [(0, 1), (1, 1), (1, 2)]
    assert oracle.conv_padding("full", [4], [5], [2]) == [(4, 4)]
    assert oracle.conv_padding("causal", [4], [5], [2]) == [(4, 0)]
    assert oracle.conv_padding(((1, 2), 3), [4, 4], [5, 5], [1, 1]) == [(1, 2), (3, 3)]
    assert oracle.transpose_crop("same", [3, 5, 2], [2, 2, 3]) == [(0, 1), (1, 2), (0, -1)]


@given(strategies.convs())
def test_drawn_cases_say_what_they_are(case):
    assert case.x.ndim - 2 == case.ndim
    assert "float" in repr(case)


def test_drawn_memory_holds_the_same_values():
    a = strategies.integers((2, 3, 5), "float32", 1)
    for name, present in strategies.MEMORY.items():
        view = present(a)
        assert view.shape == a.shape, name
        if name != "broadcast":
            assert np.array_equal(view, a), name
    assert not strategies.MEMORY["misaligned"](a).flags.aligned
    assert not strategies.MEMORY["readonly"](a).flags.writeable
    assert min(strategies.MEMORY["reversed"](a).strides) < 0


# -- every assertion is fed a wrong answer -----------------------------------------------------------------------------

RIGHT = np.array([1.0, 2.0, np.nan, np.inf], np.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (RIGHT.tolist(), "list"),
        (RIGHT.astype("float64"), "float64"),
        (RIGHT[:3], r"\(3,\)"),
        (RIGHT.reshape(2, 2), r"\(2, 2\)"),
        (np.array([np.nextafter(np.float32(1), 2), 2.0, np.nan, np.inf], np.float32), "1 of 4"),
        (np.array([1.0, 2.0, 3.0, np.inf], np.float32), r"\(2,\)"),
        (np.array([1.0, 2.0, np.nan, -np.inf], np.float32), r"\(3,\)"),
        (np.array([1.0, np.nan, np.nan, np.inf], np.float32), r"\(1,\)"),
    ],
)
def test_assert_equal_can_fail(wrong, message):
    assert_equal(RIGHT.copy(), RIGHT)
    with pytest.raises(AssertionError, match=message):
        assert_equal(wrong, RIGHT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (RIGHT.astype("float64"), "float64"),
        (RIGHT[:3], r"\(3,\)"),
        (RIGHT + np.float32(1e-4), r"2 of 4 .* \(0,\)"),
        (np.array([1.0, 2.0, np.nan, 1e30], np.float32), r"\(3,\)"),
        (np.array([1.0, np.nan, np.nan, np.inf], np.float32), r"\(1,\)"),
        (np.array([np.inf, 2.0, np.nan, np.inf], np.float32), r"\(0,\)"),
    ],
)
def test_assert_close_can_fail(wrong, message):
    assert_close(RIGHT * np.float32(1 + 2e-7), RIGHT, terms=3)
    with pytest.raises(AssertionError, match=message):
        assert_close(wrong, RIGHT, terms=3)


def test_the_tolerance_is_tight():
    assert bound("float32", 9, 1.0) < 2e-6
    assert bound("float64", 9, 1.0) < 3e-15
    assert bound("float64", 1, 1.0, "gelu") < 3e-15


# -- the oracle is fed wrong layers: each parameter matters ------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"stride": (1, 2)},
        {"dilation": (2, 1)},
        {"padding": ((1, 0), (0, 1))},
        {"padding": "full"},
        {"padding_mode": "reflect"},
        {"padding_mode": "circular"},
        {"padding_mode": "replicate"},
        {"activation": "relu"},
    ],
)
def test_every_parameter_changes_the_answer(change):
    x, w = strategies.integers((1, 2, 5, 7), "float64", 1), strategies.integers((2, 2, 3, 2), "float64", 2)
    plain = {"stride": (2, 1), "dilation": (1, 2), "padding": ((0, 1), (1, 0))}
    assert not np.array_equal(oracle.conv(x, w, **plain).y, oracle.conv(x, w, **{**plain, **change}).y)


def test_flips_swaps_and_groups_change_the_answer():
    x, w = strategies.integers((1, 2, 5, 5), "float64", 1), strategies.integers((2, 2, 3, 3), "float64", 2)
    y = oracle.conv(x, w).y
    for other in (w[:, :, ::-1], w[:, :, :, ::-1], w.swapaxes(2, 3), w[::-1], w[:, ::-1]):
        assert not np.array_equal(oracle.conv(x, other).y, y)
    assert not np.array_equal(oracle.conv(x, w[:, :1], groups=2).y, y)


def test_compose_follows_reads_through_layers():
    first = oracle.conv(np.zeros((1, 1, 9)), np.zeros((1, 1, 3)), stride=2).reads
    second = oracle.conv(np.zeros((1, 1, 4)), np.zeros((1, 1, 2)), dilation=2).reads
    assert oracle.compose(first, second)[(0,)] == {(p,) for p in (0, 1, 2, 4, 5, 6)}
