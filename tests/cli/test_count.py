"""``polyconv count``, ``explain`` and ``architectures``."""

from __future__ import annotations

import csv
import io
import json

import pytest

import polyconv as pc
from polyconv.architectures import ARCHITECTURES

NET = "conv 3x3 64 same relu | maxpool 2x2"


def test_the_table_has_both_counts_with_their_names(polyconv):
    text = polyconv("count", NET, "--input", "3x224x224").stdout
    report = pc.network(NET).count((1, 3, 224, 224))
    assert "MACs on data" in text
    assert "field (px)" in text
    for number in (report.params, report.macs, report.macs_on_data):
        assert f"{number:,}" in text
    assert "1x64x112x112" in text


def test_json_is_the_report(polyconv):
    found = json.loads(polyconv("count", NET, "--input", "8x3x20x30", "--json").stdout)
    assert found == json.loads(pc.network(NET).count((8, 3, 20, 30)).to_json())


def test_csv_has_a_line_for_each_stage_and_the_total(polyconv):
    rows = list(csv.DictReader(io.StringIO(polyconv("count", NET, "--input", "3x20x30", "--csv").stdout)))
    assert [row["name"] for row in rows] == ["0", "1", "total"]
    assert int(rows[-1]["macs"]) == 3 * 64 * 9 * 20 * 30


@pytest.mark.parametrize(
    ("net", "given", "shape"),
    [
        ("conv 3 4", "2x10", (1, 2, 10)),
        ("conv 3 4", "5x2x10", (5, 2, 10)),
        ("conv 3x3 4", "2x10x11", (1, 2, 10, 11)),
        ("conv 3x3x3 4", "2X9x10x11", (1, 2, 9, 10, 11)),
        ("relu", "2x10x11", (1, 2, 10, 11)),
        ("relu", "7x2x9x10x11", (7, 2, 9, 10, 11)),
    ],
)
def test_the_batch_may_be_left_out(polyconv, net, given, shape):
    assert json.loads(polyconv("count", net, "--input", given, "--json").stdout)["in_shape"] == list(shape)


def test_a_named_network_has_its_own_input(polyconv):
    found = json.loads(polyconv("count", "@resnet50", "--json").stdout)
    assert found["in_shape"] == [1, 3, 224, 224]
    assert found["params"] == 25_557_032  # torchvision's resnet50, whose last layer has a bias


def test_the_list_of_networks_is_whole(polyconv):
    text = polyconv("architectures").stdout
    assert all(f"@{name} " in text for name in ARCHITECTURES)


def test_explain_has_a_line_for_each_stage(polyconv):
    lines = polyconv("explain", "conv 3x3 8 same | relu | depthwise 3x3", "--input", "4x9x9").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
