"""Output positions in the lanes, forced, against the loop oracle."""

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer

FIRST = {"layout": "channels_first"}
CASES = [
    Layer("conv", (5, 7), (3, 3), (7, 11), padding=((1, 1), (1, 1)), **FIRST),
    Layer("conv", (9, 29), (3, 2), (11, 37), stride=(2, 1), padding=((1, 0), (2, 1)), activation="relu", **FIRST),
    Layer("conv", (6, 10), (3,), (153,), dilation=(3,), padding=((2, 1),), groups=2, dtype="float64", **FIRST),
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
    Layer("conv", (3, 1), (3, 5), (9, 23), dilation=(3, 7), padding=((3, 3), (14, 14)), bias=False, batch=1, **FIRST),
    Layer("conv", (3, 17), (2, 2), (5, 19), padding=((-1, 0), (0, -2)), bias=False, **FIRST),
    Layer("conv", (4, 41), (1, 1), (7, 13), **FIRST),
    # tiles whose vectors are all on data, and others in the same row
    Layer("conv", (7, 13), (3,), (391,), dilation=(40,), padding=((40, 39),), batch=1, **FIRST),
    Layer("conv", (5, 11), (2, 3), (3, 131), padding=((1, 0), (1, 1)), batch=1, activation="relu", **FIRST),
    Layer("conv", (4, 27), (1, 1), (7, 13), padding=((1, 0), (0, 2)), activation="relu", **FIRST),
    Layer("conv", (6, 4), (1, 1, 1), (3, 5, 7), groups=2, dtype="float64", **FIRST),
    Layer("conv", (3, 4), (3, 3), (1, 1), padding=((1, 1), (1, 1)), batch=11, **FIRST),
    Layer(
        "conv_transpose",
        (5, 20),
        (3, 3),
        (7, 6),
        stride=(2, 2),
        padding=((1, 1), (1, 0)),
        output_padding=(1, 0),
        **FIRST,
    ),
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
    Layer("conv_transpose", (5, 3), (2,), (70,), stride=(5,), output_padding=(3,), activation="relu", **FIRST),
    Layer(
        "conv_transpose",
        (3, 8),
        (4, 3, 2),
        (2, 3, 4),
        stride=(2, 1, 3),
        padding=((1, 1), (0, 1), (0, 0)),
        dtype="float64",
        **FIRST,
    ),
    Layer("conv_transpose", (2, 5), (3, 3), (5, 9), dilation=(2, 2), stride=(1, 1), padding=((1, 2), (3, 1)), **FIRST),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense_rows", TARGETS[target]())
