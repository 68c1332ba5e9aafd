"""Layers of public shape lists (``data/onednn_shapes.txt``), compiled, against NumPy in float64.

Sizes are cut down so that a layer takes milliseconds; channels, kernels, strides, dilations and padding stay. A tenth
runs by default: ``POLYCONV_ALL_SHAPES=1`` runs the whole thousand.
"""

import math
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from polyconv.run.numpy_engine import NumpyEngine
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

LINES = [
    line
    for line in (Path(__file__).parents[1] / "data" / "onednn_shapes.txt").read_text().splitlines()
    if not line.startswith("#")
]
STEP = 1 if os.environ.get("POLYCONV_ALL_SHAPES") else 10
MOST = 4_000_000  # multiply-adds of a layer
OPS = {"conv": "conv", "deconv": "conv_transpose", "pool": "max_pool"}


@dataclass(frozen=True)
class Layer:
    problem: Problem
    batch: int
    size: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    out: tuple[int, ...]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def out_of(op: str, size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    span = dilation * (kernel - 1) + 1
    if op == "deconv":
        return (size - 1) * stride + span - sum(pads)
    return (size + sum(pads) - span) // stride + 1


def layer_of(line: str, number: int) -> Layer:
    """The layer of a line, its sizes cut down, in one of both layouts and dtypes."""
    op, *rest = line.split()
    groups, inputs, outputs = map(int, rest[:3])
    size, kernel, stride, dilation = map(numbers, rest[3:7])
    padding = tuple((int(b), int(a)) for b, a in (pads.split(":") for pads in rest[7].split("x")))
    rng = random.Random(number)
    weights = outputs * (inputs // groups if op != "pool" else 1) * math.prod(kernel)
    room = max(1.0, MOST / weights)
    found, outs = [], []
    for axis, whole in enumerate(size):
        here = (op, kernel[axis], stride[axis], dilation[axis], padding[axis])
        few = max(1, int(room ** (1 / (len(size) - axis))))
        fitting = [n for n in range(1, min(whole, 4096) + 1) if 1 <= out_of(here[0], n, *here[1:]) <= few] or [
            next(n for n in range(1, 10**4) if out_of(here[0], n, *here[1:]) >= 1)
        ]
        found.append(rng.choice(fitting[-8:]))
        outs.append(out_of(here[0], found[-1], *here[1:]))
        room = max(1.0, room / outs[-1])
    dtype, layout = rng.choice(["float32", "float32", "float64"]), ["channels_first", "channels_last"][number % 2]
    channels = (inputs, outputs) if op != "pool" else (inputs, inputs)
    problem = Problem(
        OPS[op] if op != "pool" or rng.random() < 0.5 else "avg_pool", *channels, kernel, stride, dilation,
        groups if op != "pool" else inputs, op != "pool" and rng.random() < 0.5, None, dtype, layout,
    )  # fmt: skip
    return Layer(problem, rng.choice([1, 1, 2]), tuple(found), padding, tuple(outs))


@pytest.mark.parametrize("number", range(0, len(LINES), STEP), ids=lambda number: LINES[number].replace(" ", "-"))
def test_equals_numpy_in_float64(number):
    layer = layer_of(LINES[number], number)
    problem = layer.problem
    rng = np.random.default_rng(number)
    first = problem.layout == "channels_first"
    shape = (
        (layer.batch, problem.in_channels, *layer.size) if first else (layer.batch, *layer.size, problem.in_channels)
    )
    weight = problem.weight_shape()
    made = [shape, weight, (problem.out_channels,) if problem.bias else None]
    x, w, bias = (None if one is None else rng.standard_normal(one).astype(problem.dtype) for one in made)
    prepared = CompiledEngine(threads=2).prepare(problem, w, bias)
    actual = prepared(x, layer.padding, layer.out)
    exact = [None if one is None else one.astype(np.float64) for one in (x, w, bias)]
    wide = replace(problem, dtype="float64")
    expected = NumpyEngine().prepare(wide, *exact[1:])(exact[0], layer.padding, layer.out)
    terms = math.prod(problem.kernel_size) * (1 if weight is None else problem.in_channels // problem.groups)
    transformed = prepared.explain(shape, layer.padding, layer.out).startswith(("winograd", "fourier"))
    sizes = 6 * math.sqrt(terms) + 2  # of a sum of products of standard normals: six deviations
    allowed = np.finfo(problem.dtype).eps * (math.sqrt(terms) + 4) * sizes * (60 if transformed else 2)
    assert actual.shape == expected.shape
    assert actual.dtype == problem.dtype
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite)
    assert np.abs(np.where(finite, actual - expected, 0)).max(initial=0) <= allowed, prepared.explain(
        shape, layer.padding, layer.out
    )


def test_the_lists_are_what_they_say():
    assert len(LINES) == len(set(LINES)) == 1000
    layers = [layer_of(line, number) for number, line in enumerate(LINES)]
    assert {layer.problem.ndim for layer in layers} == {1, 2, 3}
    assert {layer.problem.op for layer in layers} == {"conv", "conv_transpose", "max_pool", "avg_pool"}
    assert sum(before != after for layer in layers for before, after in layer.padding) > 100
    assert sum(layer.problem.groups > 1 for layer in layers) > 100
    assert all(min(layer.out) >= 1 for layer in layers)
