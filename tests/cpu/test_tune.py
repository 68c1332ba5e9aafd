"""Measured tuning: what is found is remembered, used and said; what is wrong is never chosen."""

from importlib import import_module

import numpy as np
import pytest

import polyconv as pc
from cpu.process import run
from polyconv.run.cpu import pool

tuning = import_module("polyconv.run.tune")
NET, SHAPE = "conv 3x3 24 same relu | maxpool 2x2", (1, 16, 13, 11)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    return tmp_path


def explained(layout="channels_last"):
    net = pc.network(NET)
    shape = SHAPE if layout == "channels_first" else (1, 13, 11, 16)
    return net.bind(net.weights(in_channels=16), layout=layout).explain(shape).splitlines()


def test_what_was_measured_is_used_and_said():
    assert "expected" in explained()[0]
    found = pc.tune(NET, SHAPE, seconds=0.002)
    assert [(one.stage, one.layout) for one in found] == [
        (stage, layout) for layout in ("channels_first", "channels_last") for stage in ("0", "1")
    ]
    for layout in ("channels_first", "channels_last"):
        mine = [one for one in found if one.layout == layout]
        for line, one in zip(explained(layout), mine, strict=True):
            assert "measured" in line
            assert line[2:].startswith(one.fastest.rsplit(", ", 1)[0]), (line, one)  # threads are the chain's
    assert all(one.kept and one.tried > 1 and 0 < one.seconds <= one.planned_seconds for one in found)


def test_the_fastest_is_chosen_whatever_was_planned(monkeypatch):
    def pretend(way, x, budget, others):
        way.seconds = 1e-3 if way.algorithm.startswith("dense") and way.threads == pool.threads() else 2e-3

    net = pc.network("conv 3x3 64 same")  # a dense layer that is planned as Winograd
    weights = net.weights(in_channels=64)
    x = np.random.default_rng(2).standard_normal((1, 64, 40, 36)).astype(np.float32)
    before = net.bind(weights)
    assert before.explain(x.shape)[2:].startswith("winograd")
    monkeypatch.setattr(tuning._Way, "time", pretend)
    (found,) = pc.tune(net, x.shape, layout="channels_first", seconds=0.001)
    assert found.planned.startswith("winograd")
    assert found.fastest.startswith("dense")
    after = net.bind(weights)
    assert after.explain(x.shape)[2:].startswith("dense")
    np.testing.assert_allclose(after(x), before(x), atol=1e-3)


def test_a_wrong_answer_is_never_chosen(monkeypatch):
    made = tuning._ways

    def spoilt(*args):
        ways, planned = made(*args)
        for way in ways:
            if way is not planned:
                way.run = lambda x, run=way.run: run(x) + 1
        return ways, planned

    monkeypatch.setattr(tuning, "_ways", spoilt)
    found = pc.tune(NET, SHAPE, layout="channels_last", seconds=0.001)
    assert [one.tried for one in found] == [1, 1]
    assert all(one.fastest == one.planned for one in found)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path / "file"))
    assert not any(one.kept for one in pc.tune(NET, SHAPE, layout="channels_last", seconds=0.001))


def test_the_command_and_a_later_process(tmp_path):
    code = f"""
        from polyconv.cli import commands
        commands({["tune", NET, "--input", "16x13x11", "--seconds", "0.001"]!r}, standalone_mode=False)
        commands({["explain", NET, "--input", "16x13x11"]!r}, standalone_mode=False)
    """
    out = run(code)
    assert "fastest (us)" in out
    assert out.count("measured") == 2
    assert "Nothing to tune" in run(code, POLYCONV_ENGINE="numpy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "NCHW"}, "layout"),
        ({"seconds": 0}, "seconds=0 is no time"),
        ({"seconds": float("nan")}, "seconds=nan is no time"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        pc.tune(NET, SHAPE, **options)


def test_a_network_that_does_not_fit():
    with pytest.raises(ValueError, match="16"):
        pc.tune("conv 3x3 9 groups 3", SHAPE)
