"""Memory of large results: used again only when nobody can see it, and bounded."""

import gc
import pickle
import sys
import threading

import numpy as np
import pytest

from polyconv.run.cpu import buffers

DTYPE = np.dtype("float32")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere numpy.empty is used")


@pytest.fixture(autouse=True)
def small_scale(monkeypatch):
    monkeypatch.setattr(buffers, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(buffers, "KEEP_BYTES", 8 << 20)
    buffers._idle.clear()
    yield
    buffers._idle.clear()


def address(array):
    return array.__array_interface__["data"][0]


def test_small_results_are_plain_arrays():
    assert buffers.empty((3, 4), DTYPE).flags.owndata


def test_a_large_result_is_an_ordinary_array():
    y = buffers.empty((3, 1 << 19), np.dtype("float64"))
    y[:] = 1
    assert type(y) is np.ndarray
    assert y.flags.c_contiguous
    assert y.flags.writeable
    assert y.flags.aligned
    assert y.shape == (3, 1 << 19)
    assert np.array_equal(pickle.loads(pickle.dumps(y[:, :4])), np.ones((3, 4)))


@pytest.mark.parametrize(
    "keep", [lambda y: y[3:], lambda y: y.T[::2].reshape(-1), memoryview, lambda y: y.view(np.int32)]
)
def test_memory_in_sight_is_never_given_again(keep):
    y = buffers.empty((1 << 19,), DTYPE)
    y[:] = 7
    seen = keep(y)
    before = bytes(np.ascontiguousarray(seen)[:64])
    at = address(y)
    del y
    gc.collect()
    z = buffers.empty((1 << 19,), DTYPE)
    z[:] = 8
    shared = isinstance(seen, memoryview) or seen.base is not None
    assert not shared or address(z) != at
    assert bytes(np.ascontiguousarray(seen)[:64]) == before


def test_memory_out_of_sight_is_given_again():
    y = buffers.empty((1 << 19,), DTYPE)
    at = address(y)
    del y
    assert buffers.idle_bytes() == 2 << 20
    z = buffers.empty((1 << 18, 1), np.dtype("float64"))
    assert address(z) == at
    assert buffers.idle_bytes() == 0


def test_a_far_too_large_block_is_not_used():
    y = buffers.empty((1 << 20,), DTYPE)
    at = address(y)
    del y
    assert address(buffers.empty((1 << 18,), DTYPE)) != at


def test_idle_memory_is_bounded():
    held = [buffers.empty(((1 << 18) * count,), DTYPE) for count in (1, 2, 3, 4, 5, 6, 7, 9)]
    held.clear()
    assert 0 < buffers.idle_bytes() <= 8 << 20
    assert len(buffers._idle) <= buffers.KEEP_BLOCKS


def test_many_threads():
    wrong = []

    def work(number):
        for _ in range(100):
            y = buffers.empty((1 << 18,), DTYPE)
            y[:] = number
            if not (y == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert buffers.idle_bytes() <= 8 << 20
