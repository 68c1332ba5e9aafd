"""Dense convolution of channels_first arrays turned around as a whole, forced, against the loop oracle."""

from dataclasses import replace

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer
from cpu.test_dense_planar import CASES as PLANAR
from polyconv.run.cpu import algorithms
from polyconv.run.cpu.algorithms import dense_turned
from polyconv.run.cpu.algorithms.dense_turned import NAMES, rounds_of
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

FIRST = {"layout": "channels_first"}
CASES = [  # dilated: tiles run over rows of a region, whose ends lie apart in the output
    Layer("conv", (3, 5), (3, 3), (13, 11), dilation=(5, 7), padding=((5, 4), (7, 8)), **FIRST),
    Layer("conv", (19, 7), (3, 5), (17, 19), dilation=(6, 4), padding=((9, 2), (1, 13)), bias=False, **FIRST),
    Layer(
        "conv", (5, 35), (3, 3), (15, 9), stride=(2, 1), dilation=(4, 3), padding=((5, 4), (3, 2)), groups=5, **FIRST
    ),
    Layer("conv", (6, 4), (5,), (29,), dilation=(9,), padding=((20, 17),), dtype="float64", batch=3, **FIRST),
    Layer("conv", (2, 3), (3, 1, 3), (7, 3, 8), dilation=(3, 1, 5), padding=((3, 2), (0, 0), (5, 6)), batch=1, **FIRST),
    Layer("conv", (3, 5), (3, 3), (4, 5), dilation=(9, 9), padding=((20, 9), (9, 9)), activation="relu", **FIRST),
    Layer("conv", (256, 33), (1, 1), (3, 9), batch=3, **FIRST),  # pixels a power of two apart
]


@pytest.fixture(autouse=True)
def any_number_of_weights(monkeypatch):
    monkeypatch.setattr(algorithms, "MANY_WEIGHTS", 0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", PLANAR + CASES, ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense_turned", TARGETS[target]())


ROUNDS = {  # layers, and in how many parts their channels are turned
    Layer("conv", (128, 30), (3, 3), (12, 11), dilation=(6, 7), padding=((6, 5), (7, 6)), batch=1, **FIRST): 2,
    Layer("conv", (256, 9), (3,), (40,), dilation=(9,), padding=((9, 9),), activation="relu", batch=1, **FIRST): 4,
    Layer("conv", (64, 31), (4, 2), (3, 37), dilation=(3, 1), padding=((8, 5), (3, 3)), dtype="float64", **FIRST): 2,
    Layer("conv", (128, 70), (2, 3), (5, 7), stride=(1, 2), dilation=(2, 2), dtype="float64", **FIRST): 1,
    Layer("conv", (136, 7), (3, 3), (9, 11), dilation=(6, 7), padding=((6, 5), (7, 6)), batch=1, **FIRST): 1,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", ROUNDS, ids=str)
def test_rounds_of_channels_equal_the_oracle(layer, target, monkeypatch):
    monkeypatch.setattr(dense_turned, "LISTS", 0)
    host = replace(TARGETS[target](), l2_bytes=0, l1_bytes=48 << 10)
    problem, out_size = layer.problem(), forced.expected(layer, *forced.data(layer)).shape[2:]
    sizes = Sizes(layer.batch, layer.in_size, layer.ones(layer.padding, (0, 0)), out_size, ())
    assert rounds_of.__wrapped__(problem, host, sizes) == ROUNDS[layer]
    rounds_of.cache_clear()
    forced.check(layer, "dense_turned", host)
    rounds_of.cache_clear()


@pytest.mark.parametrize("channels", [256, 250])
def test_pixels_are_not_a_power_of_two_apart(channels):
    problem = Problem("conv", channels, 64, (1, 1), (1, 1), (1, 1), 1, False, None, "float32", "channels_first")
    target = TARGETS["host"]()
    found = forced.algorithm("dense_turned")
    sizes = Sizes(1, (7, 5), ((0, 0), (0, 0)), (7, 5), (channels * 35, 35, 5, 1))
    words = found.schedule(problem, found.variants(problem, target)[0], target, sizes, 1).words
    assert words[NAMES.index("pitch")] == 4 * (272 if channels == 256 else channels)


def test_small_layers_are_left_to_strips(monkeypatch):
    monkeypatch.undo()
    found, target = forced.algorithm("dense_turned"), TARGETS["host"]()
    small = Problem("conv", 64, 64, (3, 3), (1, 1), (1, 1), 1, False, None, "float32", "channels_first")
    assert "many weights or dilation" in (found.fits(small, target) or "")
    for other in (replace(small, dilation=(2, 1)), replace(small, in_channels=512)):
        assert found.fits(other, target) is None


@pytest.mark.parametrize(
    ("outputs", "side", "chosen"), [(256, 33, True), (1024, 33, True), (512, 19, True), (16, 65, False)]
)
def test_the_turned_input_is_a_quarter_of_the_arrays_at_most(outputs, side, chosen):
    target, found = replace(TARGETS["host"](), l2_bytes=2 << 20), forced.algorithm("dense_turned")
    problem = Problem("conv", 512, outputs, (3, 3), (1, 1), (18, 18), 1, False, None, "float32", "channels_first")
    sizes = Sizes(1, (side,) * 2, ((18, 18),) * 2, (side,) * 2, (512 * side * side, side * side, side, 1))
    tile = found.variants(problem, target)[0]
    taken = found.schedule(problem, tile, target, sizes, 2)
    arrays = 4 * ((512 + outputs) * side * side + 512 * outputs * 9)
    used = CompiledEngine(target=target, threads=2).prepare(problem, None, None).choose(sizes).algorithm
    assert (used is found) == chosen
    assert (taken.workspace_bytes + 2 * taken.scratch_bytes <= arrays / 4) == chosen
