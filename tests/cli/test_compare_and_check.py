"""``polyconv compare`` and ``polyconv check``."""

from __future__ import annotations

import json

import pytest

import polyconv as pc

LAYER = "conv 3x3 64 same"


def test_compare_prints_every_kind_with_its_ratios_and_time(polyconv):
    done = polyconv("compare", LAYER, "--input", "32x14x14")
    assert done.exit_code == 0, done.output
    comparison = pc.compare(LAYER, (1, 32, 14, 14))
    for row in comparison.rows:
        assert row.kind in done.stdout
        assert f"{row.report.macs:,}" in done.stdout
        assert f"{comparison.macs_ratio(row):.3f}" in done.stdout
    assert "(ms)" in done.stdout
    assert "Input 1x32x14x14, output 1x64x14x14." in done.stdout


def test_compare_as_json_has_measured_times(polyconv):
    found = json.loads(polyconv("compare", LAYER, "--input", "32x14x14", "--json").stdout)
    assert {row["kind"] for row in found["rows"]} >= {"standard", "grouped", "depthwise separable"}
    assert all(row["seconds"] > 0 for row in found["rows"])


@pytest.mark.parametrize(
    ("net", "says"), [("maxpool 2x2", "is not a convolution"), (f"{LAYER} | relu", "one layer .* at a time")]
)
def test_compare_refuses_what_has_no_alternatives(polyconv, net, says):
    import re

    done = polyconv("compare", net, "--input", "32x14x14")
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(says, done.stderr)


def test_check_gives_reason_fix_and_source(polyconv):
    done = polyconv("check", "conv 3x3 8 same | transposed 3x3 8 stride 2")
    assert done.exit_code == 0
    for words in ("stage 1:", "why:", "fix:", "source:", "1 warning."):
        assert words in done.stdout


def test_check_looks_at_sizes_where_they_are_given(polyconv):
    net = "3 * (conv 9x9 4 same)"
    assert "No warnings." in polyconv("check", net).stdout
    done = polyconv("check", net, "--input", "4x12x12")
    assert "its outputs see" in done.stdout


def test_check_says_once_what_holds_for_several_stages(polyconv):
    done = polyconv("check", "2 * (transposed 3x3 8 stride 2)")
    assert "stage 0, 1:" in done.stdout or "stage 0:" in done.stdout
    assert done.stdout.count("Deconvolution and checkerboard") == 1
    assert "2 warnings." in done.stdout


@pytest.mark.parametrize(("net", "status"), [("transposed 3x3 8 stride 2", 1), ("conv 3x3 8 same", 0)])
def test_strict_tells_by_the_exit_status(polyconv, net, status):
    assert polyconv("check", net, "--strict").exit_code == status


def test_check_and_json_of_a_named_network_take_its_input(polyconv):
    assert "stage" in polyconv("check", "@mobilenet_v1").stdout
