"""Transposed convolution of channels_first arrays, columns together, forced, against the loop oracle."""

import re
from dataclasses import replace

import pytest

from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu.algorithms import algorithm, dense_spread
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.cpu.target import host
from polyconv.run.problem import Problem

FIRST = {"layout": "channels_first"}
UP = "conv_transpose"
CASES = [
    Layer(UP, (5, 20), (3, 3), (7, 6), stride=(2, 2), padding=((1, 1), (1, 0)), output_padding=(1, 0), **FIRST),
    Layer(UP, (33, 37), (2, 2), (7, 16), stride=(2, 2), **FIRST),  # tiles over two rows
    Layer(UP, (6, 35), (4, 4), (5, 3), stride=(2, 2), padding=((1, 1), (1, 1)), activation="relu", **FIRST),
    Layer(UP, (5, 10), (2, 5), (5, 3), stride=(3, 2), dilation=(2, 3), padding=((0, 0), (2, 0)), groups=5, **FIRST),
    Layer(UP, (5, 3), (2,), (7,), stride=(5,), output_padding=(3,), activation="relu", **FIRST),
    Layer(UP, (18, 33), (16,), (151,), stride=(8,), padding=((4, 4),), batch=1, **FIRST),
    Layer(
        UP, (3, 18), (4, 3, 2), (2, 3, 4), stride=(2, 1, 3), padding=((1, 1), (0, 1), (0, 0)), dtype="float64", **FIRST
    ),
    Layer(UP, (4, 6), (2, 2, 2), (3, 5, 4), stride=(2, 2, 2), bias=False, **FIRST),
    Layer(UP, (3, 16), (3, 4), (9, 1), stride=(1, 4), padding=((1, 2), (1, 1)), **FIRST),  # rows of one
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_equals_the_oracle(layer, target):
    forced.check(layer, "dense_spread", TARGETS[target]())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"op": "conv"}, "transposed convolutions, not conv"),
        ({"layout": "channels_last"}, "planes"),
        ({"stride": (2, 1)}, "last stride is 1"),
    ],
)
def test_says_what_it_is_not_for(change, why):
    problem = Problem(UP, 16, 16, (4, 4), (2, 2), (1, 1), 1, True, None, "float32", "channels_first")
    assert dense_spread.fits(problem, host()) is None
    assert re.search(why, dense_spread.fits(replace(problem, **change), host()) or "")


@pytest.mark.parametrize(
    ("name", "op", "channels", "kernel", "stride", "side", "pad"),
    [
        ("dense_spread", UP, (256, 256), 2, 2, 14, 0),
        ("dense_spread", UP, (21, 21), 4, 2, 16, 1),
        ("dense_spread", UP, (512, 256), 4, 2, 8, 1),
        ("dense_planar", "conv", (576, 96), 1, 1, 14, 0),
        ("dense_planar", "conv", (2048, 512), 1, 1, 7, 0),
        ("dense_planar", "conv", (3, 768), 16, 16, 224, 0),
        ("dense_planar", "conv", (512, 512), 3, 1, 7, 1),
    ],
)
def test_scratch_of_two_threads_is_a_quarter_of_the_arrays_at_most(name, op, channels, kernel, stride, side, pad):
    problem = Problem(op, *channels, (kernel,) * 2, (stride,) * 2, (1, 1), 1, True, None, "float32", "channels_first")
    out = (side - 1) * stride + kernel - 2 * pad if op == UP else (side + 2 * pad - kernel) // stride + 1
    strides = (channels[0] * side * side, side * side, side, 1)
    sizes = Sizes(1, (side, side), ((pad, pad),) * 2, (out, out), strides)
    found = algorithm(name)
    schedule = found.schedule(problem, found.variants(problem, host())[0], host(), sizes, 2)
    arrays = 4 * (channels[0] * side * side + channels[1] * out * out + channels[0] * channels[1] * kernel * kernel)
    assert schedule.workspace_bytes + 2 * schedule.scratch_bytes <= arrays / 4
