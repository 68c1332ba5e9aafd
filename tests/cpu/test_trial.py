"""The self-test of new kinds of kernels: right code passes, wrong code is noticed, left out, named, and remembered."""

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import polyconv as pc
from cpu.test_neon import DTYPES, KINDS, LAYOUTS
from polyconv.run import engines, trial
from polyconv.run.cpu import algorithms, machine
from polyconv.run.cpu.algorithms import NAMES, RESERVE
from polyconv.run.cpu.algorithms.record import Algorithm
from polyconv.run.cpu.target import host
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

PROBLEM = Problem("conv", 24, 40, (3, 3), (2, 1), (1, 1), 1, True, None, "float32", "channels_first")
SHAPE, PADS, OUT = (1, 24, 9, 11), ((1, 1), (1, 1)), (5, 11)
real = algorithms.algorithm


def forget(monkeypatch):
    """What another process would not know."""
    monkeypatch.setattr(machine, "_loaded", {})
    monkeypatch.setattr(machine, "_recipes", {})
    monkeypatch.setattr(trial, "_verdicts", {})


@pytest.fixture(autouse=True)
def a_new_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    forget(monkeypatch)
    engines._compiled_for.cache_clear()
    engines.forget()
    yield
    engines._compiled_for.cache_clear()
    engines.forget()


def other(problem: Problem) -> Problem:
    """A layer whose code is not this one's, but runs."""
    if problem.op == "max_pool":
        return replace(problem, op="avg_pool")
    return replace(problem, activation=None if problem.activation else "relu")


def broken(name: str, written: list) -> Algorithm:
    """An algorithm that emits wrong code."""

    def emit(problem, tile, target):
        written.append(name)
        return real(name).emit(other(problem), tile, target)

    return real(name)._replace(emit=emit)


def breaking(monkeypatch, *names: str) -> list:
    written: list = []
    found = {name: broken(name, written) for name in names}
    monkeypatch.setattr(algorithms, "algorithm", lambda name: found.get(name) or real(name))
    return written


def arrays():
    rng = np.random.default_rng(3)
    whole = [rng.integers(-3, 4, shape).astype(np.float32) for shape in (SHAPE, PROBLEM.weight_shape(), (40,))]
    return whole[0], whole[1:]


def right():
    x, weights = arrays()
    from polyconv.run.numpy_engine import NumpyEngine

    return NumpyEngine().prepare(PROBLEM, *weights)(x, PADS, OUT)


def problems(name: str, layout: str, dtype: str) -> list[Problem]:
    made = []
    for op, *channels, kernel, stride, dilation, groups in KINDS:
        made.append(
            Problem(op, *channels, kernel, stride, dilation, groups, not op.endswith("pool"), None, dtype, layout)
        )
    return [one for one in made if real(name).fits(one, host()) is None]


@pytest.mark.parametrize("name", NAMES)
def test_right_code_passes_and_wrong_code_does_not(name):
    found, count = real(name), 0
    for both in itertools.product(LAYOUTS, DTYPES):
        for problem in problems(name, *both)[:1]:
            tile = found.variants(problem, host())[-1]

            def passes(of, problem=problem, tile=tile):
                text = found.emit(of, tile, host())
                return trial._is_right(
                    found, tile, problem, host(), lambda names: machine.load_all(text, names, host(), name)
                )

            assert passes(problem), problem
            assert not passes(other(problem)), problem
            count += 1
    assert count or found.fits(PROBLEM, host()), "no layer was tried"


