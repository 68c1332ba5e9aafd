"""Alternatives: the same input and output, true ratios, and times of what really ran."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polyconv as pc
from polyconv.count import alternatives

TEXTS = [
    ("conv 3x3 64 same", (1, 32, 56, 56)),
    ("conv 5x5 8 padding 2 stride 2 relu nobias", (2, 4, 17, 19)),
    ("conv 3x5 8 dilation 2 padding 1:2x0:3 reflect", (1, 8, 19, 23)),
    ("conv 4x4 12", (1, 6, 9, 11)),
    ("conv 7 8 causal", (1, 4, 40)),
    ("conv 3x3x3 8 same", (1, 8, 5, 6, 7)),
    ("depthwise 3x3 same multiplier 2", (1, 4, 9, 9)),
    ("separable 3x3 8 same relu", (1, 4, 9, 9)),
    ("spatial 3x3 8 same relu", (1, 4, 9, 9)),
    ("pointwise 8", (1, 4, 9, 9)),
    ("conv 1x1 8 stride 2 groups 2", (1, 4, 9, 9)),
    ("transposed 4x4 8 stride 2 padding 1 tanh", (1, 16, 7, 9)),
    ("transposed 3x3 8 stride 2 groups 4", (1, 16, 7, 9)),
]


@pytest.mark.parametrize(("text", "shape"), TEXTS)
def test_same_input_and_output(text: str, shape: tuple[int, ...]) -> None:
    comparison = pc.compare(text, shape)
    expected = pc.network(text).out_shape(shape)
    assert comparison.rows[0].kind == "standard"
    assert {row.report.out_shape for row in comparison.rows} == {expected}
    kinds = [row.kind for row in comparison.rows] + [kind for kind, _ in comparison.left_out]
    own = [row for row in comparison.rows if row.given]
    assert len(own) == 1
    assert len(kinds) == len(set(kinds)) == 6 - text.startswith("transposed") + (own[0].kind == "as given")
    assert own[0].report.macs == pc.network(text).count(shape).macs
    assert own[0].report.params == pc.network(text).count(shape).params
    for row in comparison.rows:
        assert row.report.macs == pc.network(str(row.network)).count(shape).macs
        weights = row.network.weights(shape[1])
        assert row.report.params == sum(array.size for array in weights.values())
    for word in ("relu", "tanh"):
        assert all((word in str(row.network)) == (word in text) for row in comparison.rows)
        assert all(str(row.network).count(word) <= 1 for row in comparison.rows)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("conv 3x3 8 same", "standard (given)"),
        ("pointwise 8", "standard (given)"),
        ("spatial 3x3 8 same", "spatially separable (given)"),
        ("separable 3x3 8 same", "depthwise separable (given)"),
        ("conv 3x3 8 same groups 4", "grouped (given)"),
        ("depthwise 3x3 same", "as given"),
        ("conv 3x3 8 same groups 8", "as given"),
        ("transposed 4x4 8 stride 2 groups 8", "as given"),
    ],
)
def test_the_layer_that_was_given_is_among_the_rows(text: str, title: str) -> None:
    comparison = pc.compare(text, (1, 8, 9, 9))
    assert [row.title for row in comparison.rows if row.given] == [title]
    assert title in str(comparison)
    assert [row["kind"] for row in comparison.as_dict()["rows"] if row["given"]] == [title.removesuffix(" (given)")]


def test_ratios_of_the_textbook() -> None:
    comparison = pc.compare("conv 3x3 64 same nobias", (1, 32, 56, 56))
    rows = {row.kind: row for row in comparison.rows}
    macs = {kind: comparison.macs_ratio(row) for kind, row in rows.items()}
    assert macs["standard"] == 1
    assert macs["depthwise separable"] == pytest.approx(1 / 64 + 1 / 9)  # 1 / out_channels + 1 / kernel positions
    assert macs["grouped"] == comparison.params_ratio(rows["grouped"]) == 0.25
    assert macs["spatially separable"] == pytest.approx((32 * 3 + 64 * 3) / (32 * 9))
    assert macs["bottleneck"] == pytest.approx((32 * 8 + 8 * 8 * 9 + 8 * 64) / (32 * 64 * 9))
    assert rows["dilated"].report.receptive_field.size == (5, 5)
    assert rows["standard"].report.receptive_field.size == (3, 3)


def test_a_large_kernel_is_dilated_to_the_same_field() -> None:
    comparison = pc.compare("conv 7x5 8 padding 3x2 stride 2", (1, 8, 30, 31))
    rows = {row.kind: row for row in comparison.rows}
    assert str(rows["dilated"].network) == "conv 3x3 8 stride 2 padding 3x2 dilation 3x2"
    assert rows["dilated"].report.receptive_field == rows["standard"].report.receptive_field
    assert comparison.macs_ratio(rows["dilated"]) == 9 / 35


@pytest.mark.parametrize(
    ("text", "shape", "kind", "why"),
    [
        ("pointwise 8", (1, 4, 9, 9), "spatially separable", "one axis only"),
        ("pointwise 8", (1, 4, 9, 9), "dilated", "a kernel of 1"),
        ("conv 3x3 7 same", (1, 4, 9, 9), "grouped", "4 and 7 channels have no common divisor"),
        ("conv 3x3 8 same", (1, 3, 9, 9), "bottleneck", "3 channels cannot be made 4 times fewer"),
        ("conv 3x3 8 same reflect", (1, 4, 2, 9), "dilated", "padding_mode 'reflect' can fill at most 1"),
    ],
)
def test_what_cannot_stand_in_is_left_out_with_the_reason(text: str, shape: Any, kind: str, why: str) -> None:
    comparison = pc.compare(text, shape)
    assert why in dict(comparison.left_out)[kind]
    assert f"{kind}: left out" in str(comparison)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("maxpool 2x2", (1, 3, 8, 8), "maxpool 2x2 is not a convolution"),
        ("conv 3x3 8 | relu", (1, 3, 8, 8), "one layer is compared at a time, .* has 2 stages"),
        ("conv 3x3 8", (1, 3, 2, 8), "stage 0 .* the input has 2"),
        ("conv 3x3 8", (3, 8, 8), "must be .batch, channels, height, width"),
    ],
)
def test_what_is_refused(text: str, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pc.compare(text, shape)


def test_times_are_of_runs_with_checked_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = pc.compare("conv 3x3 8 same", (1, 8, 12, 13))
    assert all(row.seconds is None for row in comparison.rows)
    assert "time (ms)" not in str(comparison)
    timed = comparison.timed(repeats=2)
    assert all(row.seconds > 0 for row in timed.rows if row.seconds is not None)
    assert all(row.seconds is not None for row in timed.rows)
    assert timed.time_ratio(timed.rows[0]) == 1
    assert "time (ms)" in str(timed)
    with pytest.raises(ValueError, match="repeats must be from 1"):
        alternatives.timed("conv 3x3 8", (1, 8, 12, 13), repeats=0)
    monkeypatch.setattr(pc.Network, "out_shape", lambda self, shape: (1, 2, 3))
    with pytest.raises(RuntimeError, match=r"shape \(1, 8, 10, 11\), expected \(1, 2, 3\)"):
        alternatives.timed("conv 3x3 8", (1, 8, 12, 13), repeats=1)


def test_table_and_dictionary() -> None:
    comparison = pc.compare("conv 3x3 64 same", (1, 32, 56, 56))
    text = str(comparison)
    assert "Input 1x32x56x56, output 1x64x56x56." in text
    assert f"{comparison.standard.report.macs_on_data:,}" in text
    plain = comparison.as_dict()
    assert [row["kind"] for row in plain["rows"]] == [row.kind for row in comparison.rows]
    assert plain["rows"][2]["macs_ratio"] == comparison.macs_ratio(comparison.rows[2])
    assert plain["rows"][0]["flops"] == 2 * plain["rows"][0]["macs"]


def test_an_empty_batch_has_no_ratio() -> None:
    comparison = pc.compare("conv 3x3 8 same", (0, 8, 5, 5))
    assert np.isnan(comparison.macs_ratio(comparison.rows[0]))
