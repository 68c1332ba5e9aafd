"""Convolution without scratch, both layouts: exact on integers, whatever the stride, padding, groups or axes."""

from dataclasses import replace

import pytest

from cpu import forced
from cpu.forced import Layer

LAYERS = [
    Layer("conv", (3, 20), (3, 3), (7, 5), padding=((1, 1), (1, 1)), activation="relu"),
    Layer("conv", (5, 9), (3, 2), (9, 37), (2, 2), padding=((1, 0), (0, 1))),
    Layer("conv", (2, 33), (2, 3), (8, 41), (1, 3), (2, 1), ((1, 2), (3, 0)), dtype="float64"),
    Layer("conv", (4, 6), (1, 3), (5, 60), (2, 5), padding=((0, 0), (1, 1)), bias=False),
    Layer("conv", (12, 18), (3,), (29,), (4,), (3,), ((3, 3),), groups=3),
    Layer("conv", (6, 12), (2, 3, 3), (4, 5, 6), (2, 1, 2), padding=((1, 1), (1, 1), (2, 2)), groups=6),
    Layer("conv", (1, 1), (1, 1), (1, 1), batch=1),
    Layer("conv", (17, 40), (1, 1), (3, 5)),
    Layer("conv", (8, 8), (5, 5), (3, 3), padding=((2, 2), (2, 2)), dtype="float64"),
    Layer("conv_transpose", (4, 5), (4, 4), (3, 9), (2, 2), padding=((1, 1), (1, 1))),
    Layer("conv_transpose", (6, 4), (3, 2), (4, 5), (3, 3), (1, 2), ((0, 1), (1, 0)), (1, 2), groups=2),
    Layer("conv_transpose", (3, 20), (5,), (12,), (1,), (2,), ((4, 4),), dtype="float64"),
    Layer("conv_transpose", (2, 3), (2, 3, 2), (2, 3, 4), (2, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("target", forced.TARGETS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_pixels(layer, target):
    forced.check(layer, "in_place", forced.TARGETS[target]())


@pytest.mark.parametrize("target", forced.TARGETS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_planes(layer, target):
    forced.check(replace(layer, layout="channels_first"), "in_place_planar", forced.TARGETS[target]())


def test_pixels_of_any_strides():
    layer = Layer("conv", (3, 7), (3, 3), (6, 8), (2, 1), padding=((1, 1), (1, 1)), strided=True)
    forced.check(layer, "in_place", forced.TARGETS["host"]())


@pytest.mark.parametrize("name", ["in_place", "in_place_planar"])
def test_no_scratch(name):
    for layer in LAYERS:
        one = replace(layer, layout="channels_first" if name.endswith("planar") else "channels_last")
        found, problem, target = forced.algorithm(name), one.problem(), forced.TARGETS["host"]()
        wanted = forced.expected(one, *forced.data(one)).shape
        spatial = slice(2, None) if name.endswith("planar") else slice(1, -1)
        shape = forced.data(one)[0].shape
        strides = [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * size)
        padding = one.ones(one.padding, (0, 0))
        sizes = forced.Sizes(shape[0], shape[spatial], padding, wanted[spatial], tuple(strides))
        for tile in found.variants(problem, target):
            plan = found.schedule(problem, tile, target, sizes, 2)
            assert (plan.scratch_bytes, plan.workspace_bytes) == (0, 0)
