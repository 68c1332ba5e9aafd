"""Calls that bring their weights: planned once, packed each time, by an algorithm that is worth packing for."""

import os

import numpy as np
import pytest

import polyconv as pc
from cpu.process import run
from polyconv.run import choices, engines
from polyconv.run.choices import Choice
from polyconv.run.cpu.target import host
from polyconv.run.numpy_engine import NumpyEngine
from polyconv.run.plan import CompiledEngine, CompiledLayer, OneCallLayer
from polyconv.run.problem import Problem

PROBLEM = Problem("conv", 64, 96, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
SHAPE, PADS, OUT = (1, 12, 17, 64), ((1, 1), (1, 1)), (12, 17)
TRANSFORMS = pytest.mark.skipif(host().vector_registers < 32, reason="Winograd needs more vector registers")


@pytest.fixture(autouse=True)
def nothing_known(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    engines.forget()
    yield
    engines.forget()


def arrays(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = (SHAPE, PROBLEM.weight_shape(), (96,))
    x, weight, bias = (rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes)
    return x, weight, bias


def once(threads: int = 2) -> OneCallLayer:
    return CompiledEngine(threads=threads).prepare_once(PROBLEM)


def test_weights_that_change_in_place_are_seen():
    x, weight, bias = arrays(1)
    for number in range(4):
        wanted = NumpyEngine().prepare(PROBLEM, weight, bias)(x, PADS, OUT)
        found = pc.conv(x, weight, bias, padding=1, layout="channels_last")
        assert np.abs(found - wanted).max() < 1e-2
        weight[number, 3, 1, 1] += 1
        bias[number + 5] -= 2


def test_a_second_call_plans_nothing_and_keeps_no_weights(monkeypatch):
    planned, make = [], CompiledLayer._make_plan
    monkeypatch.setattr(CompiledLayer, "_make_plan", lambda self, *given: planned.append(self) or make(self, *given))
    for seed in range(3):
        x, weight, bias = arrays(seed)
        pc.conv(x, weight, bias, padding=1, layout="channels_last")
    (layer,) = planned
    assert layer._weight is None is layer._bias
    assert all(array.size == 0 for array in layer._packed.values())
    for size in range(20):
        pc.conv(x[:, : size + 1], weight, bias, padding=1, layout="channels_last")
    assert len(layer._plans) <= OneCallLayer.max_shapes


def test_weights_of_any_strides_and_an_empty_output():
    x, weight, bias = arrays(2)
    wanted = NumpyEngine().prepare(PROBLEM, weight, bias)(x, PADS, OUT)
    turned = np.asfortranarray(weight)
    spread = np.repeat(bias, 3)[::3]
    found = once().run(x[::-1, ...], PADS, OUT, turned, spread)
    assert np.abs(found - wanted).max() < 1e-2
    assert once().run(x[:0], PADS, OUT, weight, bias).shape == (0, 12, 17, 96)


@TRANSFORMS
def test_the_time_to_pack_counts(monkeypatch):
    kept = CompiledEngine(threads=2).prepare(PROBLEM, *arrays(1)[1:]).explain(SHAPE, PADS, OUT).split()[0]
    assert kept.startswith("winograd")
    layer = once()
    sizes = layer.sizes(SHAPE, PADS, OUT)
    algorithm, tile, _, seconds, *_ = layer.choose(sizes)
    assert algorithm.name == "dense", "few pixels, many weights: transforming them takes longer than it saves"
    kernel = algorithm.cost(PROBLEM, tile, host(), sizes, 1)
    assert seconds == pytest.approx(kernel, rel=1e-9), "what decides on threads is the kernel's time"
    wide = (8, 112, 112, 64)
    assert once().explain(wide, PADS, wide[1:3]).startswith("winograd")
    monkeypatch.setattr(OneCallLayer, "packing", CompiledLayer.packing)
    assert once().explain((1, 12, 18, 64), PADS, (12, 18)).startswith("winograd")


def test_the_choice_does_not_depend_on_threads():
    for height in (3, 12, 24, 48):
        sizes = once().sizes((1, height, 17, 64), PADS, (height, 17))
        names = {once(threads).choose(sizes)[0].name for threads in (1, 2, 7)}
        assert len(names) == 1


@TRANSFORMS
def test_what_is_remembered_is_kept_apart_but_what_was_measured_holds_for_both():
    said = once().explain(SHAPE, PADS, OUT)
    assert said.startswith("dense")
    (name,) = choices.recall(PROBLEM, host())
    assert name.endswith(choices.ONCE)
    kept = CompiledEngine(threads=2).prepare(PROBLEM, *arrays(1)[1:])
    assert kept.explain(SHAPE, PADS, OUT).startswith("winograd")
    assert len(choices.recall(PROBLEM, host())) == 2
    assert once().explain(SHAPE, PADS, OUT) == said
    tile = str(kept.choices[-1][1])
    measured = Choice("winograd", tile, 2, 1e-5, measured=True)
    assert choices.remember(PROBLEM, host(), kept.shape_key(SHAPE, PADS, OUT), measured)
    assert once().explain(SHAPE, PADS, OUT).startswith(f"winograd {tile}, 2 thread(s)")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_is_not_held_up_by_what_another_thread_was_doing():
    run(
        """
import gc
import polyconv as pc
from polyconv.run.plan import OneCallLayer
x, w = np.ones((1, 40, 30, 30), "float32"), np.ones((40, 40, 3, 3), "float32")
before = pc.conv(x, w)
(layer,) = [one for one in gc.get_objects() if isinstance(one, OneCallLayer)]
with layer._lock:  # as another thread would
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        same = np.array_equal(pc.conv(x, w), before) and np.array_equal(pc.conv(x[:, :, 1:], w), before[:, :, 1:])
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0
""",
        PYTHONWARNINGS="ignore",
    )
