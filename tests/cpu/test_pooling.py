"""Max and average pooling, forced, against the loop oracle: NaN, infinities, ceil windows, counted padding."""

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest

import oracle
from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu.algorithms.pooling import POOLING
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Problem

LAYOUTS = ("channels_last", "channels_first")


@dataclass(frozen=True)
class Pool(Layer):
    """A pooling layer; it rounds its number of windows up where ``ceil_mode`` says so."""

    ceil_mode: bool = False
    count_include_pad: bool = True

    def problem(self) -> Problem:
        return Problem(
            self.op, *self.channels, self.kernel, self.ones(self.stride), self.ones(self.dilation), 1, False,
            self.activation, self.dtype, self.layout, self.count_include_pad,
        )  # fmt: skip

    def __str__(self) -> str:
        return super().__str__() + "-ceil" * self.ceil_mode + "-data" * (not self.count_include_pad)


def pool(kernel: tuple, size: tuple, channels: int = 5, **options: object) -> Pool:
    return Pool("max_pool", (channels, channels), kernel, size, **options)


CASES = [
    pool((3, 3), (13, 17), 21, stride=(2, 2), padding=((1, 1), (1, 1))),
    pool((2, 2), (7, 9), 37, stride=(2, 2), padding=((0, 0), (1, 0)), ceil_mode=True),
    pool((7, 7), (7, 7), 70, batch=3),
    pool((7, 7), (9, 7), 33, padding=((1, 1), (0, 0)), stride=(2, 1)),
    pool((3, 5, 4), (4, 5, 4), 18, dilation=(1, 1, 1), padding=((1, 1), (0, 0), (0, 0))),
    pool((3, 3), (11, 12), 70, stride=(2, 2), padding=((1, 1), (0, 1))),
    pool((2, 2, 2), (5, 6, 11), 67, stride=(2, 2, 2), batch=1),
    pool((3, 5), (7, 41), dilation=(2, 1), padding=((2, 1), (2, 2)), activation="relu"),
    pool((4,), (97,), 3, stride=(3,), padding=((2, 1),), ceil_mode=True, dtype="float64"),
    pool((2, 3, 3), (5, 4, 19), 17, stride=(1, 2, 2), padding=((1, 0), (1, 1), (1, 1)), ceil_mode=True, batch=1),
    pool((3, 13), (3, 40), padding=((1, 1), (6, 6))),
    pool((2, 50), (3, 60), stride=(2, 5), padding=((1, 0), (20, 20))),
    pool((1, 2), (5, 33), stride=(1, 3), dtype="float64"),
    pool((5,), (50,), stride=(4,), padding=((2, 2),)),
    pool((1, 1), (4, 23), 1, stride=(2, 7)),
    pool((2,), (6,), stride=(5,), padding=((1, 1),), ceil_mode=True),
]


def data(layer: Pool) -> np.ndarray:
    """Small whole numbers; for max pooling also NaN and infinities."""
    rng = np.random.default_rng(3)
    inner = (*layer.in_size, layer.channels[0])
    shape = inner if layer.layout == "channels_last" else (inner[-1], *inner[:-1])
    x = rng.integers(-9, 9, (layer.batch, *shape)).astype(layer.dtype)
    if layer.op == "max_pool":
        for value in (np.nan, np.inf, -np.inf, np.copysign(np.nan, -1)):
            x[rng.random(x.shape) < 0.02] = value
    return x


def expected(layer: Pool, x: np.ndarray) -> np.ndarray:
    common = {
        "kernel_size": layer.kernel, "stride": layer.ones(layer.stride), "ceil_mode": layer.ceil_mode,
        "padding": layer.ones(layer.padding, (0, 0)), "layout": layer.layout,
    }  # fmt: skip
    if layer.op == "max_pool":
        y = oracle.max_pool(x, dilation=layer.ones(layer.dilation), **common).y
    else:
        y = oracle.avg_pool(x, count_include_pad=layer.count_include_pad, **common).y
    return np.maximum(y, 0) if layer.activation == "relu" else y


def check(layer: Pool, target: Target) -> None:
    x = data(layer)
    wanted = expected(layer, x)
    for tile in POOLING.variants(layer.problem(), target):
        first = forced.run(layer, POOLING, tile, target, x, None, None, wanted.shape)
        np.testing.assert_array_equal(first, wanted)
        for options in ({"threads": 3}, {"piecewise": True, "threads": 2}, {"at_end": False}):
            again = forced.run(layer, POOLING, tile, target, x, None, None, wanted.shape, **options)
            assert first.tobytes() == again.tobytes(), options


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_max_equals_the_oracle(layer, layout, target):
    check(replace(layer, layout=layout), TARGETS[target]())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("layer", [case for case in CASES if not case.dilation], ids=str)
def test_average_equals_the_oracle(layer, layout, target, count_include_pad):
    layer = replace(layer, op="avg_pool", layout=layout, count_include_pad=count_include_pad)
    check(layer, TARGETS[target]())


