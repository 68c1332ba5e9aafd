"""Memory for results.

The C library may return freed memory to the system at once (always above 32 MiB; above 128 KiB depending on what else
lies on its heap), and then every result pays for fresh pages: 3 to 4 times the cost of writing it. So results of some
size come from blocks that are used again once their last array is gone: a few, bounded in size. Blocks start on a cache
line, each at another place in its page: ``numpy.empty`` gives 16 bytes beyond one, which splits every vector store in
two, and in the same place as the input, so that loads wait for stores that only look alike.

How is it known that nobody sees a block any more? A result's base is the block, and so is that of its views; whoever
else looks at the memory (a memoryview, another library) holds one of these arrays. So a block is idle when the list of
blocks has the only reference to it, which is read from its reference count when memory is needed: nothing runs when an
array goes, and making one takes 0.33 us (``numpy.empty``: 0.2), or 0.07 where machine code does it. The block handed
out last is asked first: it is the one in the caches.

Very large blocks have a base that notices when the last array is gone, so that the system can be offered their pages.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import struct
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LEAST_BYTES = 16 << 10  # numpy.empty below
SMALL_BYTES = 128 << 10  # from where on glibc may stop reusing
OFFER_BYTES = 32 << 20  # where giving pages back is worth its time
KEEP_BYTES = 256 << 20  # blocks, all together
KEEP_BLOCKS, KEEP_SMALL = 32, 4
NOTED, NOTE_BYTES = 4, 24  # blocks that machine code looks at, and the bytes about each
LINE, PLACES = 64, 13  # a block starts at one of so many places, 5 lines apart
_MADV_FREE = 8  # Linux: the pages may be taken back from now until they are written again

_BYTE = np.dtype(np.uint8)
_Array = npt.NDArray[Any]
_Raw = npt.NDArray[np.uint8]
_Block = tuple[_Raw, int, int, bytes]  # the memory, where the block starts in it, its bytes, and what is noted of it


class _Shelf(list[_Block]):
    """Blocks in use or idle: the one handed out last is the last.

    Machine code, which holds the interpreter lock, looks for an idle one too, among the `NOTED` latest
    (`polyconv.run.cpu.entry_code`): ``words`` say of each which array is its memory, where it starts, and its bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[_Block] = []  # what the words are about: there as long as they say so
        self.words = array("q", bytes(NOTED * NOTE_BYTES))
        self.noting = threading.Lock()

    @property
    def address(self) -> int:
        """Where the words are."""
        address: int = self.words.buffer_info()[0]
        return address

    def note(self, block: _Block, gone: Sequence[_Block] = ()) -> None:
        """This one was handed out last; those that are gone are forgotten."""
        if not self.noting.acquire(blocking=False):  # somebody notes another, perhaps this very thread, interrupted
            return
        try:
            others = [one for one in self.noted if one is not block and not any(one is other for other in gone)]
            noted = [block, *others[: NOTED - 1]]
            words = array("q", b"".join([one[3] for one in noted]).ljust(NOTED * NOTE_BYTES, b"\0"))
            self.noted = [*noted, *self.noted]  # an interrupt may come at any step, and no block may go too early
            self.words[:] = words
            self.noted = noted
        finally:
            self.noting.release()


_blocks, _small, _least = _Shelf(), _Shelf(), _Shelf()
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
    blocks, keep = (_small, KEEP_SMALL) if size < SMALL_BYTES else (_blocks, KEEP_BLOCKS)
    idle = _idle_count()
    latest = _maker(blocks, shape, dtype, size, idle, _nothing)
    return _maker(
        blocks, shape, dtype, size, idle, functools.partial(_search, blocks, keep, shape, dtype, size, latest)
    )


def is_numpys(allocate: Callable[[], _Array]) -> bool:
    """Is ``numpy.empty`` all that an ``allocator`` calls."""
    return isinstance(allocate, functools.partial) and allocate.func is np.empty


class Shared(NamedTuple):
    """Blocks that machine code may take from."""

    words: int  # address of what `_Shelf` says of them; 0 where there are none
    most: int  # bytes of a block that may be taken


