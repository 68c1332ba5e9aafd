"""Calling kernels: the thread pool, and calls prepared so that each costs one foreign call with one pointer.

The pool itself is generated code (``pool_code``). Its workers are daemon threads of Python which enter it once, without
the interpreter lock, and stay. They start at the first call that has work for several threads.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import signal
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from polyconv.run.cpu import cores, entry_code, machine, pool_code
from polyconv.run.cpu.target import native

Array = npt.NDArray[Any]

PARALLEL = 6  # where the header says that a phase is for several threads
_INTEGERS = frozenset((int,))
SPIN_SECONDS = 200e-6  # how long an idle worker looks for work before it sleeps


class Phase(NamedTuple):
    """One kernel over its items. Phases of a call run one after another, all items of one before the next.

    ``kernel`` is the address of ``void kernel(i64 *args, i64 first, i64 last, i8 *scratch)``; threads take ``chunk``
    consecutive items at a time.
    """

    kernel: int
    items: int
    chunk: int = 1
    threads: int = 1


class Call:
    """A call of machine code with everything but its arrays fixed; safe to use from many threads at once.

    Args:
        phases: what to run, in order: see `Phase`.
        words: the 64-bit arguments, shared by all phases. An array stands for the address of its first element and is
            kept alive.
        keep: what else the words point into, kept alive.
        arrays: which of the words are filled in at each call, with the data pointers of the arrays given then.
        scratch_bytes: scratch of each thread, aligned to 64 bytes.
        workspace_bytes: size of one block shared by all threads and phases, aligned to 64 bytes.
        workspace_word: the argument that receives its address.
        hold_gil: keep the interpreter lock, for work of a few microseconds, where handing it over costs more.

    Example:
        >>> from polyconv.run.cpu.pool import Call, Phase
        >>> call = Call([], [0, 0], arrays=(0, 1))
        >>> call(np.zeros(3), np.zeros(3))
    """

    __slots__ = ("_blocks", "_enter", "_keep", "arrays", "block", "first_array", "holds", "phases")

    def __init__(
        self,
        phases: Sequence[tuple[int, int, int, int]],
        words: Sequence[int | Array],
        *,
        arrays: Sequence[int] = (),
        keep: Sequence[object] = (),
        scratch_bytes: int = 0,
        workspace_bytes: int = 0,
        workspace_word: int = -1,
        hold_gil: bool = False,
    ) -> None:
        runtime = _the_runtime or _runtime()
        self.phases, self.arrays = phases, arrays
        self.holds, self._enter = hold_gil, runtime.call_holding if hold_gil else runtime.call
        self.first_array = first_array = pool_code.HEADER_WORDS + pool_code.PHASE_WORDS * len(phases)
        first_word = first_array + pool_code.ARRAY_WORDS * len(arrays)
        place = workspace_word if workspace_bytes else -1
        template = [rounded(scratch_bytes), workspace_bytes, place, len(phases), len(arrays), first_word, 0, 0]
        for kernel, items, chunk, threads in phases:
            each = chunk if chunk > 1 else 1
            if threads > 1 and items > each:
                template[PARALLEL] = 1
            template += (kernel, items, each, threads)
        for index in arrays:
            template += (0, index)
        self._keep: Any = keep
        if not _INTEGERS.issuperset(map(type, words)):
            self._keep = (keep, *words)
            words = list(map(_number, words))
        template += words  # type: ignore[arg-type]  # all are integers now
        self.block = template
        block = array("q", template)
        self._blocks = [(block, block.buffer_info()[0])]

    def __call__(self, *arrays: Array) -> None:
        """Run the phases on these arrays (``numpy.ndarray`` or a subclass: anything else is undefined behaviour).

        Raises:
            MemoryError: no memory for scratch or workspace.
        """
        try:
            pair = self._blocks.pop()  # a block belongs to one caller at a time
        except IndexError:
            pair = self._new_block()
        block, at = pair
        word = self.first_array
        for one in arrays:
            block[word] = _handle(one)
            word += 2
        status = self._enter(at)
        if status:
            self._not_done(status, at)
        self._blocks.append(pair)

    def _new_block(self) -> tuple[array[int], int]:
        block = array("q", self.block)
        return block, block.buffer_info()[0]

    def _not_done(self, status: int, at: int) -> None:
        """Start the pool and try again, or say that memory is short."""
        if status == pool_code.NO_WORKERS:
            _runtime().start_workers()
            status = self._enter(at)
        if status == pool_code.NO_MEMORY:
            scratch, workspace = self.block[:2]
            raise MemoryError(f"no memory for {scratch} bytes of scratch and {workspace} bytes of workspace.")


def run(
    function: machine.Function,
    words: Sequence[int | Array],
    items: int,
    *,
    threads: int = 1,
    chunk: int = 1,
    scratch_bytes: int = 0,
) -> list[int]:
    """Run one kernel once and return its argument words as it left them; for tests and study (see ``Call``)."""
    call = Call([Phase(function.address, items, chunk, threads)], words, scratch_bytes=scratch_bytes)
    call()
    block = call._blocks[-1][0]
    return list(block[len(block) - len(words) :])


def threads() -> int:
    """Threads a call may use, the caller's included."""
    return _threads()


