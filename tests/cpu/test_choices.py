"""Remembered choices: used where they are sound, ignored where not, never needed."""

import dataclasses

import numpy as np
import pytest

from cpu.process import run
from polyconv.run import choices
from polyconv.run.choices import Choice
from polyconv.run.cpu import cache
from polyconv.run.cpu.target import host
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

PROBLEM = Problem("conv", 24, 40, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
SHAPE, PADS, OUT = (1, 9, 11, 24), ((1, 1), (1, 1)), (9, 11)
MEASURED = Choice("dense", "", 1, 2.5e-5, True)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    return tmp_path / "code"


def prepared(engine=None):
    rng = np.random.default_rng(3)
    weight = rng.integers(-3, 4, PROBLEM.weight_shape()).astype(np.float32)
    return (engine or CompiledEngine(threads=2)).prepare(PROBLEM, weight, np.ones(40, np.float32))


def key(threads=2):
    return choices.shape_key(1, SHAPE[1:3], PADS, OUT, threads)


def explained():
    return prepared().explain(SHAPE, PADS, OUT)


def test_the_first_shape_is_remembered():
    planned = explained()
    (choice,) = choices.recall(PROBLEM, host()).values()
    assert planned.startswith(f"{choice.algorithm} {choice.tile}, {choice.threads} thread")
    assert not choice.measured
    assert explained() == planned


def slowest(layer):
    """The last tile of an algorithm that the models do not choose."""
    name = layer.explain(SHAPE, PADS, OUT).split()[0]
    return [(found.name, str(tile)) for found, tile in layer.choices if found.name != name][-1]


def test_a_measured_choice_is_used_and_said():
    layer = prepared()
    name, tile = slowest(layer)
    x = np.random.default_rng(4).integers(-3, 4, SHAPE).astype(np.float32)
    planned = layer(x, PADS, OUT)
    assert choices.remember(PROBLEM, host(), key(), Choice(name, tile, 2, 1e-6, True))
    assert explained().startswith(f"{name} {tile}, 2 thread(s)")
    assert "measured 1 us" in explained()
    np.testing.assert_allclose(prepared()(x, PADS, OUT), planned, rtol=1e-4, atol=1e-3)
    assert prepared(CompiledEngine(algorithm="dense", threads=2)).explain(SHAPE, PADS, OUT).startswith("dense ")


def test_a_planned_choice_never_replaces_a_measured_one():
    choices.remember(PROBLEM, host(), key(), MEASURED)
    assert choices.remember(PROBLEM, host(), key(), MEASURED._replace(measured=False, tile="x"))
    assert choices.recall(PROBLEM, host())[key()] == MEASURED


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithm": "nothing"},
        {"algorithm": "pooling"},  # there is one, and it does not compute this problem
        {"tile": "Tile(positions=77)"},
        {"threads": 3},  # more than this engine may use
    ],
)
def test_a_choice_that_makes_no_sense_is_planned_anew(wrong):
    expected = explained()
    name, tile = slowest(prepared())
    choices.remember(PROBLEM, host(), key(), Choice(name, tile, 2, 1e-6, True)._replace(**wrong))
    assert explained() == expected


@pytest.mark.parametrize(
    "payload", [b"", b"\xff\xfe", b"a\tb", b"{}", b"k\tdense\tt\tmany\t1.0\tmeasured", b"k\tdense\tt\t1\tnan\tplanned"]
)
def test_an_entry_that_is_not_as_written_here_is_ignored(payload):
    expected = explained()
    assert cache.write(choices.key_of(PROBLEM, host()), payload)
    assert choices.recall(PROBLEM, host()) == {}
    assert explained() == expected


def test_a_damaged_entry_is_ignored(place):
    choices.remember(PROBLEM, host(), key(), MEASURED)
    (path,) = place.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert choices.recall(PROBLEM, host()) == {}


def test_another_machine_has_other_choices():
    choices.remember(PROBLEM, host(), key(), MEASURED)
    assert choices.recall(PROBLEM, dataclasses.replace(host(), l2_bytes=12345)) == {}
    assert choices.recall(dataclasses.replace(PROBLEM, out_channels=41), host()) == {}


def test_entries_are_bounded_and_measured_ones_stay():
    choices.remember(PROBLEM, host(), key(), MEASURED)
    for number in range(choices.MAX_ENTRIES + 5):
        choices.remember(PROBLEM, host(), f"shape {number}", MEASURED._replace(measured=False))
    known = choices.recall(PROBLEM, host())
    assert len(known) == choices.MAX_ENTRIES
    assert known[key()] == MEASURED
    assert f"shape {choices.MAX_ENTRIES + 4}" in known
    assert "shape 0" not in known


def test_nothing_can_be_written(tmp_path, monkeypatch):
    expected = explained()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path / "file"))
    assert not choices.remember(PROBLEM, host(), key(), MEASURED)
    assert explained() == expected


def test_a_remembered_layer_loads_its_algorithm_alone(tmp_path):
    code = """
        import polyconv as pc
        net = pc.network("depthwise 3x3 same")
        net.bind(net.weights(in_channels=8))(np.ones((1, 8, 5, 6), np.float32))
        print("polyconv.run.cpu.algorithms.dense_rows" in sys.modules, "llvmlite.binding" in sys.modules)
    """
    assert run(code, POLYCONV_CACHE_DIR=str(tmp_path)) == "True True\n"
    assert run(code, POLYCONV_CACHE_DIR=str(tmp_path)).startswith("False")


def test_a_remembered_layer_does_not_import_what_only_writing_code_needs(tmp_path):
    """2 ms for `fractions`, 1 for `string`: of 20 that a first call from the cache takes."""
    code = """
        import polyconv as pc
        net = pc.network("conv 3x3 64 same")
        model = net.bind(net.weights(in_channels=64))
        before = set(sys.modules)
        y = model(np.ones((1, 64, 56, 56), np.float32))
        new = {"fractions", "string"} & (set(sys.modules) - before)
        print(model.explain((1, 64, 56, 56)).split()[1], *sorted(new))
    """
    first, again = (run(code, POLYCONV_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.startswith("winograd")
    assert again.split() == first.split()[:1]
