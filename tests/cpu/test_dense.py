"""Dense convolution with many channels, forced, against the loop oracle."""

from dataclasses import replace

import numpy as np
import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu import machine, pool
from polyconv.run.cpu.algorithms.dense import NAMES, Tile
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.cpu.algorithms.regions import positions_of
from polyconv.run.cpu.target import host
from polyconv.run.problem import Problem

CASES = [
    Layer("conv", (5, 7), (3, 3), (7, 11), padding=((1, 1), (1, 1))),
    Layer(
        "conv", (5, 37), (3, 2), (11, 13), stride=(2, 1), dilation=(1, 2), padding=((1, 0), (2, 1)), activation="relu"
    ),
    Layer("conv", (6, 74), (3,), (53,), stride=(2,), dilation=(3,), padding=((2, 1),), groups=2, dtype="float64"),
    Layer(
        "conv",
        (6, 33),
        (3, 2, 2),
        (5, 4, 7),
        stride=(1, 2, 1),
        dilation=(1, 1, 2),
        padding=((2, 1), (0, 0), (1, 1)),
        groups=3,
    ),
    Layer("conv", (3, 5), (3, 5), (5, 23), dilation=(3, 7), padding=((3, 3), (14, 14)), bias=False, batch=1),
    Layer("conv", (3, 17), (2, 2), (5, 19), padding=((-1, 0), (0, -2)), bias=False, strided=True),
    Layer("conv", (3, 5), (3, 3), (7, 19), dilation=(4, 9), padding=((4, 4), (9, 9))),
    Layer("conv", (1, 1), (4,), (3,), padding=((3, 2),), dtype="float64"),
    Layer("conv", (4, 129), (1, 1), (3, 5), strided=True),
    Layer("conv", (2, 3), (2,), (300,), batch=1),
    Layer("conv", (3, 4), (3, 3), (1, 1), padding=((1, 1), (1, 1)), batch=31),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense", TARGETS[target]())


TRANSPOSED = [
    Layer("conv_transpose", (5, 20), (3, 3), (7, 6), stride=(2, 2), padding=((1, 1), (1, 0)), output_padding=(1, 0)),
    Layer(
        "conv_transpose", (5, 10), (2, 5), (5, 3), stride=(3, 2), dilation=(2, 1), padding=((0, 0), (2, 0)), groups=5
    ),
    Layer("conv_transpose", (5, 3), (2,), (7,), stride=(5,), output_padding=(3,), activation="relu"),
    Layer(
        "conv_transpose",
        (3, 18),
        (4, 3, 2),
        (2, 3, 4),
        stride=(2, 1, 3),
        padding=((1, 1), (0, 1), (0, 0)),
        dtype="float64",
    ),
    Layer("conv_transpose", (2, 33), (3,), (29,), dilation=(2,), stride=(2,), padding=((3, 1),), strided=True),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", TRANSPOSED, ids=str)
def test_transposed_equals_the_oracle(layer, target):
    forced.check(layer, "dense", TARGETS[target]())


def test_the_check_notices_a_wrong_weight():
    layer = CASES[0]
    x, weight, bias = forced.data(layer)
    weight[0, 0, 0, 0] += 1
    found, target = forced.algorithm("dense"), TARGETS["host"]()
    wanted = forced.expected(layer, *forced.data(layer))
    tile = found.variants(layer.problem(), target)[0]
    assert not np.array_equal(forced.run(layer, found, tile, target, x, weight, bias, wanted.shape), wanted)


REGIONS = [  # many taps on padding: positions are cut into regions that meet the same taps
    Layer("conv", (3, 5), (3, 3), (13, 11), dilation=(5, 7), padding=((5, 4), (7, 8))),
    Layer("conv", (19, 7), (3, 5), (17, 19), dilation=(6, 4), padding=((9, 2), (1, 13)), bias=False, strided=True),
    Layer("conv", (5, 35), (3, 3), (15, 9), stride=(2, 1), dilation=(4, 3), padding=((5, 4), (3, 2)), groups=5),
    Layer("conv", (6, 4), (5,), (29,), dilation=(9,), padding=((20, 17),), dtype="float64", batch=3),
    Layer("conv", (2, 3), (3, 1, 3), (7, 3, 8), dilation=(3, 1, 5), padding=((3, 2), (0, 0), (5, 6)), batch=1),
    Layer("conv", (3, 5), (3, 3), (4, 5), dilation=(9, 9), padding=((20, 9), (9, 9))),  # positions without any tap
    Layer("conv_transpose", (9, 5), (4, 4), (5, 6), stride=(2, 2), padding=((1, 2), (2, 1)), batch=1),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", REGIONS, ids=str)
def test_regions_equal_the_oracle(layer, target):
    forced.check(layer, "dense", TARGETS[target]())


def test_dilated_positions_are_cut_into_regions():
    problem = Problem("conv", 64, 64, (3, 3), (1, 1), (9, 6), 1, False, None, "float32", "channels_last")
    padding = ((9, 5), (6, 6))
    phases, grids = positions_of(problem, Sizes(1, (21, 23), padding, (17, 23), ()), 14)
    rows, columns = [(9, 2), (3, 3), (5, 2)], [(6, 2), (11, 3), (6, 2)]  # positions, taps on data
    assert grids == [(r, c) for r, _ in rows for c, _ in columns]
    assert phases.counts == tuple(r * c for _, r in rows for _, c in columns)


def test_few_positions_on_the_border_are_not_cut():
    problem = Problem("conv", 64, 64, (3, 3), (1, 1), (1, 1), 1, False, None, "float32", "channels_last")
    assert len(positions_of(problem, Sizes(1, (56, 56), ((1, 1), (1, 1)), (56, 56), ()), 14).sizes) == 1


def test_pixels_stay_in_the_cache_where_weights_do_not():
    layer = Problem("conv", 512, 256, (3, 3), (1, 1), (18, 18), 1, False, None, "float32", "channels_last")
    target = replace(TARGETS["host"](), l2_bytes=2 << 20)
    found, size = forced.algorithm("dense"), (33, 33)
    tile = found.variants(layer, target)[0]
    sizes = Sizes(1, size, ((18, 18), (18, 18)), size, (33 * 33 * 512, 33 * 512, 512, 1))
    weights_stay = found.schedule(layer, tile, replace(target, l2_bytes=32 << 20), sizes, 2).words
    pixels_stay = found.schedule(layer, tile, target, sizes, 2).words
    step = NAMES.index("block_step")
    assert pixels_stay[step] == 1
    assert weights_stay[step] > 1


def test_transposed_phases_of_the_same_pixels_follow_one_another():
    """So that the first half of the items, one thread's, is the upper half of the picture, with all its phases."""
    layer = Layer("conv_transpose", (32, 16), (2, 3), (16, 28), stride=(2, 2), padding=((0, 0), (1, 0)), batch=1)
    target = host()
    found = forced.algorithm("dense")
    tile = found.variants(layer.problem(), target)[0]
    given = forced.data(layer)
    wanted = forced.expected(layer, *given)
    sizes = Sizes(1, (16, 28), layer.padding, wanted.shape[1:3], (16 * 28 * 32, 28 * 32, 32, 1))
    plan = found.schedule(layer.problem(), tile, target, sizes, 2)
    half = plan.phases[0].items // 2
    out = np.full(wanted.shape, forced.POISON, np.float32)
    packed = found.pack(layer.problem(), tile, target, *given[1:])
    code = machine.load(found.emit(layer.problem(), tile, target), "run0", target, "a test")
    pool.run(code, [given[0], packed, out, 0, *plan.words[4:]], half, scratch_bytes=plan.scratch_bytes)
    written = (out != forced.POISON).all(axis=(0, 2, 3))
    assert half > 1
    assert written[: len(written) // 2 - 4].all()
    assert not (out[:, len(written) // 2 + 4 :] != forced.POISON).any()


@pytest.mark.parametrize(
    ("outputs", "kernel", "stride", "dilation", "asks"),
    [(64, 1, 1, 1, True), (16, 1, 1, 1, False), (64, 3, 2, 1, True), (64, 3, 1, 2, False), (640, 3, 1, 1, False)],
)
def test_pixels_that_follow_are_asked_for(outputs, kernel, stride, dilation, asks):
    """Not where loads are what a tile waits for, many blocks share the wait, or taps read other pixels.

    Weights stay in the L1 here: nothing else is asked for.
    """
    target = replace(TARGETS["host"](), cpu="any", l1_bytes=1 << 22)
    axes = ((kernel,) * 2, (stride,) * 2, (dilation,) * 2)
    problem = Problem("conv", 40, outputs, *axes, 1, False, None, "float32", "channels_last")
    found = forced.algorithm("dense")
    text = found.emit(problem, Tile(6, 2), target)
    assert ("llvm.prefetch" in text) == asks


@pytest.mark.parametrize(("channels", "side", "keeps"), [(728, 19, True), (2048, 7, False), (64, 28, False)])
def test_threads_keep_to_their_pixels_unless_weights_are_far_more(channels, side, keeps):
    layer = Problem("conv", channels, channels, (1, 1), (1, 1), (1, 1), 1, False, None, "float32", "channels_last")
    target, found = replace(TARGETS["host"](), l2_bytes=2 << 20), forced.algorithm("dense")
    sizes = Sizes(1, (side, side), ((0, 0),) * 2, (side, side), (side * side * channels, side * channels, channels, 1))
    words = found.schedule(layer, Tile(14, 2), target, sizes, 2).words
    chunks, blocks = words[NAMES.index("tile_chunks")], words[NAMES.index("block_chunks")]
    assert ((chunks, words[NAMES.index("block_step")]) == (2, 1) and blocks > 1) == keeps