def rouse(threads: int) -> None:
    """Say that a call on so many threads will follow within ``SPIN_SECONDS``: workers that sleep wake up meanwhile.

    It starts none, and changes nothing about any call but how long its workers take to join.
    """
    if _the_runtime is not None:
        _the_runtime.rouse(threads - 1)


def _number(word: int | Array) -> int:
    return address(word) if isinstance(word, np.ndarray) else int(word)


def address(one: Array) -> int:
    """Address of an array's first element."""
    return int(one.__array_interface__["data"][0])


class _Runtime:
    """The pool's generated code in this process, and its workers."""

    def __init__(self) -> None:
        target = native()
        ir = f"{pool_code.pool_ir(target)}\n{entry_code.entry_ir()}"
        code = machine.load_all(ir, (*pool_code.SYMBOLS, *entry_code.SYMBOLS), target, "the thread pool")
        self.symbols = symbols = {name: function.address for name, function in code.items()}
        self.pool = symbols["polyconv_pool"]
        self.call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(symbols["polyconv_call"])
        self.call_holding = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(symbols["polyconv_call"])
        self.work = ctypes.CFUNCTYPE(None, ctypes.c_int64)(symbols["polyconv_worker"])
        self.rouse = ctypes.PYFUNCTYPE(None, ctypes.c_int64)(symbols["polyconv_rouse"])
        self.stop = ctypes.CFUNCTYPE(ctypes.c_int64)(symbols["polyconv_stop"])
        self.reset = ctypes.PYFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(symbols["polyconv_reset"])
        self.spin = ctypes.CFUNCTYPE(None, ctypes.c_int64)(symbols["polyconv_spin"])
        self.spins = 0
        self.start_lock = threading.Lock()
        self.workers: list[threading.Thread] = []
        self.reset(self.spins, DATA_OFFSET)
        atexit.register(self.shut_down)

    def word(self, offset: int) -> ctypes.c_int64:
        """A word of the pool's memory."""
        return ctypes.c_int64.from_address(self.pool + offset)

    def start_workers(self) -> None:
        """Start the pool's threads; where none can be started, calls run on their caller alone."""
        with self.start_lock:
            if self.word(pool_code.WORKERS).value or self.word(pool_code.CLOSED).value:
                return
            self.word(pool_code.SPIN).value = self._spins()
            started = []
            for index in range(_threads() - 1):
                worker = threading.Thread(target=self._live, args=(index,), name=f"polyconv-{index}", daemon=True)
                try:
                    worker.start()
                except RuntimeError:  # no more threads, or the interpreter is ending
                    break
                started.append(worker)
            self.workers = started
            self.word(pool_code.WORKERS).value = len(started)
            if not started:
                self.word(pool_code.CLOSED).value = 1

    def _spins(self) -> int:
        """How many pauses last ``SPIN_SECONDS``."""
        if not self.spins:
            self.spin(100)
            best = 1.0
            for _ in range(3):
                begin = time.perf_counter()
                self.spin(1000)
                best = min(best, time.perf_counter() - begin)
            self.spins = max(1, int(SPIN_SECONDS / (best / 1000)))
        return self.spins

    def _live(self, index: int) -> None:
        """A worker's thread: signals are for others, and nothing of Python runs here until the pool stops."""
        with contextlib.suppress(AttributeError, OSError, ValueError):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.work(index)

    def shut_down(self) -> None:
        """Let the workers go before the interpreter ends."""
        deadline = time.monotonic() + 1.0
        while self.workers and not self.stop():
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)
        for worker in self.workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self.workers = []

    def after_fork(self) -> None:
        """In the child there are no workers, and what other threads held is free."""
        self.start_lock = threading.Lock()
        self.workers = []
        self.reset(0, DATA_OFFSET)


def rounded(size: int) -> int:
    """Bytes that scratch or workspace of this size takes."""
    return -(-size // pool_code.ROUNDED) * pool_code.ROUNDED


@functools.cache
def _threads() -> int:
    return cores.threads_allowed()


def _find_data_offset() -> int:
    """Where an array object holds its data pointer; -1 where that cannot be told (then it is asked each time)."""
    offset = object.__basicsize__
    base = np.arange(24.0).reshape(2, 3, 4)
    samples = [base, base[1:, 1:, ::2], base[::-1], np.empty(0, np.float32), np.ones((), np.float64)]
    for sample in samples:
        if np.ndarray.__basicsize__ < offset + 8 or ctypes.sizeof(ctypes.c_void_p) != 8:
            return -1
        if ctypes.c_int64.from_address(id(sample) + offset).value != address(sample):
            return -1
    return offset


DATA_OFFSET = _find_data_offset()
_handle: Callable[[Array], int] = id if DATA_OFFSET >= 0 else address  # what a call block holds for an array
_the_runtime: _Runtime | None = None


def _runtime() -> _Runtime:
    """The pool's code, made at the first use."""
    global _the_runtime
    if _the_runtime is None:
        with machine.LOCK:
            if _the_runtime is None:
                _the_runtime = _Runtime()
    return _the_runtime


def symbols() -> dict[str, int]:
    """Where the functions and tables of the pool's module are."""
    return (_the_runtime or _runtime()).symbols


def _after_fork() -> None:
    _threads.cache_clear()
    if _the_runtime is not None:
        _the_runtime.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
