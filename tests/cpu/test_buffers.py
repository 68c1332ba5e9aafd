"""Memory of large results: used again only when nobody can see it, and bounded."""

import gc
import pickle
import sys

import numpy as np
import pytest

from cpu.crowd import crowd
from polyconv.run.cpu import buffers

DTYPE = np.dtype("float32")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere numpy.empty is used")


@pytest.fixture(autouse=True, params=["counted", "offered"])
def small_scale(request, monkeypatch):
    """Both kinds of blocks, at a small size."""
    monkeypatch.setattr(buffers, "OFFER_BYTES", 1 << 40 if request.param == "counted" else 1 << 20)
    monkeypatch.setattr(buffers, "LEAST_BYTES", 1 << 10)
    monkeypatch.setattr(buffers, "SMALL_BYTES", 1 << 17)
    monkeypatch.setattr(buffers, "KEEP_BYTES", 8 << 20)
    monkeypatch.setattr(buffers, "_blocks", buffers._Shelf())
    monkeypatch.setattr(buffers, "_small", buffers._Shelf())
    monkeypatch.setattr(buffers, "_offered", [])
    return request.param


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
    assert len(buffers._blocks) + len(buffers._offered) <= buffers.KEEP_BLOCKS


def test_the_block_handed_out_last_is_asked_first():
    """It is the one in the caches: a loop that keeps its last result goes around two blocks, not all of them."""
    held = [buffers.empty((1 << 18,), DTYPE) for _ in range(5)]
    held.clear()
    y, seen = None, set()
    for _ in range(6):
        y = buffers.empty((1 << 18,), DTYPE)
        seen.add(address(y))
    assert len(seen) == 2
    del y
    assert len({address(buffers.empty((1 << 18,), DTYPE)) for _ in range(6)}) == 1


def test_results_start_on_a_cache_line():
    held = [buffers.empty((1 << 18,), DTYPE) for _ in range(5)]
    assert {address(y) % buffers.LINE for y in held} == {0}
    assert len({address(y) % 4096 for y in held}) > 1


@pytest.mark.parametrize("size", [1 << 9, 1 << 16])
def test_held_results_make_no_long_list(size):
    held = [buffers.empty((size,), DTYPE) for _ in range(3 * buffers.KEEP_BLOCKS)]
    assert len({address(y) for y in held}) == len(held)
    assert len(buffers._blocks) <= buffers.KEEP_BLOCKS
    assert len(buffers._small) <= buffers.KEEP_SMALL
    at = address(held[-2])
    del held[-2]
    assert address(buffers.empty((size,), DTYPE)) == at


def test_where_counting_does_not_tell_numpy_allocates(monkeypatch):
    """As on a Python whose counts say nothing: the probe must fail there."""
    monkeypatch.setattr(buffers._maker, "__defaults__", (lambda _: 1,))
    assert buffers._idle_count.__wrapped__() == 0
    monkeypatch.setattr(buffers, "_idle_count", lambda: 0)
    assert buffers.empty((1 << 9,), DTYPE).flags.owndata


def test_a_block_that_is_looked_at_is_nobody_elses(monkeypatch):
    """A finaliser, or another thread, may ask for memory while somebody looks for some."""
    first = buffers.empty((1 << 9,), DTYPE)
    if not buffers._small:
        pytest.skip("such blocks are not counted here")
    del first
    asked = []

    def meanwhile(one, count=sys.getrefcount):
        if not asked:
            asked.append(None)
            asked[0] = buffers.empty((1 << 9,), DTYPE)
        return count(one) - 1  # the name ``one`` is another reference

    idle = buffers._idle_count()
    make = buffers._maker(buffers._small, (1 << 9,), DTYPE, 1 << 11, idle, lambda: None, meanwhile)
    mine = make()
    assert mine is not None
    assert address(mine) != address(asked[0])


@pytest.mark.parametrize("size", [1 << 9, 1 << 18])
def test_many_threads(size):
    wrong = []

    def work(number):
        for _ in range(100 if size > 1 << 9 else 3000):
            y = buffers.empty((size,), DTYPE)
            y[:] = number
            if not (y == number).all():
                wrong.append(number)

    crowd(work)
    assert not wrong
    assert buffers.idle_bytes() <= 16 << 20  # one in use for each thread, one in its hands while it looks
