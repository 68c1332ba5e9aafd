"""Transposed convolution with few output channels, forced, against the loop oracle."""

from dataclasses import replace

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer

CASES = [
    Layer("conv_transpose", (5, 1), (4, 2), (7, 6), stride=(2, 2), padding=((1, 1), (1, 0)), output_padding=(1, 0)),
    Layer("conv_transpose", (5, 3), (9, 6), (5, 6), stride=(3, 3), padding=((4, 3), (5, 4))),
    Layer("conv_transpose", (5, 1), (3, 5), (5, 3), stride=(3, 1), padding=((0, 0), (2, 0))),
    Layer("conv_transpose", (5, 3), (3,), (70,), stride=(3,), output_padding=(2,), activation="relu", bias=False),
    Layer("conv_transpose", (7, 1), (64,), (11,), stride=(16,), padding=((17, 3),)),
    Layer("conv_transpose", (3, 1), (4, 3, 2), (2, 3, 4), stride=(2, 1, 2), padding=((1, 1), (0, 1), (0, 0))),
    Layer("conv_transpose", (2, 1), (8,), (9,), stride=(4,), padding=((3, 1),), strided=True, dtype="float64"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, layout, target):
    if layout == "channels_first":
        layer = replace(layer, layout=layout, strided=False)
    forced.check(layer, "subpixel", TARGETS[target]())
