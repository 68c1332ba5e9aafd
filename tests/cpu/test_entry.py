"""Calls as functions of the interpreter: what they take and refuse, whose memory they give, and what they let go."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest

import polyconv as pc
from cpu.crowd import crowd
from cpu.kernels import ADD_ONE
from cpu.process import run
from polyconv.run.cpu import buffers, entry, entry_code, machine, pool
from polyconv.run.cpu.target import host

DTYPE = np.dtype("float32")
SHAPES = [(5,), (3, 400), (64, 1 << 10), (1 << 20,)]  # of the least, small and large blocks
pytestmark = pytest.mark.skipif(entry._entries() is None, reason="this interpreter or NumPy is not known")


@pytest.fixture(autouse=True, scope="module")
def workers():
    """A call that needs workers before there are any goes to ``otherwise``, which starts them."""
    pool._runtime().start_workers()


def refuse(x):
    raise LookupError(x)


def add_one(shape, otherwise=refuse, *, settled=True, threads=1, hold_gil=True, allocate=None):
    function = machine.load(ADD_ONE, "add_one", host(), "a test")
    items = int(np.prod(shape))
    phase = pool.Phase(function.address, items, max(1, items // 7), threads)
    call = pool.Call([phase], [0, 0], arrays=(0, 1), hold_gil=hold_gil)
    run = entry.IntoNew(call, shape, shape, DTYPE, allocate or buffers.allocator(shape, DTYPE), otherwise)
    return entry.settled(run) if settled else run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hold_gil", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_result_is_an_ordinary_new_array(shape, hold_gil, threads):
    run = add_one(shape, threads=threads, hold_gil=hold_gil)
    assert type(run).__name__ == "builtin_function_or_method"
    x = np.arange(np.prod(shape), dtype=DTYPE).reshape(shape)
    for _ in range(3):
        y = run(x)
        assert type(y) is np.ndarray
        assert y.flags.carray
        assert y.dtype is DTYPE
        assert y.shape == shape
        assert np.array_equal(y, x + 1)


def test_read_only_input_is_taken():
    x = np.zeros(5, DTYPE)
    x.flags.writeable = False
    assert np.array_equal(add_one((5,))(x), np.ones(5))


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize(
    "other",
    [
        np.zeros(6, DTYPE), np.zeros((5, 1), DTYPE), np.zeros((), DTYPE), np.zeros(5), np.zeros(10, DTYPE)[::2],
        np.zeros(21, np.uint8)[1:].view(DTYPE), np.zeros(5, ">f4"), np.zeros(5, DTYPE).view(Sub), [0.0] * 5, None, 7,
        np.float32(0), np.ndarray,
    ],
    ids=lambda other: f"{type(other).__name__}{getattr(other, 'shape', '')}",
)  # fmt: skip
def test_what_it_is_not_for_goes_elsewhere(other):
    run = add_one((5,), otherwise=lambda x: ("other", x))
    assert run(other)[0] == "other"
    assert run(other)[1] is other
    assert entry.attempt(run)(other) is None
    if type(other) is np.ndarray:
        assert add_one((5,), otherwise=lambda x: ("other", x), settled=False)(other)[1] is other
    with pytest.raises(LookupError):
        add_one((5,))(other)


def test_an_attempt_is_the_same_call():
    attempt = entry.attempt(add_one((5,)))
    assert np.array_equal(attempt(np.zeros(5, DTYPE)), np.ones(5))
    assert entry.attempt(lambda x: x) is None
    assert entry.attempt(len) is None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keep", [lambda y: y, lambda y: y[1:], memoryview, lambda y: y.view(np.int32).T])
def test_memory_in_sight_is_never_given_again(shape, keep):
    run = add_one(shape)
    zeros = np.zeros(shape, DTYPE)
    held = []
    for number in range(2 * buffers.NOTED + 1):
        y = run(zeros + number)
        held.append(keep(y))
        del y
        gc.collect()
    for number, seen in enumerate(held):
        assert (np.asarray(seen).view(DTYPE) == number + 1).all()
    assert buffers.empty(shape, DTYPE) is not None  # by Python, from the same blocks
    del held, seen
    assert len({run(zeros).__array_interface__["data"][0] for _ in range(5)}) == 1


def test_results_that_alternate_go_around_two_blocks():
    """In a network a layer's input is the result before."""
    run, x, seen = add_one((64, 1 << 10)), np.zeros((64, 1 << 10), DTYPE), set()
    for number in range(20):
        x = run(x)
        assert (x == number + 1).all()
        seen.add(x.__array_interface__["data"][0])
    assert len(seen) == 2


def test_small_results_start_on_a_cache_line():
    run = add_one((5,))
    held = [run(np.zeros(5, DTYPE)) for _ in range(buffers.NOTED)]
    assert {y.__array_interface__["data"][0] % buffers.LINE for y in held} == {0}


