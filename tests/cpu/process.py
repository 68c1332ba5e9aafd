"""Running Python in a process of its own: for what may crash, hang, fork or end."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parents[1]
PRELUDE = """
import os, sys, threading, time, signal
import numpy as np
from cpu.kernels import ADD_ONE, SLOW, USES_SCRATCH
from polyconv.run.cpu import machine, pool
from polyconv.run.cpu.target import host
def kernel(ir, name):
    return machine.load(ir, name, host(), "a test").address
def add_one_call(items=1000, chunk=10, threads=2):
    return pool.Call([pool.Phase(kernel(ADD_ONE, "add_one"), items, chunk, threads)], [0, 0], arrays=(0, 1))
def check(call, items=1000):
    x, y = np.arange(items, dtype=np.float32), np.zeros(items, np.float32)
    call(x, y)
    assert np.array_equal(y, x + 1)
"""


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    return os.environ | {"PYTHONPATH": path, "POLYCONV_NUM_THREADS": "3"} | more


def start(code: str, **more: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    script = PRELUDE + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", script], env=environment(**more), **pipes)


def run(code: str, *, seconds: float = 30, expect: int = 0, **more: str) -> str:
    """What the code prints; fails when it ends with another status or not in time."""
    process = start(code, **more)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"did not end in {seconds} s:\n{out}\n{err}") from None
    assert process.returncode == expect, f"status {process.returncode}:\n{out}\n{err}"
    return out
