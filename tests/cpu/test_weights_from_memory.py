"""Networks whose weights no cache holds between two calls: how their layers are chosen."""

import numpy as np
import pytest

import polyconv as pc
from polyconv.run import choices, model
from polyconv.run.cpu.algorithms import algorithm
from polyconv.run.cpu.algorithms.record import from_memory
from polyconv.run.cpu.target import host
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

PADS = ((1, 1), (1, 1))


def dense(channels: int, layout: str = "channels_last") -> Problem:
    ones = (1, 1)
    return Problem("conv", channels, channels, (3, 3), ones, ones, 1, False, None, "float32", layout)


def test_a_layer_says_so_and_gives_the_same_numbers():
    problem, rng = dense(64), np.random.default_rng(0)
    weight = rng.standard_normal(problem.weight_shape(), dtype=np.float32)
    x = rng.standard_normal((1, 14, 14, 64), dtype=np.float32)
    near, far = (CompiledEngine(threads=2).prepare(problem, weight, None, far=far) for far in (False, True))
    assert "its weights come from memory" in far.explain(x.shape, PADS, (14, 14))
    assert "from memory" not in near.explain(x.shape, PADS, (14, 14))
    np.testing.assert_allclose(far(x, PADS, (14, 14)), near(x, PADS, (14, 14)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("channels", [64, 256, 512])
def test_weights_from_memory_take_longer_and_large_transformed_ones_longest(channels, layout):
    problem = dense(channels, layout)
    layers = [CompiledEngine(threads=2).prepare(problem, None, None, far=far) for far in (False, True)]
    shape = (1, 14, 14, channels) if layout == "channels_last" else (1, channels, 14, 14)
    near, far = (layer._costs(layer.choices, layer.sizes(shape, PADS, (14, 14))) for layer in layers)
    added = {str(way[1]): b - a for way, a, b in zip(layers[0].choices, near, far, strict=True) if not way[0].direct}
    for (one, _), before, after in zip(layers[0].choices, near, far, strict=True):
        if one.direct:
            assert after - before == pytest.approx(from_memory(problem), rel=1e-6)
        else:
            assert after > before
    assert len(set(added.values())) > 1 or len(added) < 2


def test_the_tile_with_fewer_weights_wins_where_they_come_from_memory():
    """F(4x4) has 36 numbers for 9 weights, and few positions share them in a small picture."""
    if not host().vector_bytes >= 32:
        pytest.skip("the tiles' models are fitted to wide vectors")
    winograd, problem = algorithm("winograd"), dense(512)
    layers = [CompiledEngine(threads=2).prepare(problem, None, None, far=far) for far in (False, True)]
    ways = winograd.variants(problem, host())
    sizes = [layer.sizes((1, 14, 14, 512), PADS, (14, 14)) for layer in layers]
    near, far = ([winograd.cost(problem, tile, host(), one, 2) for tile in ways] for one in sizes)
    assert near.index(min(near)) == 0
    assert far.index(min(far)) > 0


def test_choices_are_remembered_apart():
    known = {
        "a": choices.Choice("dense", "t", 2, 1e-6),
        "a far": choices.Choice("winograd", "t", 2, 1e-6, measured=True),
        "b": choices.Choice("dense", "t", 2, 1e-6, measured=True),
        "c once": choices.Choice("dense", "t", 2, 1e-6),
    }
    assert list(choices.for_calls(known)) == ["a", "b"]
    assert list(choices.for_calls(known, choices.FAR)) == ["a far"]
    assert list(choices.for_calls(known, choices.ONCE)) == ["c once", "b once"]


def test_a_network_counts_its_weights(monkeypatch):
    net = pc.network("conv 3x3 32 same relu | conv 3x3 32 same")
    weights = net.weights(in_channels=32)
    shape = (1, 32, 12, 12)
    assert "from memory" not in net.bind(weights).explain(shape)
    monkeypatch.setattr(model, "FAR_BYTES", sum(a.nbytes for a in weights.values() if a.ndim > 1) - 1)
    bound = net.bind(weights)
    said = [line for line in bound.explain(shape).splitlines() if "fused" not in line]
    assert all("from memory" in line for line in said)
    assert all(layer.far for layer in bound._prepared.values())
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    monkeypatch.undo()
    np.testing.assert_allclose(bound(x), net.bind(weights)(x), rtol=1e-3, atol=1e-4)


def test_tuning_keeps_weights_out_of_the_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(model, "FAR_BYTES", 1 << 10)
    monkeypatch.setattr("polyconv.run.tune.FAR_BYTES", 1 << 20)
    net, shape = pc.network("conv 3x3 16 same"), (1, 16, 9, 9)
    found = pc.tune(net, shape, layout="channels_last", seconds=0.002)
    assert [one.kept for one in found] == [True]
    said = net.bind(net.weights(16), layout="channels_last").explain((1, 9, 9, 16))
    assert "measured" in said
    assert "from memory" in said
    monkeypatch.setattr(model, "FAR_BYTES", 1 << 30)
    assert "measured" not in net.bind(net.weights(16), layout="channels_last").explain((1, 9, 9, 16))
