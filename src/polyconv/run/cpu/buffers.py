"""Memory for results.

The C library may return freed memory to the system at once (always above 32 MiB; above 128 KiB depending on what else
lies on its heap), and then every result pays for fresh pages: 3 to 4 times the cost of writing it. So results of some
size come from blocks that are used again once their last array is gone: a few, bounded in size. Blocks start on a cache
line, each at another place in its page: ``numpy.empty`` gives 16 bytes beyond one, which splits every vector store in
two, and in the same place as the input, so that loads wait for stores that only look alike.

How is it known that nobody sees a block any more? A result's base is the block, and so is that of its views; whoever
else looks at the memory (a memoryview, another library) holds one of these arrays. So a block is idle when the list of
blocks has the only reference to it, which is read from its reference count when memory is needed: nothing runs when an
array goes, and making one takes 0.5 us. The block handed out last is asked first: it is the one in the caches.

Very large blocks have a base that notices when the last array is gone, so that the system can be offered their pages.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_BYTES = 128 << 10  # where glibc may stop reusing; below, numpy.empty is used, which is 0.6 us faster
OFFER_BYTES = 32 << 20  # where giving pages back is worth its time
KEEP_BYTES = 256 << 20  # blocks, all together
KEEP_BLOCKS = 32
LINE, PLACES = 64, 13  # a block starts at one of so many places, 5 lines apart
_MADV_FREE = 8  # Linux: the pages may be taken back from now until they are written again

_Array = npt.NDArray[Any]
_Raw = npt.NDArray[np.uint8]
_Block = tuple[_Raw, int, int]  # the memory, where the block starts in it, and its bytes

_blocks: list[_Block] = []  # in use or idle, the one handed out last first
_offered: list[_Raw] = []  # idle and very large
_lock = threading.Lock()


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Array:
    """A new array, uninitialised, as ``numpy.empty`` gives; it may be memory used before.

    Example:
        >>> empty((2, 3), np.dtype("float32")).shape
        (2, 3)
    """
    return allocator(shape, dtype)()


def allocator(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[], _Array]:
    """What makes an array of this shape: to be asked once and called often."""
    size = math.prod(shape) * dtype.itemsize
    if size >= OFFER_BYTES and sys.platform.startswith("linux"):
        return functools.partial(_leased, shape, dtype, size)
    if not LEAST_BYTES <= size < min(OFFER_BYTES, KEEP_BYTES) or not _idle_count():
        return functools.partial(np.empty, shape, dtype)
    return functools.partial(_counted, shape, dtype, size, _idle_count())


def idle_bytes() -> int:
    """Bytes of the blocks kept for later."""
    with _lock:
        counted = sum(block[2] for block in _blocks if _first_idle([block], 0, sys.maxsize, _idle_count()) == 0)
        return counted + sum(block.nbytes for block in _offered)


# ---- blocks whose references are counted -----------------------------------------------------------------------------
def _counted(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, idle: int) -> _Array:
    """An array in the block handed out last, of those that are idle and hold it without wasting half of themselves."""
    if not _lock.acquire(blocking=False):  # busy, perhaps by this very thread
        memory, start, _ = _new_block(size)
        return np.ndarray(shape, dtype, memory, start)
    try:
        place = _first_idle(_blocks, size, 2 * size, idle)
        block = _blocks.pop(place) if place >= 0 else _new_block(size)
        _blocks.insert(0, block)
        if place < 0:
            while len(_blocks) > KEEP_BLOCKS or sum(one[2] for one in _blocks) > KEEP_BYTES:
                _blocks.pop()  # its memory goes with its last array
        return np.ndarray(shape, dtype, block[0], block[1])
    finally:
        _lock.release()


def _first_idle(
    blocks: Sequence[_Block], least: int, most: int, idle: int, count: Callable[[object], int] = sys.getrefcount
) -> int:
    """The place of the first idle block of such a size, or -1. ``idle`` is what is counted here for an idle block."""
    for place, (memory, _, size) in enumerate(blocks):
        if count(memory) <= idle and least <= size <= most:
            return place
    return -1


@functools.cache
def _idle_count() -> int:
    """How many references `_first_idle` counts for an idle block; 0 where counting does not tell (then none are kept).

    It differs between versions of Python. Where threads run Python at the same time a count may be read half-way.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0
    blocks = [_new_block(LINE)]
    found = next((count for count in range(1, 9) if _first_idle(blocks, 0, LINE, count) == 0), 0)
    array = np.ndarray((1,), np.uint8, blocks[0][0], 0)
    view = array[:]
    del array
    seen = _first_idle(blocks, 0, LINE, found) < 0
    del view
    return found if seen and _first_idle(blocks, 0, LINE, found) == 0 else 0


_made = itertools.count()


def _new_block(size: int) -> _Block:
    """A block that starts on a cache line, at another place in its page than the one before."""
    place = next(_made) % PLACES * 5 * LINE
    memory = np.empty(size + LINE + place, np.uint8)
    return memory, -memory.ctypes.data % LINE + place, size


# ---- very large blocks -----------------------------------------------------------------------------------------------
class _Lease:
    """A block while arrays use it: their base, so that it goes when the last of them (and of their views) goes."""

    __slots__ = ("__array_interface__", "block")

    def __init__(self, block: _Raw, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.block = block
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (block.ctypes.data, False),
        }

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending():
            _take_back(self.block)


def _leased(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> _Array:
    """An array in the smallest idle block that holds it without wasting half of itself, or in a new one."""
    with _lock:
        fitting = [block for block in _offered if size <= block.nbytes <= 2 * size]
        block = min(reversed(fitting), key=lambda one: one.nbytes, default=None)  # the latest of the smallest
        if block is not None:
            _offered[:] = [one for one in _offered if one is not block]
    if block is None:
        memory, start, _ = _new_block(size)
        block = memory[start : start + size]
    return np.asarray(_Lease(block, shape, dtype))


def _take_back(block: _Raw) -> None:
    """Keep a block for later, unless enough is kept; called from wherever the last reference goes."""
    if block.nbytes > KEEP_BYTES:
        return
    _offer(block)  # before anybody can find it
    if not _lock.acquire(blocking=False):  # busy, perhaps by this very thread: let it go
        return
    try:
        _offered.append(block)
        while len(_offered) > KEEP_BLOCKS or sum(one.nbytes for one in _offered) > KEEP_BYTES:
            _offered.pop(0)
    finally:
        _lock.release()


def _offer(block: _Raw) -> None:
    """Let the system have the pages if it needs them."""
    page = 4096
    begin = -(-block.ctypes.data // page) * page
    length = (block.ctypes.data + block.nbytes - begin) // page * page
    _madvise()(begin, length, _MADV_FREE)


@functools.cache
def _madvise() -> Any:
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
