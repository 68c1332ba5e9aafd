"""Memory for results.

The C library may return freed memory to the system at once (always above 32 MiB; above 128 KiB depending on what else
lies on its heap), and then every result pays for fresh pages: 3 to 4 times the cost of writing it. So results of some
size come from blocks that are kept after their last array is gone: a few, bounded in size, and the large ones marked so
that the system may take their pages back whenever it is short of memory. Blocks start on a cache line, each at another
place in its page: ``numpy.empty`` gives 16 bytes beyond one, which splits every vector store in two, and in the same
place as the input, so that loads wait for stores that only look alike.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE_BYTES = 128 << 10  # where glibc may stop reusing
OFFER_BYTES = 32 << 20  # where giving pages back is worth its time
KEEP_BYTES = 256 << 20  # idle blocks, all together
KEEP_BLOCKS = 32
LINE, PLACES = 64, 13  # a block starts at one of so many places, 5 lines apart
_MADV_FREE = 8  # Linux: the pages may be taken back from now until they are written again

_Raw = npt.NDArray[np.uint8]
_idle: list[_Raw] = []
_lock = threading.Lock()


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


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A new array, uninitialised, as ``numpy.empty`` gives; a large one may be memory used before.

    Example:
        >>> empty((2, 3), np.dtype("float32")).shape
        (2, 3)
    """
    if allocator(shape, dtype) is not empty:
        return np.empty(shape, dtype)
    return np.asarray(_Lease(_find(math.prod(shape) * dtype.itemsize), shape, dtype))


def allocator(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[tuple[int, ...], Any], npt.NDArray[Any]]:
    """``numpy.empty`` or ``empty``, whichever suits a result of this size: to be asked once and called often."""
    large = math.prod(shape) * dtype.itemsize >= LARGE_BYTES and sys.platform.startswith("linux")
    return empty if large else np.empty


def idle_bytes() -> int:
    """Bytes of the blocks kept for later."""
    with _lock:
        return sum(block.nbytes for block in _idle)


def _find(size: int) -> _Raw:
    """The smallest idle block that holds the size without wasting half of itself, or a new one."""
    with _lock:
        fitting = [block for block in _idle if size <= block.nbytes <= 2 * size]
        if fitting:
            block = min(fitting, key=lambda one: one.nbytes)
            _idle[:] = [one for one in _idle if one is not block]
            return block
    return _new_block(size)


_made = itertools.count()


def _new_block(size: int) -> _Raw:
    """A block that starts on a cache line, at another place in its page than the one before."""
    place = next(_made) % PLACES * 5 * LINE
    whole = np.empty(size + LINE + place, np.uint8)
    start = -whole.ctypes.data % LINE + place
    return whole[start : start + size]


def _take_back(block: _Raw) -> None:
    """Keep a block for later, unless enough is kept; called from wherever the last reference goes."""
    if block.nbytes > KEEP_BYTES:
        return
    if block.nbytes >= OFFER_BYTES:
        _offer(block)  # before anybody can find it
    if not _lock.acquire(blocking=False):  # busy, perhaps by this very thread: let it go
        return
    try:
        _idle.append(block)
        while len(_idle) > KEEP_BLOCKS or sum(one.nbytes for one in _idle) > KEEP_BYTES:
            _idle.pop(0)
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
