"""Offsets beyond 2^31 elements, in inputs and in outputs, for every algorithm.

The arrays are address space without memory behind it but for what is touched: pictures whose rows, planes or batch lie
far apart, or the last items alone of an output too large to compute here.
"""

import ctypes
import itertools
import math
import mmap
import sys
from dataclasses import replace

import numpy as np
import pytest

import polyconv as pc
from polyconv.run.cpu import machine
from polyconv.run.cpu.algorithms import NAMES, algorithm
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.cpu.target import host
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

NO_RESERVE = 0x4000  # Linux; Python names it from 3.13 on
FAR = 2**31 + 12345  # elements
LAST, FIRST = "channels_last", "channels_first"
# op, channels in and out, kernel, stride, groups, layout
LAYERS = {
    "dense": ("conv", 16, 512, (3, 3), 1, 1, LAST),
    "dense_dot": ("conv", 512, 2, (3, 3), 1, 1, LAST),
    "dense_near": ("conv", 4, 512, (3, 3), 1, 1, LAST),
    "dense_near_planar": ("conv", 4, 512, (3, 3), 1, 1, FIRST),
    "dense_near_turned": ("conv", 6, 512, (7, 7), 1, 1, FIRST),
    "dense_planar": ("conv", 16, 512, (3, 3), 1, 1, FIRST),
    "dense_rows": ("conv", 16, 5, (3, 3), 1, 1, FIRST),
    "dense_spread": ("conv_transpose", 16, 512, (3, 3), 2, 1, FIRST),
    "dense_turned": ("conv", 64, 512, (3, 3), 1, 1, FIRST),
    "depthwise": ("conv", 512, 512, (3, 3), 1, 512, LAST),
    "fourier": ("conv", 32, 512, (7, 7), 1, 1, LAST),
    "fourier_depthwise": ("conv", 512, 512, (13, 13), 1, 512, LAST),
    "grouped": ("conv", 512, 512, (3, 3), 1, 128, LAST),
    "planes": ("conv", 512, 512, (3, 3), 1, 512, FIRST),
    "pooling": ("max_pool", 512, 512, (3, 3), 1, 512, LAST),
    "subpixel": ("conv_transpose", 64, 1, (6, 6), 3, 1, LAST),
    "winograd": ("conv", 16, 64, (3, 3), 1, 1, LAST),
    "winograd_planar": ("conv", 16, 64, (3, 3), 1, 1, FIRST),
    "winograd_rows": ("conv", 16, 512, (3, 1), 1, 1, FIRST),
}
MANY = 50_000  # threads, so that items are small; Winograd's are, and many threads divide channels too
ROUNDS = {"fourier", "fourier_depthwise"}  # these hand a piece of the picture to all threads at a time
CUT = {
    "dense",
    "dense_turned",
}  # with padding they may work region by region of all pictures: the last items are not the last picture
SIZE = (9, 7)


def problem_of(name: str) -> Problem:
    op, inputs, outputs, kernel, stride, groups, layout = LAYERS[name]
    found = Problem(op, inputs, outputs, kernel, (stride,) * 2, (1, 1), groups, False, None, "float32", layout)
    reason = algorithm(name).fits(found, host())
    if reason is not None:
        pytest.skip(f"not for this machine: {reason}")
    return found


def space(elements: int) -> np.ndarray:
    """So many float32 zeros: addresses, and memory only where it is written."""
    if sys.platform != "linux":
        pytest.skip("NOT RUN: only on Linux it is known how to ask for addresses without memory")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    try:
        return np.frombuffer(mmap.mmap(-1, elements * 4, flags=flags), np.float32)
    except OSError as error:
        pytest.skip(f"NOT RUN: no {elements * 4 >> 30} GiB of address space ({error})")


def weight_of(problem: Problem) -> np.ndarray | None:
    shape = problem.weight_shape()
    return None if shape is None else np.random.default_rng(3).integers(-3, 4, shape).astype(np.float32)