def test_wrong_code_is_left_out_named_and_remembered(monkeypatch):
    x, weights = arrays()
    first = CompiledEngine(threads=1).prepare(PROBLEM, *weights).explain(SHAPE, PADS, OUT).split()[0]
    forget(monkeypatch)
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(trial.cache.folder()) + "-other")
    written = breaking(monkeypatch, first)
    for time in range(2):
        layer = CompiledEngine(threads=1).prepare(PROBLEM, *weights)
        if time:  # the plan that was remembered is already another: ask for the first one again
            layer._known = {}
        with pytest.warns(RuntimeWarning, match=rf"in_channels=24, .*algorithm {first} gives wrong results"):
            made = layer(x, PADS, OUT)
        np.testing.assert_array_equal(made, right())
        said = layer.explain(SHAPE, PADS, OUT)
        assert said.split()[0] in {*NAMES, *RESERVE} - {first}
        assert f"wrong results here, so not used: {first}" in said
        assert len(written) == 1, "a process later it is known before it is compiled"
        forget(monkeypatch)
    with pytest.raises(machine.WrongCode, match=f"algorithm {first} gives wrong results"):
        CompiledEngine(algorithm=first, threads=1).prepare(PROBLEM, *weights)(x, PADS, OUT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what was remembered for the shape is the algorithm that is right
        CompiledEngine(threads=1).prepare(PROBLEM, *weights)(x, PADS, OUT)


def test_where_all_are_wrong_numpy_runs(monkeypatch):
    breaking(monkeypatch, *NAMES, *RESERVE)
    x, weights = arrays()
    layer = CompiledEngine(threads=1).prepare(PROBLEM, *weights)
    with pytest.warns(RuntimeWarning, match="gives wrong results"):
        np.testing.assert_array_equal(layer(x, PADS, OUT), right())
    run = layer.at(SHAPE, PADS, OUT)
    np.testing.assert_array_equal(run(x), right())
    assert layer(x[:, :, :7], PADS, (4, 11)).shape == (1, 40, 4, 11)
    assert layer.explain(SHAPE, PADS, OUT).startswith("numpy reference")
    said = layer.explain(SHAPE, PADS, OUT)
    assert "(no compiled algorithm is left: wrong results here, so not used: dense" in said
    assert "compiled for" not in said


def test_where_all_are_wrong_numpy_runs_for_one_call_too(monkeypatch):
    breaking(monkeypatch, *NAMES, *RESERVE)
    x, (weight, bias) = arrays()
    wanted = right()
    with pytest.warns(RuntimeWarning, match="gives wrong results"):
        found = pc.conv(x, weight, bias, stride=(2, 1), padding=1)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(pc.conv(x, -weight, -bias, stride=(2, 1), padding=1), -wanted)


def failing(problem, tile, target):
    raise KeyError("tap")


def refused(problem, tile, target):
    return "define void @run0() { ret i64 %nothing }"


@pytest.mark.parametrize(("emit", "message"), [(failing, "KeyError.*tap"), (refused, "LLVM does not accept")])
def test_code_that_cannot_be_made_is_left_out_and_named(emit, message, monkeypatch):
    x, weights = arrays()
    first = CompiledEngine(threads=1).prepare(PROBLEM, *weights).explain(SHAPE, PADS, OUT).split()[0]
    forget(monkeypatch)
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(trial.cache.folder()) + "-other")
    found = {first: real(first)._replace(emit=emit)}
    monkeypatch.setattr(algorithms, "algorithm", lambda name: found.get(name) or real(name))
    layer = CompiledEngine(threads=1).prepare(PROBLEM, *weights)
    with pytest.warns(RuntimeWarning, match=rf"in_channels=24, .*could not be made.*algorithm {first}.*{message}"):
        np.testing.assert_array_equal(layer(x, PADS, OUT), right())
    assert f"machine code could not be made, so not used: {first} (compiled" in layer.explain(SHAPE, PADS, OUT)
    with pytest.raises(machine.NoCode, match=f"in_channels=24, .*{message}"):
        CompiledEngine(algorithm=first, threads=1).prepare(PROBLEM, *weights)(x, PADS, OUT)


