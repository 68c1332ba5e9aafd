"""Operators and models from many threads at once: the same bits as from one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import polyconv as pc
import strategies


def work(seed: int) -> bytes:
    """One of several calls, of shapes and kinds that change from call to call."""
    x = strategies.integers((1 + seed % 3, 4, 9 + seed % 5, 7), "float32", seed)
    w = strategies.integers((4, 4, 3, 3), "float32", seed + 1)
    kinds = [
        lambda: pc.conv(x, w, padding="same", activation="relu"),
        lambda: pc.conv_transpose(x, w, stride=2),
        lambda: pc.max_pool(x, 3, stride=2, padding=1),
        lambda: pc.avg_pool(x, 2),
        lambda: pc.depthwise_conv(x, w[:, :1], padding=1),
        lambda: pc.conv(x, w, stride=1 + seed % 2, dilation=1 + seed % 3, padding="same"),
        lambda: pc.network("conv 3x3 4 same relu | maxpool 2x2").bind(
            {"0.weight": w, "0.bias": np.zeros(4, "float32")}
        )(x),
    ]
    return kinds[seed % len(kinds)]().tobytes()


def disagreements(run, seeds: range, threads: int = 8) -> list[int]:
    """Seeds whose result from several threads at once differs from the one of a single thread."""
    alone = {seed: run(seed) for seed in seeds}
    barrier = threading.Barrier(threads)

    def everything(_: int) -> list[int]:
        barrier.wait()
        return [seed for seed in seeds if run(seed) != alone[seed]]

    with ThreadPoolExecutor(threads) as pool:
        return sorted({seed for wrong in pool.map(everything, range(threads)) for seed in wrong})


def test_operators_from_many_threads():
    assert disagreements(work, range(28)) == []


def test_one_model_from_many_threads():
    net = pc.network("conv 3x3 8 same relu | depthwise 3x3 stride 2 padding 1 | pointwise 5 tanh")
    model = net.bind(net.weights(in_channels=3, seed=1))

    def run(seed: int) -> bytes:
        x = np.random.default_rng(seed).standard_normal((1, 3, 8 + seed % 6, 11)).astype("float32")
        return model(x).tobytes()

    assert disagreements(run, range(24)) == []


def bound(text: str, layout: str):
    net = pc.network(text)
    return net.bind(net.weights(in_channels=16, seed=1), layout=layout)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_one_model_from_32_threads(layout):
    """Layers by several algorithms, some run as one; also where all threads meet a new shape at once."""
    text = "conv 3x3 32 same relu | conv 9x9 16 same | depthwise 3x3 same | pointwise 24 silu | maxpool 2x2"
    model = bound(text, layout)

    def run(seed: int) -> bytes:
        shape = (1 + seed % 2, 16, 25 + seed, 38) if layout == "channels_first" else (1 + seed % 2, 25 + seed, 38, 16)
        return model(np.random.default_rng(seed).standard_normal(shape).astype("float32")).tobytes()

    assert disagreements(run, range(6), 32) == []
    alone = {seed: run(seed) for seed in range(6)}
    model = bound(text, layout)  # what ``run`` calls from here on
    barrier = threading.Barrier(32)

    def first(number: int) -> bool:
        barrier.wait()
        return run(number % 6) == alone[number % 6]

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(first, range(32)))


def test_the_check_can_fail():
    """A function with shared state is caught."""
    calls = iter(range(10**6))

    def shared(seed: int) -> bytes:
        return str(seed + next(calls)).encode()

    assert disagreements(shared, range(4)) == [0, 1, 2, 3]


FORK = """
import os, sys
sys.path[:0] = {path!r}
from test_threads import work
expected = [work(seed) for seed in range(7)]
child = os.fork()
if child == 0:
    os._exit(0 if [work(seed) for seed in range(7)] == expected else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_fork():
    """A child made by fork, of a process that has already computed, computes the same."""
    code = FORK.format(path=[p for p in sys.path if p])
    run = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "0"