@pytest.mark.parametrize("seed", range(12))
def test_drawn_layers_equal_the_oracle(seed):
    rng = random.Random(seed)
    ndim = rng.choice([1, 2, 2, 3])
    kernel = tuple(rng.randint(1, {1: 20, 2: 6, 3: 3}[ndim]) for _ in range(ndim))
    op = rng.choice(["max_pool", "avg_pool"])
    dilation = tuple(rng.randint(1, 3) if op == "max_pool" else 1 for _ in range(ndim))
    spans = [(length - 1) * step + 1 for length, step in zip(kernel, dilation, strict=True)]
    layer = Pool(
        op, (rng.choice([1, 4, 17, 33]),) * 2, kernel,
        tuple(rng.randint(span, span + {1: 50, 2: 15, 3: 4}[ndim]) for span in spans),
        tuple(rng.randint(1, 4) for _ in range(ndim)), dilation,
        tuple((rng.randint(0, length // 2), rng.randint(0, length // 2)) for length in kernel),
        batch=rng.randint(1, 2), dtype=rng.choice(["float32", "float64"]), layout=rng.choice(LAYOUTS),
        ceil_mode=rng.random() < 0.5, count_include_pad=rng.random() < 0.5,
    )  # fmt: skip
    check(layer, TARGETS["avx2" if seed % 3 == 2 else "host"]())


def test_a_window_of_padding_alone():
    """Where an engine is asked for such a window: minus infinity, or nothing over nothing."""
    for op, wanted in (("max_pool", -np.inf), ("avg_pool", np.nan)):
        for layout in LAYOUTS:
            layer = Pool(op, (1, 1), (2,), (3,), (1,), (1,), ((3, 0),), batch=1, layout=layout, count_include_pad=False)
            x = np.ones((1, 3, 1) if layout == "channels_last" else (1, 1, 3), np.float32)
            shape = (1, 5, 1) if layout == "channels_last" else (1, 1, 5)
            tile = POOLING.variants(layer.problem(), host())[0]
            y = forced.run(layer, POOLING, tile, host(), x, None, None, shape).ravel()
            np.testing.assert_array_equal(y, np.array([wanted, wanted, 1, 1, 1], np.float32))


@pytest.mark.parametrize(
    ("kernel", "stride", "channels", "pixels"),
    [(2, 2, 64, 2), (2, 2, 32, 4), (2, 2, 3, 8), (3, 2, 64, 2), (3, 1, 64, 4), (13, 1, 64, 8), (50, 1, 64, 0)],
)
def test_tiles_are_as_long_as_windows_overlap(kernel, stride, channels, pixels):
    target = host()
    if target.lanes("float32") != 16:
        pytest.skip("vectors are not of 16 here")
    layer = pool((kernel, kernel), (60, 60), channels, stride=(stride, stride), layout="channels_last")
    assert [tile.pixels for tile in POOLING.variants(layer.problem(), target)] == [pixels]


@pytest.mark.parametrize(
    ("kernel", "size", "stride", "together"), [(7, 7, 1, True), (14, 14, 1, True), (8, 56, 8, False), (2, 64, 2, False)]
)
def test_global_pooling_of_planes_takes_several_together(kernel, size, stride, together):
    layer = pool((kernel, kernel), (size, size), 512, stride=(stride, stride), layout="channels_first")
    out = (size - kernel) // stride + 1
    sizes = Sizes(1, (size, size), ((0, 0), (0, 0)), (out, out), (512 * size * size, size * size, size, 1))
    costs = {
        tile.together: POOLING.cost(layer.problem(), tile, host(), sizes, 1)
        for tile in POOLING.variants(layer.problem(), host())
    }
    assert (costs[True] < costs[False]) == together


def test_threads_get_equal_rows():
    """27 rows of outputs are 14 and 13, whatever number of rows an item has."""
    layer = pool((2, 2), (54, 54), 512, stride=(2, 2), layout="channels_last")
    problem, target = layer.problem(), host()
    sizes = Sizes(1, (54, 54), ((0, 0), (0, 0)), (27, 27), (54 * 54 * 512, 54 * 512, 512, 1))
    schedule = POOLING.schedule(problem, POOLING.variants(problem, target)[0], target, sizes, 2)
    items = schedule.phases[0].items
    rows = int(schedule.reason.split()[2].split("x")[0])
    assert items == -(-27 // rows) > 1
    assert -(-items // 2) * rows == 14


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mean_of_negative_zeros_is_the_same_zero_everywhere(layout):
    layer = replace(pool((3, 3), (12, 12), 64, padding=((1, 1), (1, 1)), layout=layout), op="avg_pool")
    x = np.full(data(layer).shape, -0.0, np.float32)
    for tile in POOLING.variants(layer.problem(), host()):
        y = forced.run(layer, POOLING, tile, host(), x, None, None, x.shape)
        assert len({bool(sign) for sign in np.signbit(y).ravel()}) == 1


def test_refuses_what_it_does_not_compute():
    assert "does not compute conv" in (POOLING.fits(Layer("conv", (4, 4), (3,), (9,)).problem(), host()) or "")