def test_a_network_says_that_numpy_runs_where_no_code_can_be_made(monkeypatch):
    net = pc.network("conv 3x3 8 same reflect | conv 3x3 8 same")
    model = net.bind(net.weights(in_channels=8, seed=2))
    monkeypatch.setattr(algorithms, "algorithm", lambda name: real(name)._replace(emit=failing))
    x = np.random.default_rng(1).standard_normal((1, 8, 14, 18)).astype(np.float32)
    with pytest.warns(RuntimeWarning, match="could not be made"):
        made = model(x)
    monkeypatch.setenv("POLYCONV_ENGINE", "numpy")
    np.testing.assert_allclose(made, net.bind(net.weights(in_channels=8, seed=2))(x), atol=1e-5)
    for line in model.explain(x.shape).splitlines():
        assert "numpy reference" in line
        assert "no compiled algorithm is left: machine code could not be made, so not used: dense" in line
        assert "compiled for this machine" not in line


@pytest.mark.parametrize("wish", ["on", "off"])
def test_a_network_gives_the_right_answer_in_spite_of_it(wish, monkeypatch):
    monkeypatch.setenv("POLYCONV_FUSE", wish)
    net = pc.network("depthwise 3x3 same | pointwise 24 | maxpool 2x2")
    weights = net.weights(in_channels=8, seed=2)
    x = np.random.default_rng(1).standard_normal((1, 8, 14, 18)).astype(np.float32)
    monkeypatch.setenv("POLYCONV_ENGINE", "numpy")
    wanted = net.bind(weights)(x)
    monkeypatch.setenv("POLYCONV_ENGINE", "auto")
    breaking(monkeypatch, "planes", "depthwise", "dense_rows", "dense_planar", "dense_turned")
    model = net.bind(weights)
    with pytest.warns(RuntimeWarning, match="gives wrong results"):
        made = model(x)
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert model(x[:, :, :12]).shape == (1, 24, 6, 9)  # planned again, without them
    assert "numpy reference" in model.explain(x.shape)


def test_a_kind_is_tried_once_and_never_from_the_code_cache(monkeypatch):
    x, weights = arrays()
    tried, whole = [], trial._is_right
    monkeypatch.setattr(trial, "_is_right", lambda *given: tried.append(given[0].name) or whole(*given))
    engine = CompiledEngine(algorithm="dense_planar", threads=1)
    wanted = engine.prepare(PROBLEM, *weights)(x, PADS, OUT)
    engine.prepare(replace(PROBLEM, activation="relu"), *weights)(x, PADS, OUT)
    assert tried == ["dense_planar"]
    forget(monkeypatch)
    monkeypatch.setattr(trial, "check", None)
    monkeypatch.setattr(trial, "refuse_known", None)
    assert engine.prepare(PROBLEM, *weights)(x, PADS, OUT).tobytes() == wanted.tobytes()


def test_very_wide_layers_are_tried_narrower():
    wide = Problem("conv", 2048, 1000, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
    small = trial._narrow(wide)
    assert np.prod(small.weight_shape()) <= trial.NARROW_WEIGHTS
    assert (small.kernel_size, small.layout, small.dtype) == (wide.kernel_size, wide.layout, wide.dtype)
    assert trial._narrow(PROBLEM) == PROBLEM
    grouped = trial._narrow(replace(wide, in_channels=4096, out_channels=8192, groups=1024, kernel_size=(9, 9)))
    assert grouped.in_channels % grouped.groups == 0 == grouped.out_channels % grouped.groups


@pytest.mark.parametrize("op", ["max_pool", "conv_transpose", "conv"])
def test_huge_strides_are_tried_on_small_pictures(op):
    channels = 3 if op == "max_pool" else 8
    problem = Problem(op, 3, channels, (2, 2), (4096, 4096), (1, 1), 1, False, None, "float32", "channels_first")
    size, _, out_size = trial._picture(trial._narrow(problem))
    assert max(3 * math.prod(size), channels * math.prod(out_size)) <= trial.MOST_VALUES
