"""The pool in the life of a process: fork, exit, Ctrl-C, idling, limits on threads."""

import signal
import sys
import time

import pytest

from cpu.process import run, start

FORKS = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")

CHILD = """
def check_with_workers(call):
    check(call)
    runtime = pool._runtime()
    assert runtime.word(pool.pool_code.WORKERS).value == len(runtime.workers) == 2
    assert all(worker.is_alive() for worker in runtime.workers)
    assert runtime.word(pool.pool_code.BUSY).value == 0
def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, status
            return
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    raise SystemExit("the child hangs")
"""


@FORKS
def test_fork_before_and_after_the_first_use():
    run(
        CHILD
        + """
call = add_one_call()
in_child(lambda: check_with_workers(call))
check(call)
for _ in range(5):
    in_child(lambda: check_with_workers(call))
    in_child(lambda: in_child(lambda: check_with_workers(call)))
    check(call)
assert pool._runtime().word(pool.pool_code.WORKERS).value == 2
""",
        PYTHONWARNINGS="ignore",
    )


@FORKS
def test_fork_while_others_compile_and_call():
    run(
        CHILD
        + """
call = add_one_call()
check(call)
ending = threading.Event()
count = [0, 0]
def compiling():
    while not ending.is_set():
        machine.compile(ADD_ONE.replace("add_one", f"add_{count[0]}"), host())
        count[0] += 1
def calling():
    while not ending.is_set():
        check(call, 1000)
        count[1] += 1
others = [threading.Thread(target=work) for work in (compiling, calling, calling)]
for other in others: other.start()
def work():
    check_with_workers(call)
    machine.load(ADD_ONE.replace("add_one", f"mine_{os.getpid()}"), f"mine_{os.getpid()}", host())
for _ in range(25):
    in_child(work)
ending.set()
for other in others: other.join()
assert count[0] > 3 and count[1] > 3, count
""",
        PYTHONWARNINGS="ignore",
        seconds=60,
    )


@pytest.mark.parametrize("last", ["time.sleep(0.01)", "pass"], ids=["parked", "spinning"])
def test_the_interpreter_ends_cleanly(last):
    began = time.monotonic()
    for _ in range(3):
        run(f"check(add_one_call())\n{last}", seconds=10)
    assert time.monotonic() - began < 10


def test_ends_cleanly_while_a_daemon_thread_calls():
    out = run(
        """
        call = add_one_call()
        def calling():
            while True:
                check(call)
        for _ in range(3):
            threading.Thread(target=calling, daemon=True).start()
        time.sleep(0.2)
        print("end", flush=True)
        """,
        seconds=15,
    )
    assert out == "end\n"


def test_a_call_after_the_pool_has_stopped_runs_alone():
    run("call = add_one_call(); check(call); pool._runtime().shut_down(); check(call); check(call)")


def test_ctrl_c_interrupts_between_calls_and_ends():
    process = start(
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
        call = pool.Call([pool.Phase(kernel(SLOW, "slow"), 300, 1, 3)], [100_000])
        call()
        print("ready", flush=True)
        while True:
            call()
        """
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in err
    assert process.returncode in (1, -signal.SIGINT)


def test_signals_reach_the_main_thread():
    run(
        """
        check(add_one_call())
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(threading.current_thread() is threading.main_thread()))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        time.sleep(0.2)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(seen) > 3 and all(seen), seen
        """
    )


def test_idle_workers_use_no_processor():
    used = float(
        run(
            """
            call = add_one_call()
            for _ in range(100): check(call)
            time.sleep(0.05)
            begin = time.process_time()
            time.sleep(0.5)
            print(time.process_time() - begin)
            """
        )
    )
    assert used < 0.02


@pytest.mark.parametrize("asked", [1, 2, 5])
def test_as_many_threads_as_asked_for(asked):
    out = run(
        """
        call = add_one_call(threads=99)
        check(call)
        print(pool.threads(), sum(t.name.startswith("polyconv") for t in threading.enumerate()))
        """,
        POLYCONV_NUM_THREADS=str(asked),
    )
    assert out.split() == [str(asked), str(asked - 1)]


def test_without_threads_to_be_had_a_call_runs_alone():
    run(
        """
        def refuse(self): raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        call = add_one_call()
        check(call); check(call)
        """
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the only way")
def test_workers_that_sleep_on_a_condition_variable():
    """What systems without futexes use."""
    run(
        CHILD
        + """
from polyconv.run.cpu import pool_code
futex = pool_code.pool_ir
pool_code.pool_ir = lambda target: futex(target, parking="pthread")
call = add_one_call()
for _ in range(200):
    check(call)
    if _ % 20 == 0: time.sleep(0.003)
begin = time.process_time()
time.sleep(0.2)
assert time.process_time() - begin < 0.02
in_child(lambda: check_with_workers(call))
check(call)
""",
        PYTHONWARNINGS="ignore",
    )


def test_workers_take_part():
    """Three items that wait for each other end only if three threads run them."""
    run(
        '''
        MEET = """
        define void @meet(ptr %args, i64 %first, i64 %last, ptr %scratch) {
        entry:
          %here = atomicrmw add ptr %args, i64 1 seq_cst
          br label %wait
        wait:
          %all = load atomic i64, ptr %args seq_cst, align 8
          %more = icmp slt i64 %all, 3
          br i1 %more, label %wait, label %done
        done:
          ret void
        }
        """
        call = pool.Call([pool.Phase(kernel(MEET, "meet"), 3, 1, 3)], [0])
        call()
        time.sleep(0.01)
        pool.Call([pool.Phase(kernel(MEET, "meet"), 3, 1, 3)], [0])()
        ''',
        seconds=20,
    )
