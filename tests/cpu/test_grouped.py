"""Grouped convolution with few channels a group, forced, against the loop oracle."""

import random
from dataclasses import replace

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu.algorithms.grouped import GROUPED
from polyconv.run.cpu.target import host

LAYOUTS = ("channels_last", "channels_first")

CASES = [
    Layer("conv", (12, 12), (3, 3), (7, 11), padding=((1, 1), (1, 1)), groups=3),
    Layer("conv", (76, 76), (3, 3), (6, 13), padding=((1, 1), (1, 2)), stride=(2, 1), activation="relu", groups=19),
    Layer("conv", (14, 35), (5, 2), (8, 9), padding=((2, 1), (3, 2)), dilation=(1, 2), bias=False, groups=7),
    Layer("conv", (30, 6), (3,), (37,), padding=((1, 1),), groups=6, dtype="float64"),
    Layer("conv", (36, 54), (1, 1), (5, 7), groups=18),
    Layer("conv", (32, 32), (3, 3), (5, 9), padding=((1, 1), (1, 1)), groups=2, batch=1),
    Layer("conv", (12, 30), (2, 2), (5, 9), groups=2, batch=1),
    Layer("conv", (8, 12), (2, 3, 2), (3, 5, 6), stride=(1, 2, 1), padding=((1, 0), (1, 1), (0, 1)), groups=4),
    Layer("conv", (256, 192), (3,), (7,), dilation=(2,), padding=((1, 1),), groups=64, batch=1),
    Layer("conv", (6, 4), (19,), (23,), padding=((9, 9),), groups=2),
    Layer("conv_transpose", (12, 12), (4, 4), (5, 6), stride=(2, 2), padding=((1, 1), (1, 1)), groups=4),
    Layer("conv_transpose", (10, 15), (3,), (11,), stride=(2,), dilation=(3,), padding=((2, 1),), groups=5),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, layout, target):
    forced.check(replace(layer, layout=layout), "grouped", TARGETS[target]())


def drawn(seed: int) -> Layer:
    rng = random.Random(seed)
    ndim = rng.choice([1, 2, 2, 3])
    kernel = tuple(rng.randint(1, {1: 9, 2: 4, 3: 2}[ndim]) for _ in range(ndim))
    stride = tuple(rng.randint(1, 3) for _ in range(ndim))
    dilation = tuple(rng.randint(1, 3) for _ in range(ndim))
    size, padding = [], []
    for length, step in zip(kernel, dilation, strict=True):
        span = (length - 1) * step + 1
        pads = (rng.randint(0, span), rng.randint(0, span))
        padding.append(pads)
        size.append(rng.randint(max(1, span - sum(pads)), max({1: 30, 2: 10, 3: 5}[ndim], span)))
    groups, inputs, outputs = rng.randint(2, 11), rng.randint(2, 9), rng.randint(1, 9)
    return Layer(
        "conv", (groups * inputs, groups * outputs), kernel, tuple(size), stride, dilation, tuple(padding),
        groups=groups, batch=rng.randint(1, 2), bias=rng.random() < 0.5, dtype=rng.choice(["float32", "float64"]),
        layout=rng.choice(LAYOUTS), activation=rng.choice([None, "relu"]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_drawn_layers_equal_the_oracle(seed):
    forced.check(drawn(seed), "grouped", TARGETS["avx2" if seed % 4 == 3 else "host"]())


def test_refuses_what_it_does_not_compute():
    assert "several groups" in (GROUPED.fits(Layer("conv", (4, 4), (3,), (9,)).problem(), host()) or "")
    many = Layer("conv", (80, 4), (3,), (9,), groups=2).problem()
    assert "at most 16 input channels a group, not 40" in (GROUPED.fits(many, host()) or "")
