"""Convolution by lists of terms and by whole rows of them, forced, against the loop oracle."""

from dataclasses import replace

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu.algorithms import dense_near_turned

BOTH = [
    Layer("conv", (3, 33), (3, 3), (7, 31), padding=((1, 1), (1, 1)), activation="relu"),
    Layer("conv", (3, 64), (7, 7), (12, 41), stride=(2, 2), padding=((3, 3), (3, 2))),
    Layer("conv", (1, 16), (10,), (211,), stride=(5,), batch=2),
    Layer("conv", (1, 37), (5,), (23,), dilation=(3,), padding=((9, 40),), dtype="float64"),
    Layer("conv", (2, 18), (3, 2, 3), (6, 5, 33), stride=(2, 1, 2), padding=((2, 1), (0, 1), (1, 1))),
    Layer("conv", (3, 16), (3, 3, 3), (5, 4, 17), padding=((1, 1), (2, 2), (1, 1)), dilation=(1, 2, 1)),
    Layer("conv", (4, 20), (2, 2), (5, 9), padding=((-1, 0), (0, -2)), bias=False),
    Layer("conv", (3, 8), (3, 5), (4, 2), padding=((1, 1), (6, 5)), dilation=(2, 1)),
    Layer("conv", (2, 9), (1, 1), (7, 50), stride=(4, 8), batch=2),
]
# widths that leave part of the last vector empty: strips of several rows, which channels_first joins into one
JOINED = [
    Layer("conv", (3, 10), (3, 3), (40, 17), padding=((1, 1), (1, 1)), activation="relu"),
    Layer("conv", (2, 9), (5, 5), (60, 43), stride=(2, 2), padding=((2, 2), (2, 1))),
    Layer("conv", (1, 7), (3, 4), (50, 60), stride=(3, 3), dilation=(2, 1), padding=((7, 6), (0, 3)), batch=1),
    Layer("conv", (3, 6), (2, 3), (70, 39), stride=(4, 2), padding=((0, 0), (1, -2)), batch=1),
    Layer("conv", (2, 8), (3, 3, 3), (4, 33, 18), stride=(2, 1, 1), padding=((1, 1), (1, 1), (1, 1)), batch=1),
    Layer("conv", (1, 3), (3, 3), (24, 11), padding=((1, 1), (1, 1)), dtype="float64"),
]
PIXELS = [
    Layer("conv", (5, 70), (1, 1), (3, 5), batch=3),
    Layer("conv", (16, 48), (3, 3), (4, 16), padding=((0, 1), (3, 3)), stride=(1, 3)),
    Layer("conv", (53, 70), (1, 1), (5, 7), batch=3, activation="relu"),  # rows and pictures are one row here
    Layer("conv", (200, 32), (1, 1), (9, 16), activation="relu"),
    Layer("conv", (64, 24), (1,), (45,), dtype="float64"),
    Layer("conv", (70, 16), (1, 1), (3, 17), padding=((1, 0), (2, 20))),
    Layer("conv", (51, 40), (1, 1), (7, 33), stride=(2, 2), batch=2),
    Layer("conv", (1200, 17), (1, 1), (3, 15), padding=((0, 0), (1, 0))),  # a patch of more than 64 KiB
    Layer("conv", (30, 33), (2, 2), (9, 21), stride=(2, 2), padding=((1, 0), (0, 3))),
    Layer("conv", (16, 20), (3, 3), (6, 19), padding=((1, 1), (1, 1)), dilation=(2, 1)),
    Layer("conv", (25, 18), (2, 1, 2), (5, 3, 30), stride=(2, 1, 2), padding=((0, 1), (0, 0), (1, 2))),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", [*BOTH, *PIXELS], ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense_near", TARGETS[target]())


TURNED = [
    *(layer for layer in BOTH + JOINED if len(layer.kernel) > 1),
    Layer("conv", (6, 33), (5, 9), (7, 31), padding=((2, 2), (4, 4)), activation="relu", batch=1),
    Layer("conv", (3, 34), (3, 7, 7), (4, 12, 19), stride=(1, 2, 2), padding=((1, 1), (3, 3), (3, 3)), batch=1),
    Layer("conv", (5, 7), (8, 8), (24, 32), stride=(8, 8), dtype="float64"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", TURNED, ids=str)
def test_turned_planes_equal_the_oracle(layer, target, monkeypatch):
    monkeypatch.setattr(dense_near_turned, "LONG_SUM", 0)
    forced.check(replace(layer, layout="channels_first"), "dense_near_turned", TARGETS[target]())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", [*BOTH, *JOINED], ids=str)
def test_planes_equal_the_oracle(layer, target):
    forced.check(replace(layer, layout="channels_first"), "dense_near_planar", TARGETS[target]())
