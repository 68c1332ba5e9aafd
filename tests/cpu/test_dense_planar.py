"""Dense convolution of channels_first arrays, forced, against the loop oracle."""

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer

FIRST = {"layout": "channels_first"}
CASES = [
    Layer("conv", (5, 7), (3, 3), (7, 11), padding=((1, 1), (1, 1)), **FIRST),
    Layer("conv", (19, 21), (3, 2), (11, 13), stride=(2, 1), padding=((1, 0), (2, 1)), activation="relu", **FIRST),
    Layer(
        "conv", (6, 10), (3,), (53,), stride=(2,), dilation=(3,), padding=((2, 1),), groups=2, dtype="float64", **FIRST
    ),
    Layer(
        "conv",
        (6, 9),
        (3, 2, 2),
        (5, 4, 7),
        stride=(1, 2, 1),
        dilation=(1, 1, 2),
        padding=((2, 1), (0, 0), (1, 1)),
        groups=3,
        **FIRST,
    ),
    Layer("conv", (3, 5), (3, 5), (17, 23), dilation=(3, 7), padding=((3, 3), (14, 14)), bias=False, batch=1, **FIRST),
    Layer("conv", (3, 5), (3, 3), (23, 9), stride=(2, 2), dilation=(3, 2), padding=((2, 4), (1, 2)), **FIRST),
    Layer("conv", (3, 17), (2, 2), (5, 19), padding=((-1, 0), (0, -2)), bias=False, **FIRST),
    Layer("conv", (4, 41), (1, 1), (7, 5), stride=(2, 3), **FIRST),
    Layer("conv", (2, 3), (2,), (700,), batch=1, **FIRST),
    Layer("conv", (3, 4), (3, 3), (1, 1), padding=((1, 1), (1, 1)), batch=11, **FIRST),
    Layer(
        "conv_transpose",
        (5, 10),
        (2, 5),
        (5, 3),
        stride=(3, 1),
        dilation=(2, 1),
        padding=((0, 0), (2, 0)),
        groups=5,
        **FIRST,
    ),
    Layer(
        "conv_transpose",
        (3, 18),
        (4, 3, 2),
        (2, 3, 4),
        stride=(2, 3, 1),
        padding=((1, 1), (0, 1), (0, 0)),
        dtype="float64",
        **FIRST,
    ),
    Layer("conv_transpose", (2, 5), (3, 3), (5, 9), dilation=(2, 2), stride=(1, 1), padding=((1, 2), (3, 1)), **FIRST),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense_planar", TARGETS[target]())
