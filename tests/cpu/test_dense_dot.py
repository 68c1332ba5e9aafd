"""Convolution with few output channels and lanes of input channels, forced, against the loop oracle."""

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer

CASES = [
    Layer("conv", (37, 1), (3, 3), (7, 11), padding=((1, 1), (1, 1))),
    Layer(
        "conv", (16, 3), (3, 2), (5, 13), stride=(2, 1), dilation=(1, 2), padding=((1, 0), (2, 1)), activation="relu"
    ),
    Layer("conv", (22, 4), (3,), (37,), stride=(2,), dilation=(3,), padding=((2, 1),), groups=2, dtype="float64"),
    Layer("conv", (9, 2), (3, 2, 2), (5, 4, 7), padding=((2, 1), (0, 0), (1, 1))),
    Layer("conv", (19, 6), (2, 2), (5, 9), padding=((-1, 0), (0, -2)), bias=False, strided=True),
    Layer("conv", (40, 5), (1, 1), (3, 5), batch=3),
    Layer("conv_transpose", (21, 1), (3, 3), (7, 6), stride=(2, 2), padding=((1, 1), (1, 0)), output_padding=(1, 0)),
    Layer(
        "conv_transpose", (45, 10), (2, 5), (5, 3), stride=(3, 2), dilation=(2, 1), padding=((0, 0), (2, 0)), groups=5
    ),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense_dot", TARGETS[target]())