def shared(size: int) -> Shared:
    """The blocks for arrays of so many bytes: below `LEAST_BYTES` a few that take any of these."""
    if not 0 < size < OFFER_BYTES or not _counts_are_plain():
        return Shared(0, 0)
    if size >= LEAST_BYTES:
        return Shared((_small if size < SMALL_BYTES else _blocks).address, 2 * size)
    with _lock:  # several threads may come first
        while len(_least) < NOTED:
            _least.append(_new_block(LEAST_BYTES))
            _least.note(_least[-1])
    return Shared(_least.address, LEAST_BYTES)


def idle_bytes() -> int:
    """Bytes of the blocks kept for later."""
    idle = _idle_count()
    known = [*_small, *_blocks]
    counted: int = sum(one[2] for one in known if _maker([one], (1,), _BYTE, one[2], idle, _nothing)() is not None)
    with _lock:
        return counted + sum(block.nbytes for block in _offered)


# ---- blocks whose references are counted -----------------------------------------------------------------------------
# Who looks at a block takes it off the list first, which is one step for all threads, and nobody else finds it then.
def _maker(
    blocks: list[_Block], shape: tuple[int, ...], dtype: np.dtype[Any], size: int, idle: int,
    otherwise: Callable[[], _Array | None], count: Callable[[object], int] = sys.getrefcount,
) -> Callable[[], Any]:  # fmt: skip
    """What makes an array in the block handed out last, if that is idle and not twice as large; or does ``otherwise``.

    ``idle`` is what ``count`` says of an idle block here.
    """
    take, give, array, most = blocks.pop, blocks.append, np.ndarray, 2 * size

    def make() -> Any:
        try:
            block = take()
        except IndexError:
            return otherwise()
        memory, start, room, _ = block
        if count(memory) <= idle and size <= room <= most:
            made = array(shape, dtype, memory, start)
            give(block)
            return made
        give(block)
        return otherwise()

    return make


def _search(
    blocks: _Shelf, keep: int, shape: tuple[int, ...], dtype: np.dtype[Any], size: int,
    latest: Callable[[], _Array | None],
) -> _Array:  # fmt: skip
    """An array in another block than the latest, or in a new one, which is the latest then."""
    passed: list[_Block] = []
    made = None
    while made is None:
        try:
            passed.append(blocks.pop())
        except IndexError:
            break
        made = latest()
    passed.reverse()
    if made is not None:
        place = max(len(blocks) - 1, 0)
        blocks[place:place] = passed
        if not any(one[0] is made.base for one in blocks.noted):
            for block in tuple(blocks):
                if block[0] is made.base:
                    blocks.note(block)
        return made
    memory, start, *_ = block = _new_block(size)
    blocks += [*passed, block]
    gone = []
    while len(blocks) > keep or (size >= SMALL_BYTES and sum(one[2] for one in blocks) > KEEP_BYTES):
        gone.append(blocks.pop(0))  # its memory goes with its last array
    blocks.note(block, gone)
    return np.ndarray(shape, dtype, memory, start)


def _nothing() -> None:
    return None


@functools.cache
def _idle_count() -> int:
    """How many references `_maker` counts for an idle block; 0 where counting does not tell (then none are kept).

    It differs between versions of Python. Where threads run Python at the same time a count may be read half-way.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0
    blocks = [_new_block(LINE)]
    for idle in range(1, 9):
        make = _maker(blocks, (1,), _BYTE, LINE, idle, _nothing)
        array = make()
        if array is None:
            continue
        view = array[:]
        del array
        seen = make() is None
        del view
        return idle if seen and make() is not None else 0
    return 0


@functools.cache
def _counts_are_plain() -> bool:
    """Is an object's count of references, less what a call of `sys.getrefcount` adds, where machine code reads it."""
    if not _idle_count() or sys.byteorder != "little":
        return False
    one, more = np.empty(1, np.uint8), []
    for _ in range(3):
        if ctypes.c_int32.from_address(id(one)).value != sys.getrefcount(one) - 1:
            return False
        more.append(one)
    return True


_made = itertools.count()


def _new_block(size: int) -> _Block:
    """A block that starts on a cache line, at another place in its page than the one before."""
    place = next(_made) % PLACES * 5 * LINE
    memory = np.empty(size + LINE + place, np.uint8)
    begin = memory.ctypes.data
    start = -begin % LINE + place
    return memory, start, size, struct.pack("qqq", id(memory), begin + start, size)


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
        memory, start, *_ = _new_block(size)
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
    for shelf in (_blocks, _small, _least):
        shelf.noting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
