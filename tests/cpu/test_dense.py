"""Dense convolution with many channels, forced, against the loop oracle."""

import numpy as np
import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer

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
