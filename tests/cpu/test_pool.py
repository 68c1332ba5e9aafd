"""Calls of machine code in this process: results, phases, scratch, concurrency, floating-point state."""

import threading
import time
import tracemalloc

import numpy as np
import pytest

from cpu.kernels import ADD_ONE, REVERSE, TIMES_ONE, USES_SCRATCH
from polyconv.run.cpu import machine, pool, pool_code
from polyconv.run.cpu.target import host


def kernel(ir: str, name: str) -> int:
    return machine.load(ir, name, host(), "a test").address


@pytest.mark.parametrize(("threads", "chunk"), [(1, 1), (2, 1), (2, 7), (2, 500), (8, 3), (1, 1000), (2, 0)])
def test_every_item_is_done_once(threads, chunk):
    x, y = np.arange(997, dtype=np.float32), np.full(1000, -5, np.float32)
    call = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 997, chunk, threads)], [0, 0], arrays=(0, 1))
    call(x, y)
    assert np.array_equal(y[:997], x + 1)
    assert (y[997:] == -5).all()


def test_roused_workers_are_awake_and_nothing_else_changes():
    x, y = np.arange(28, dtype=np.float32), np.zeros(28, np.float32)
    call = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 28, 3, 2)], [x, y])
    call()
    runtime = pool._runtime()
    if not runtime.workers:
        pytest.skip("one thread is all there is")

    def parked(count):
        """Wait until so many workers sleep; False if that takes too long."""
        end = time.monotonic() + 10
        while runtime.word(pool_code.PARKED).value != count and time.monotonic() < end:
            time.sleep(1e-4)
        return time.monotonic() < end

    assert parked(len(runtime.workers))
    spins, runtime.word(pool_code.SPIN).value = runtime.word(pool_code.SPIN).value, 1 << 40
    try:
        pool.rouse(len(runtime.workers) + 1)
        assert parked(0)
        y[:] = 0
        call()
        assert np.array_equal(y, x + 1)
    finally:
        runtime.word(pool_code.SPIN).value = spins
    pool.rouse(1)


def test_workers_may_be_roused_at_any_time():
    x, y, over = np.arange(997, dtype=np.float32), np.zeros(1000, np.float32), threading.Event()

    def rouse():
        while not over.is_set():
            pool.rouse(4)

    call = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 997, 3, 4)], [0, 0], arrays=(0, 1))
    other = threading.Thread(target=rouse)
    other.start()
    try:
        for _ in range(300):
            y[:] = 0
            call(x, y)
            assert np.array_equal(y[:997], x + 1)
    finally:
        over.set()
        other.join()


def test_threads_have_equal_ranges_whatever_is_taken_at_a_time():
    x, y = np.arange(28, dtype=np.float32), np.zeros(28, np.float32)
    for _ in range(2):  # the first call may start the workers
        pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 28, 3, 2)], [x, y])()
    runtime = pool._runtime()
    ends = [runtime.word(pool_code.RANGE_TABLE + 128 * number + 8).value for number in (0, 1)]
    assert ends == ([14, 28] if runtime.workers else [28, ends[1]])
    assert np.array_equal(y, x + 1)


def test_no_items_and_no_phases_do_nothing():
    x = np.zeros(4, np.float32)
    pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 0, 1, 2)], [x, x])()
    pool.Call([], [x])()
    assert not x.any()


def test_an_array_in_words_stands_for_its_address_and_is_kept_alive():
    call = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 5)], [np.arange(5, dtype=np.float32), 0], arrays=(1,))
    y = np.zeros(5, np.float32)
    call(y)
    assert np.array_equal(y, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("view", [np.s_[3:], np.s_[:5], np.s_[1:4]])
def test_a_view_is_read_from_its_first_element(view):
    x, y = np.arange(9, dtype=np.float32)[view], np.zeros(3, np.float32)
    pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 3)], [0, 0], arrays=(0, 1))(x, y)
    assert np.array_equal(y, x[:3] + 1)


def test_data_pointers_are_found_without_the_shortcut(monkeypatch):
    """Where the array object's layout is not known, its address is asked for at each call."""
    monkeypatch.setattr(pool, "_handle", pool.address)
    runtime = pool._runtime()
    offset = runtime.word(pool.pool_code.OFFSET)
    before, offset.value = offset.value, -1
    try:
        test_a_view_is_read_from_its_first_element(np.s_[2:])
    finally:
        offset.value = before


