"""Depthwise convolution, forced, against the loop oracle: every border, stride, dilation, width and multiplier."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu.algorithms.depthwise import DEPTHWISE
from polyconv.run.cpu.algorithms.lanes import _even_rows
from polyconv.run.cpu.algorithms.planes import PLANES
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.cpu.target import host
from polyconv.run.problem import Problem

LAYOUTS = ("channels_last", "channels_first")

CASES = [
    Layer("conv", (5, 5), (3, 3), (7, 11), padding=((1, 1), (1, 1))),
    Layer("conv", (19, 38), (3, 3), (13, 19), padding=((1, 1), (1, 2)), stride=(2, 1), activation="relu"),
    Layer("conv", (21, 21), (5, 7), (13, 29), padding=((2, 1), (3, 2)), dilation=(1, 2), bias=False),
    Layer("conv", (37, 37), (7, 7), (7, 7), padding=((3, 3), (3, 3))),
    Layer("conv", (17, 17), (3, 3), (5, 3), padding=((4, 5), (6, 7)), dilation=(3, 5)),
    Layer("conv", (33, 33), (3, 2), (2, 37), stride=(3, 2), dilation=(2, 1), padding=((5, 0), (0, 3)), batch=3),
    Layer("conv", (3, 9), (11,), (97,), padding=((5, 7),), dtype="float64"),
    Layer("conv", (4, 4), (31,), (61,), padding=((15, 15),), stride=(2,), batch=1),
    Layer("conv", (2, 32), (3, 3), (6, 5), padding=((1, 1), (0, 0))),
    Layer("conv", (7, 35), (2, 3), (5, 9), padding=((0, 0), (2, 2)), dtype="float64", activation="relu6"),
    Layer("conv", (33, 33), (3, 2, 3), (4, 7, 11), padding=((1, 0), (1, 1), (1, 0)), batch=1),
    Layer(
        "conv", (5, 10), (2, 3, 3), (5, 4, 6), stride=(2, 1, 2), dilation=(2, 1, 1), padding=((2, 1), (1, 1), (0, 1))
    ),
    Layer("conv", (1, 1), (3, 3), (1, 1), padding=((1, 1), (1, 1)), batch=1),
    Layer("conv", (18, 18), (4, 33), (5, 41), padding=((2, 1), (16, 16)), batch=1),
    Layer("conv", (6, 6), (3, 3), (5, 7), padding=((-1, 0), (1, -2)), bias=False),
    Layer("conv", (20, 20), (1, 1), (9, 5), stride=(2, 1)),
    # rows of a tile that lie a dilation apart: whole tiles, rests of one and of several rows, pictures too low for one
    *(
        Layer("conv", (19, 19), (3, 3), (rows, 11), padding=((gap, gap), (1, 1)), dilation=(gap, 1), batch=1)
        for gap, rows in ((2, 8), (2, 7), (2, 1), (3, 17), (3, 4), (4, 21), (4, 3), (5, 12))
    ),
    Layer("conv", (6, 6), (3, 3), (23, 10), padding=((4, 3), (2, 2)), dilation=(4, 2), stride=(2, 1)),
    Layer("conv", (18, 18), (2, 3, 3), (4, 9, 7), padding=((1, 0), (2, 2), (2, 2)), dilation=(1, 2, 2), batch=1),
]

TRANSPOSED = [
    Layer("conv_transpose", (21, 21), (4, 4), (5, 7), stride=(2, 3), padding=((1, 0), (1, 1))),
    Layer("conv_transpose", (5, 5), (16, 16), (3, 4), stride=(8, 8), padding=((4, 4), (4, 4)), batch=1),
    Layer("conv_transpose", (3, 6), (2, 5), (5, 3), stride=(3, 2), dilation=(2, 1), padding=((0, 0), (2, 0))),
    Layer("conv_transpose", (5, 5), (2,), (7,), stride=(5,), output_padding=(3,), activation="relu"),
    Layer("conv_transpose", (18, 18), (3,), (29,), dilation=(2,), stride=(2,), padding=((3, 1),), dtype="float64"),
    Layer("conv_transpose", (7, 7), (3, 3), (6, 9), stride=(1, 2), dilation=(3, 1), padding=((2, 1), (0, 1))),
    Layer("conv_transpose", (4, 4), (4, 3, 2), (2, 3, 4), stride=(2, 1, 3), padding=((1, 1), (0, 1), (0, 0))),
]


def groups(layer: Layer, layout: str) -> Layer:
    return replace(layer, groups=layer.channels[0], layout=layout)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", CASES + TRANSPOSED, ids=str)
def test_equals_the_oracle(layer, layout, target):
    forced.check(groups(layer, layout), "depthwise", TARGETS[target]())


GATHERED = [
    Layer("conv", (256, 256), (3, 5), (3, 5), padding=((1, 1), (2, 1)), batch=1),
    Layer(
        "conv", (128, 128), (5, 3), (13, 4), stride=(2, 1), dilation=(3, 1), padding=((2, 2), (0, 1)), dtype="float64"
    ),
    Layer("conv", (256, 512), (2, 1, 7), (3, 2, 4), dilation=(1, 1, 2), padding=((1, 0), (0, 0), (4, 5)), batch=1),
    Layer("conv_transpose", (256, 256), (4, 5), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), batch=1),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", GATHERED, ids=str)
def test_pixels_that_share_few_cache_sets_may_be_gathered(layer, target):
    layer = groups(layer, "channels_last")
    assert [tile.gathered for tile in DEPTHWISE.variants(layer.problem(), TARGETS[target]())] == [False, True]
    forced.check(layer, "depthwise", TARGETS[target]())


@pytest.mark.parametrize(("taps", "side", "gathered"), [(7, 14, True), (5, 112, False)])
def test_pixels_are_gathered_from_near_only(taps, side, gathered):
    problem = Problem("conv", 256, 256, (taps, taps), (1, 1), (1, 1), 256, True, None, "float32", "channels_last")
    pads, size = ((taps // 2, taps // 2),) * 2, (side, side)
    sizes = Sizes(1, size, pads, size, (side * side * 256, side * 256, 256, 1))
    costs = {
        tile.gathered: DEPTHWISE.cost(problem, tile, host(), sizes, 1) for tile in DEPTHWISE.variants(problem, host())
    }
    assert (costs[True] < costs[False]) == gathered


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", [case for case in CASES if np.prod(case.kernel[-2:]) <= 12], ids=str)
def test_planes_equal_the_oracle(layer, target):
    forced.check(groups(layer, "channels_first"), "planes", TARGETS[target]())


@pytest.mark.parametrize("seed", range(8))
def test_drawn_planes_equal_the_oracle(seed):
    layer = replace(drawn(seed + 100), layout="channels_first")
    kernel = tuple(min(length, 3) for length in layer.kernel)
    forced.check(replace(layer, kernel=kernel), "planes", TARGETS["avx2" if seed % 4 == 3 else "host"]())


def drawn(seed: int) -> Layer:
    """A small layer with everything at odds; the window always fits."""
    rng = random.Random(seed)
    ndim = rng.choice([1, 2, 2, 2, 3])
    most = {1: 60, 2: 19, 3: 8}[ndim]
    kernel = tuple(rng.randint(1, {1: 19, 2: 6, 3: 3}[ndim]) for _ in range(ndim))
    stride = tuple(rng.randint(1, 3) for _ in range(ndim))
    dilation = tuple(rng.randint(1, 3) for _ in range(ndim))
    size, padding = [], []
    for length, step in zip(kernel, dilation, strict=True):
        span = (length - 1) * step + 1
        pads = (rng.randint(0, span), rng.randint(0, span))
        padding.append(pads)
        size.append(rng.randint(max(1, span - sum(pads)), max(most, span)))
    channels = rng.choice([1, 3, 8, 15, 16, 17, 40])
    return Layer(
        "conv", (channels, channels * rng.choice([1, 1, 1, 2, 3])), kernel, tuple(size), stride, dilation,
        tuple(padding), groups=channels, batch=rng.randint(1, 2), bias=rng.random() < 0.5,
        dtype=rng.choice(["float32", "float64"]), layout=rng.choice(LAYOUTS), activation=rng.choice([None, "relu"]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_drawn_layers_equal_the_oracle(seed):
    forced.check(drawn(seed), "depthwise", TARGETS["avx2" if seed % 4 == 3 else "host"]())


@pytest.mark.parametrize(
    ("layout", "found"), [*((layout, DEPTHWISE) for layout in LAYOUTS), ("channels_first", PLANES)]
)
def test_a_position_has_the_same_bits_in_every_picture(layout, found):
    """A crop far from its border gives the bits of the whole picture, whatever tile they fall in."""
    layer = Layer("conv", (19, 19), (3, 4), (23, 31), groups=19, batch=1, layout=layout)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 23, 31, 19)).astype(np.float32)
    weight, bias = rng.standard_normal((19, 1, 3, 4)).astype(np.float32), rng.standard_normal(19).astype(np.float32)

    def run(x: np.ndarray, found_tile: object) -> np.ndarray:
        shape = (1, x.shape[1] - 2, x.shape[2] - 3, 19)
        if layout == "channels_last":
            return forced.run(layer, found, found_tile, host(), x, weight, bias, shape)
        x, shape = np.ascontiguousarray(np.moveaxis(x, -1, 1)), (1, 19, *shape[1:3])
        return np.moveaxis(forced.run(layer, found, found_tile, host(), x, weight, bias, shape), 1, -1)

    for tile in found.variants(layer.problem(), host()):
        whole = run(x, tile)
        for top, left in [(0, 0), (1, 3), (2, 5), (7, 2)]:
            part = run(np.ascontiguousarray(x[:, top : top + 14, left : left + 21]), tile)
            assert whole[:, top : top + 12, left : left + 18].tobytes() == part.tobytes()


@pytest.mark.parametrize(
    ("count", "most", "others", "threads", "rows"),
    [
        (14, 4, 2, 2, 2),  # 7 items of two rows each, not 8 rows and 6
        (56, 4, 1, 2, 4),  # already even
        (7, 7, 1, 2, 4),
        (16, 5, 1, 4, 4),  # not an odd row by itself
        (9, 9, 4, 2, 9),  # four pictures
        (3, 1, 1, 2, 1),
    ],
)
def test_items_have_rows_such_that_threads_are_done_together(count, most, others, threads, rows):
    assert _even_rows(count, most, others, threads, 2) == rows


def test_padding_adds_nothing_even_to_infinite_weights():
    layer = Layer("conv", (3, 3), (3,), (4,), padding=((1, 1),), groups=3, batch=1, bias=False)
    weight = np.array([[[np.inf, 1, np.nan]]] * 3, np.float32)
    x = np.ones((1, 4, 3), np.float32)
    y = forced.run(layer, DEPTHWISE, DEPTHWISE.variants(layer.problem(), host())[0], host(), x, weight, None, (1, 4, 3))
    assert not np.isnan(x).any()
    assert np.isnan(y[0, :3]).all()  # the last tap meets data there
    assert np.isinf(y[0, 3]).all()  # and padding here


def test_scratch_stays_small():
    problem = Layer("conv", (64, 64), (3, 3), (9, 9), groups=64, layout="channels_first").problem()
    size = (1, 64, 224, 224)
    sizes = Sizes(1, size[2:], ((1, 1), (1, 1)), size[2:], (64 * 224 * 224, 224 * 224, 224, 1))
    tile = DEPTHWISE.variants(problem, host())[0]
    plan = DEPTHWISE.schedule(problem, tile, host(), sizes, 2)
    assert 2 * plan.scratch_bytes + plan.workspace_bytes < 2 * 4 * np.prod(size) / 4


EMIT = """
from polyconv.run.cpu import machine, target
from polyconv.run.cpu.algorithms.depthwise import DEPTHWISE
from polyconv.run.problem import Problem
for dtype in ("float32", "float64"):
    for layout in ("channels_last", "channels_first"):
        for op, kernel, outputs in (("conv", (3, 3), 21), ("conv", (2, 9, 17), 42), ("conv_transpose", (5,), 21)):
            n = len(kernel)
            problem = Problem(op, 21, outputs, kernel, (2,) * n, (1,) * n, 21, True, "relu", dtype, layout)
            for tile in DEPTHWISE.variants(problem, target.neon()):
                text = machine.assembly(DEPTHWISE.emit(problem, tile, target.neon()), target.neon())
                assert "fmla" in text
print("assembled")
"""


def test_assembles_for_arm():
    """In a process of its own: LLVM ends the process over code it cannot generate."""
    done = subprocess.run([sys.executable, "-c", EMIT], capture_output=True, text=True, timeout=300)
    assert done.stdout == "assembled\n", done.stderr


def test_refuses_what_it_does_not_compute():
    assert "one input channel a group, not 2" in (
        DEPTHWISE.fits(Layer("conv", (4, 4), (3,), (9,), groups=2).problem(), host()) or ""
    )
    assert "at most four vectors of outputs" in (
        DEPTHWISE.fits(Layer("conv", (2, 180), (3,), (9,), groups=2).problem(), host()) or ""
    )