@pytest.mark.parametrize("shape", SHAPES)
def test_references_are_given_back(shape):
    run = add_one(shape, otherwise=lambda x: x)
    attempt, x, other = entry.attempt(run), np.zeros(shape, DTYPE), np.zeros(3)
    watched = [x, other, DTYPE, None, run.__self__, run.__self__.keep]
    run(x)
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(1000):
        run(x), run(other), attempt(x), attempt(other)
    after = [sys.getrefcount(one) for one in watched]
    assert all(abs(a - b) < 100 for a, b in zip(before, after, strict=True)), (before, after)


def test_what_a_call_needs_lives_as_long_as_its_function():
    class Otherwise:
        def __call__(self, x):
            return "still here"

    otherwise = Otherwise()
    run = add_one((5,), otherwise=otherwise)
    gone = weakref.ref(otherwise)
    attempt = entry.attempt(run)
    del otherwise
    gc.collect()
    assert run(3) == "still here"
    del run
    gc.collect()
    assert gone() is not None
    assert np.array_equal(attempt(np.zeros(5, DTYPE)), np.ones(5))
    del attempt
    gc.collect()
    assert gone() is None


def test_an_error_of_the_allocator_is_the_callers():
    def none_left():
        raise MemoryError("none left")

    with pytest.raises(MemoryError, match="none left"):
        add_one((1 << 23,), allocate=none_left)(np.zeros(1 << 23, DTYPE))


def test_many_threads_share_one_function():
    run, wrong = add_one((64, 64), hold_gil=False, threads=2), []

    def work(number):
        x = np.full((64, 64), number, DTYPE)
        for _ in range(2000):
            y = run(x)
            if not (y == number + 1).all():
                wrong.append(number)

    crowd(work)
    assert not wrong


def test_other_threads_run_while_a_call_without_the_lock_does():
    """One that spins until Python, on another thread, lets it go."""
    ir = """
    define void @until(ptr %args, i64 %first, i64 %last, ptr %scratch) {
    entry:
      %x = load ptr, ptr %args
      br label %wait
    wait:
      %go = load atomic i32, ptr %x seq_cst, align 4
      %still = icmp eq i32 %go, 0
      br i1 %still, label %wait, label %done
    done:
      ret void
    }
    """
    function = machine.load(ir, "until", host(), "a test")
    call = pool.Call([pool.Phase(function.address, 1)], [0, 0], arrays=(0, 1))
    run = entry.IntoNew(call, (1,), (1,), DTYPE, buffers.allocator((1,), DTYPE), refuse).made()
    x = np.zeros(1, DTYPE)
    timer = threading.Timer(0.05, lambda: x.fill(1))
    timer.start()
    assert run(x).shape == (1,)
    timer.join()


def test_a_model_meets_several_shapes_in_turn():
    net = pc.network("conv 3x3 4 same relu | conv 1x1 3")
    weights = net.weights(in_channels=2)
    model = net.bind(weights)
    inputs = [np.random.default_rng(n).standard_normal((1, 2, 5 + n, 7)).astype(DTYPE) for n in range(3)]
    expected = [net.bind(weights)(x) for x in inputs]
    for _ in range(3):
        for x, y in zip(inputs, expected, strict=True):
            assert np.array_equal(model(x), y)
            assert np.array_equal(model(x), y)
            wide = np.zeros((*x.shape[:-1], 14), DTYPE)[..., ::2]
            wide[...] = x
            assert np.array_equal(model(wide), y)
    with pytest.raises(ValueError, match="channels"):
        model(np.zeros((1, 3, 5, 7), DTYPE))
    with pytest.raises(TypeError, match="float64"):
        model(inputs[0].astype("float64"))


def test_where_arrays_are_not_as_expected_python_makes_the_call(monkeypatch):
    monkeypatch.setattr(entry_code, "NDIM", 25)
    assert not entry._as_expected()
    monkeypatch.setattr(entry, "_entries", lambda: None)
    run = add_one((5,))
    assert type(run) is entry.IntoNew
    assert np.array_equal(run(np.zeros(5, DTYPE)), np.ones(5))
    assert entry.attempt(run) is None
    with pytest.raises(LookupError):
        run(np.zeros(10, DTYPE)[::2])


@pytest.mark.parametrize("attempt", range(3))
def test_many_threads_may_come_first(attempt):
    """What is made once a process is made by several then, and what functions of either refer to must stay."""
    run(
        """
        import polyconv as pc
        sys.setswitchinterval(1e-6)
        nets = [pc.network(f"conv 1x1 {n} nobias") for n in range(1, 9)]
        models = [net.bind(net.weights(in_channels=4), layout="channels_last") for net in nets]
        x, start, done = np.ones((1, 4, 4, 4), np.float32), threading.Barrier(8), []
        firsts = [model(x) for model in models]  # the second calls make the functions, all at once
        def work(model, first):
            start.wait()
            for _ in range(3000):
                assert np.array_equal(model(x), first)
            done.append(model)
        threads = [threading.Thread(target=work, args=pair) for pair in zip(models, firsts)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(done) == 8
        """
    )
