"""Calls of machine code: results, concurrency, fork, exit, idling, floating-point state."""

import numpy as np
import pytest

from cpu.kernels import ADD_ONE
from polyconv.run.cpu import machine, pool
from polyconv.run.cpu.target import host


@pytest.fixture(scope="module")
def add_one() -> int:
    return machine.load(ADD_ONE, "add_one", host(), "a test").address


@pytest.mark.parametrize(("threads", "chunk"), [(1, 1), (2, 1), (2, 7), (2, 500), (8, 3), (1, 1000)])
def test_every_item_is_done_once(add_one, threads, chunk):
    x, y = np.arange(997, dtype=np.float32), np.full(1000, -5, np.float32)
    pool.Call([pool.Phase(add_one, 997, chunk, threads)], [0, 0], arrays=(0, 1))(x, y)
    assert np.array_equal(y[:997], x + 1)
    assert (y[997:] == -5).all()
