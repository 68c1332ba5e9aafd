"""Memory for results.

Up to 32 MiB the C library hands freed memory out again and ``numpy.empty`` costs no more than reuse. Above that it
returns memory to the system at once, and every result pays for fresh pages: 3 to 4 times the cost of writing it. So
large results come from blocks that are kept after their last array is gone: a few, bounded in size, and marked so that
the system may take their pages back whenever it is short of memory.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE_BYTES = 32 << 20  # where glibc stops reusing
KEEP_BYTES = 256 << 20  # idle blocks, all together
KEEP_BLOCKS = 4
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
    return np.empty(size, np.uint8)


def _take_back(block: _Raw) -> None:
    """Keep a block for later, unless enough is kept; called from wherever the last reference goes."""
    if block.nbytes > KEEP_BYTES:
        return
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
