"""Whole arrays from one layout to the other, and networks that run channels last inside."""

import numpy as np
import pytest

import polyconv as pc
from cpu.forced import TARGETS, guarded
from polyconv.run.cpu import machine, pool, turning
from polyconv.run.cpu.emit import Kernel
from polyconv.run.cpu.turning import turned

SHAPES = [
    (1, 3, 5, 7), (2, 1, 9, 9), (1, 64, 3, 3), (2, 17, 33), (1, 3, 70, 90), (3, 40, 4, 5, 6), (1, 16, 16),
    (1, 100, 1, 1), (0, 3, 4, 4), (2, 3, 0, 4),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("at_end", [False, True])
def test_every_element_goes_to_its_place(shape, dtype, target, at_end, monkeypatch):
    monkeypatch.setattr(turning, "host", TARGETS[target])
    turning._function.cache_clear()
    x = guarded(np.random.default_rng(0).standard_normal(shape).astype(dtype), at_end)
    old = x.copy()
    there = turned(shape, x.dtype, "channels_last")
    monkeypatch.setattr("polyconv.run.cpu.buffers.allocator", lambda s, d: lambda: guarded(np.full(s, 7, d), at_end))
    guarding = turned(shape, x.dtype, "channels_last")
    last = guarding(x)
    assert np.array_equal(last, np.moveaxis(old, 1, -1))
    assert np.array_equal(there(x), last)
    assert np.array_equal(turned(last.shape, x.dtype, "channels_first")(last), old)
    assert np.array_equal(x, old)
    turning._function.cache_clear()


def test_wrong_code_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    for table in ("_recipes", "_loaded"):
        monkeypatch.setattr(machine, table, {})
    monkeypatch.setattr(Kernel, "transpose", lambda self, tile: list(tile))
    turning._function.cache_clear()
    with pytest.raises(machine.WrongCode, match="turning a layout gives wrong results"):
        turned((1, 20, 5, 7), np.dtype("float32"), "channels_last")
    turning._function.cache_clear()


def test_threads_and_strides_make_no_difference(monkeypatch):
    x = np.random.default_rng(0).standard_normal((3, 37, 61, 43), dtype=np.float32)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(pool, "threads", lambda threads=threads: threads)
        turn = turned(x.shape, x.dtype, "channels_last")
        assert turn.threads == threads
        found += [turn(x), turn(np.repeat(x, 2, axis=-1)[..., ::2])]
    assert all(np.array_equal(one, np.moveaxis(x, 1, -1)) for one in found)


DEEP = " | ".join(["conv 3x3 32 same relu"] * 5)
NETWORKS = [
    (f"{DEEP} | maxpool 2x2", (2, 3, 24, 20)),
    (f"{DEEP} | add(identity, conv 1x1 32) | relu | concat(identity, conv 1x1 8) | conv 1x1 3", (1, 3, 24, 20)),
    ("conv 9 64 same | conv 9 64 same | conv 9 64 same | conv 1 2", (1, 2, 300)),
    ("conv 3x3x3 16 same | conv 3x3x3 32 same | conv 3x3x3 32 same | globalpool", (1, 1, 8, 12, 10)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_a_network_gives_the_same_channels_last_inside(text, shape, dtype, monkeypatch):
    net = pc.network(text)
    weights = net.weights(shape[1], ndim=len(shape) - 2, dtype=dtype)
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    model = net.bind(weights)
    said = model.explain(shape).splitlines()
    assert said[0].startswith("input turned to channels_last")
    assert said[-1].startswith("output turned from channels_last")
    assert len(said) == len(net.nodes) + 2
    y = model(x)
    assert y.flags.c_contiguous
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert np.array_equal(model(strided), y)
    profiled, seconds = model.profile(x, repeats=1)
    assert np.array_equal(profiled, y)
    assert len(seconds) == len(net.nodes)
    assert np.array_equal(np.moveaxis(net.bind(weights, layout="channels_last")(np.moveaxis(x, 1, -1)), -1, 1), y)
    monkeypatch.setenv("POLYCONV_FUSE", "off")
    as_asked = net.bind(weights)
    assert "input turned" not in as_asked.explain(shape)
    np.testing.assert_allclose(as_asked(x), y, rtol=1e-3, atol=1e-4)
    monkeypatch.setenv("POLYCONV_ENGINE", "numpy")
    assert "input turned" not in net.bind(weights).explain(shape)


def test_what_is_turned_must_pay():
    """Two layers, or wide arrays around little work, stay as they are."""
    for text, channels in ((" | ".join(["conv 3x3 32 same"] * 2), 3), (" | ".join(["depthwise 3x3 same"] * 3), 64)):
        net = pc.network(text)
        assert "input turned" not in net.bind(net.weights(channels)).explain((1, channels, 40, 40))


def test_wrong_input_is_refused_as_ever():
    net = pc.network(DEEP)
    model = net.bind(net.weights(3))
    with pytest.raises(ValueError, match="has 4 channels with layout='channels_first'"):
        model(np.zeros((1, 4, 30, 30), np.float32))
    with pytest.raises(TypeError, match="float32"):
        model(np.zeros((1, 3, 30, 30)))
    empty = model(np.zeros((0, 3, 30, 30), np.float32))
    assert empty.shape == (0, 32, 30, 30)