def out_size_of(problem: Problem, size: tuple[int, ...]) -> tuple[int, ...]:
    grows = problem.op == "conv_transpose"
    kernel, stride = problem.kernel_size, problem.stride
    return tuple(
        (n - 1) * s + k if grows else n - k + 1 + 2 * (k // 2) for n, k, s in zip(size, kernel, stride, strict=True)
    )


def padding_of(problem: Problem) -> tuple[tuple[int, int], ...]:
    return tuple((0, 0) if problem.op == "conv_transpose" else (k // 2, k // 2) for k in problem.kernel_size)


@pytest.mark.parametrize("axis", ["batch", "rows", "planes"])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_reach_far(name, axis):
    problem = problem_of(name)
    if axis == "planes" and problem.layout == LAST:
        axis = "columns"
    last = problem.layout == LAST
    shape = (2, *SIZE, problem.in_channels) if last else (2, problem.in_channels, *SIZE)
    place = {"batch": 0, "rows": -3 if last else -2, "columns": -2, "planes": 1}[axis]
    strides = [*itertools.accumulate(shape[:0:-1], lambda a, b: a * b, initial=1)][::-1]
    strides[place] = FAR // (shape[place] - 1)
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
    assert reach > 2**31
    view = np.lib.stride_tricks.as_strided(space(reach), shape, [4 * s for s in strides])
    x = np.random.default_rng(4).integers(-3, 5, shape).astype(np.float32)
    view[...] = x
    layer = CompiledEngine(algorithm=name, threads=2).prepare(problem, weight_of(problem), None)
    given = padding_of(problem), out_size_of(problem, SIZE)
    assert layer(view, *given).tobytes() == layer(x, *given).tobytes()


def test_most_algorithms_read_them_where_they_lie():
    """The others are handed a copy."""
    reading = set()
    for name in NAMES:
        problem = problem_of(name)
        shape = (2, *SIZE, problem.in_channels) if problem.layout == LAST else (2, problem.in_channels, *SIZE)
        strides = [*itertools.accumulate(shape[:0:-1], lambda a, b: a * b, initial=1)][::-1]
        sizes = Sizes(2, SIZE, padding_of(problem), out_size_of(problem, SIZE), (FAR, *strides[1:]))
        if algorithm(name).reads(problem, sizes):
            reading.add(name)
    assert set(NAMES) - ROUNDS <= reading


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ROUNDS])
def test_the_end_of_an_output_beyond_two_to_the_31st(name):
    """A batch of one picture over and over: the schedule is that of all, and the last items are run."""
    problem, target = problem_of(name), host()
    other = name
    if name == "dense_turned":  # few weights: all of them in each item; another algorithm is for that
        problem, other = replace(problem, in_channels=16), "dense_planar"
    found, last = algorithm(name), problem.layout == LAST
    tile = found.variants(problem, target)[0]
    padding, out_size = padding_of(problem), out_size_of(problem, SIZE)
    if name in CUT:
        out_size = tuple(n - before - after for n, (before, after) in zip(out_size, padding, strict=True))
        padding = ((0, 0),) * 2
    one = problem.out_channels * math.prod(out_size)
    batch = FAR // one + 2
    shape = (1, *SIZE, problem.in_channels) if last else (1, problem.in_channels, *SIZE)
    x, weight = np.random.default_rng(5).integers(-3, 5, shape).astype(np.float32), weight_of(problem)
    strides = (0, *(stride // 4 for stride in x.strides[1:]))
    plan = found.schedule(
        problem, tile, target, Sizes(batch, SIZE, padding, out_size, strides), 2 if "winograd" in name else MANY
    )
    assert len(plan.phases) == 1 or name == "dense_turned"
    out = space(batch * one)
    assert out.size - one > 2**31
    packed = found.pack(problem, tile, target, weight, None)
    words = [x, packed, out, np.zeros(plan.workspace_bytes // 4 + 32, np.float32), *map(int, plan.words[4:])]
    raw = [word.ctypes.data if isinstance(word, np.ndarray) else word for word in words]
    raw[3] += -raw[3] % 128
    block = (ctypes.c_int64 * len(raw))(*raw)
    scratch = np.zeros(plan.scratch_bytes + 128, np.uint8)
    for symbol, items in ((phase.symbol, phase.items) for phase in plan.phases):
        address = machine.load(found.emit(problem, tile, target), symbol, target, name).address
        kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)
        few = -(-items // batch) + 2  # an item may be smaller than a picture, or some pictures
        kernel(ctypes.addressof(block), max(0, items - few), items, scratch.ctypes.data + -scratch.ctypes.data % 128)
    near = CompiledEngine(algorithm=other, tile=tile, threads=1).prepare(problem, weight, None)
    assert out[-one:].tobytes() == near(x, padding, out_size).tobytes()


def test_one_real_run_over_more_than_two_to_the_31st_elements():
    """A contiguous picture, through the public door: one pixel in 4096 of every 4096th row."""
    side = (65537, 32768)
    x = space(math.prod(side)).reshape(1, 1, *side)
    model = pc.network("maxpool 1x1 stride 4096").bind({})
    x[0, 0, -1, -4096], x[0, 0, 0, 4096], x[0, 0, 4096, 0] = 3, 2, 1
    y = model(x)
    assert y.shape == (1, 1, 17, 8)
    assert (y[0, 0, -1, -1], y[0, 0, 0, 1], y[0, 0, 1, 0], y.sum()) == (3, 2, 1, 6)
    assert "numpy" not in model.explain(x.shape).split("(")[0]


def test_shapes_and_counts_beyond_two_to_the_31st():
    network = pc.network("conv 3x3 64 same | conv 3x3 64 stride 2 padding 1")
    shape = (5, 3, 70001, 30001)
    assert tuple(network.shapes(shape)) == ((5, 64, 70001, 30001), (5, 64, 35001, 15001))
    report = network.count(shape)
    assert report.macs == 5 * (70001 * 30001 * 64 * 27 + 35001 * 15001 * 64 * 64 * 9)