def test_phases_wait_for_each_other():
    n = 5000
    phases = [pool.Phase(kernel(REVERSE, name), n, 7, 2) for name in ("reverse", "reverse_back")]
    call = pool.Call(phases, [0, 0, n, 0], arrays=(0, 3), workspace_bytes=4 * n, workspace_word=1)
    x = np.arange(n, dtype=np.float32)
    for _ in range(50):
        y = np.full(n, -1, np.float32)
        call(x, y)
        assert np.array_equal(y, x)


@pytest.mark.parametrize("words", [1, 100, 3000])
def test_threads_do_not_share_scratch(words):
    y = np.zeros(200, np.int64)
    phase = pool.Phase(kernel(USES_SCRATCH, "uses_scratch"), 200, 1, 2)
    call = pool.Call([phase], [0, words], arrays=(0,), scratch_bytes=8 * words)
    for _ in range(10):
        y[:] = -1
        call(y)
        assert np.array_equal(y, words * np.arange(200))


def test_scratch_and_workspace_are_aligned_and_apart():
    ir = """
    define void @where(ptr %args, i64 %first, i64 %last, ptr %scratch) {
      %w = load i64, ptr %args
      %p1 = getelementptr i64, ptr %args, i64 1
      %out = load ptr, ptr %p1
      store i64 %w, ptr %out
      %s = ptrtoint ptr %scratch to i64
      %p2 = getelementptr i64, ptr %out, i64 1
      store i64 %s, ptr %p2
      ret void
    }
    """
    out = np.zeros(2, np.int64)
    phase = pool.Phase(kernel(ir, "where"), 1)
    pool.Call([phase], [0, out], scratch_bytes=100, workspace_bytes=1000, workspace_word=0)()
    assert not (out % 64).any()
    assert out[1] - out[0] >= 1000


def test_32_threads_share_one_call():
    n = 3000
    add = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), n, 100, 2)], [0, 0], arrays=(0, 1))
    phase = pool.Phase(kernel(USES_SCRATCH, "uses_scratch"), 50, 1, 2)
    sums = pool.Call([phase], [0, 3000], arrays=(0,), scratch_bytes=24_000)
    wrong = []

    def work(seed: int) -> None:
        x = np.arange(n, dtype=np.float32) + seed
        for _ in range(60):
            y, z = np.zeros(n, np.float32), np.zeros(50, np.int64)
            add(x, y)
            sums(z)
            if not np.array_equal(y, x + 1) or not np.array_equal(z, 3000 * np.arange(50)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_zero_inside_and_kept_outside(threads):
    tiny = np.full(4000, 1e-40, np.float32)
    one = np.ones(1, np.float32).view(np.int32)[0]
    y = np.ones(4000, np.float32)
    call = pool.Call([pool.Phase(kernel(TIMES_ONE, "times_one"), 4000, 10, threads)], [tiny, 0, int(one)], arrays=(1,))
    for _ in range(20):
        y[:] = 1
        call(y)
        assert not y.any()
        assert (tiny * np.float32(1)).all()


def test_no_memory_is_an_error():
    call = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), 0)], [0, 0], scratch_bytes=1 << 60)
    with pytest.raises(MemoryError, match=f"{1 << 60} bytes of scratch and 0 bytes of workspace"):
        call()
    test_every_item_is_done_once(2, 7)


def test_memory_is_flat_over_many_calls():
    n = 64
    call = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), n)], [0, 0], arrays=(0, 1), hold_gil=True)
    shared = pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), n, 16, 2)], [0, 0], arrays=(0, 1), scratch_bytes=4096)
    x = np.zeros(n, np.float32)

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def many(count: int) -> None:
        for _ in range(count):
            call(x, np.empty(n, np.float32))
            shared(x, np.empty(n, np.float32))

    many(1000)
    tracemalloc.start()
    many(1000)
    first, _ = tracemalloc.get_traced_memory()
    many(2000)
    second, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    before = resident()
    many(50_000)
    assert abs(second - first) < 2000
    assert resident() - before < 1 << 20
