"""The chart of costs."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import polyconv as pc
from polyconv.cli import commands
from polyconv.see.costs import draw_costs
from polyconv.see.shapes import Polygon, Text


def test_bars_are_as_long_as_the_numbers():
    comparison = pc.compare("conv 3x3 64 same", (1, 32, 56, 56))
    picture = draw_costs(comparison).picture()
    bars = [s.points[1][0] - s.points[0][0] for s in picture.shapes if isinstance(s, Polygon)]
    count = len(comparison.rows)
    assert len(bars) == 2 * count
    macs = bars[count:]
    for bar, row in zip(macs, comparison.rows, strict=True):
        assert bar / macs[0] == pytest.approx(comparison.macs_ratio(row), abs=0.01)


def test_times_are_a_column_where_they_were_measured():
    comparison = pc.compare("conv 3x3 8 same", (1, 8, 9, 9)).timed(1)
    said = [s.text for s in draw_costs(comparison, theme="dark").picture().shapes if isinstance(s, Text)]
    assert "time (ms)" in said
    assert {row.title for row in comparison.rows} <= set(said)


def test_the_command_draws_it(tmp_path):
    target = tmp_path / "costs.svg"
    words = ["compare", "conv 3x3 8 same", "--input", "8x9x9", "--chart"]
    assert CliRunner().invoke(commands, [*words, str(target)]).exit_code == 0
    assert "depthwise separable" in target.read_text()
    assert CliRunner().invoke(commands, [*words, str(tmp_path / "costs.gif")]).exit_code == 2
