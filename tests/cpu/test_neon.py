"""Code for 64-bit Arm, emitted and assembled for every algorithm, in each layout and dtype it takes; it is not run.

Each algorithm in a process of its own: LLVM ends the process over code that it cannot generate.
"""

import itertools
import re
import subprocess
import sys

import pytest

from cpu.process import environment
from polyconv.run.cpu import linker, machine
from polyconv.run.cpu.algorithms import NAMES, algorithm
from polyconv.run.cpu.algorithms.record import Sizes
from polyconv.run.cpu.target import neon
from polyconv.run.problem import Problem

LAYOUTS, DTYPES = ("channels_last", "channels_first"), ("float32", "float64")
EM_AARCH64 = 183

# op, channels in and out, kernel, stride, dilation, groups
KINDS = [
    ("conv", 18, 21, (3, 3), (1, 1), (1, 1), 1),
    ("conv", 16, 19, (3,), (1,), (1,), 1),
    ("conv", 16, 17, (3, 1), (1, 1), (1, 1), 1),
    ("conv", 16, 17, (3, 5, 3), (1, 1, 1), (2, 1, 1), 1),
    ("conv", 18, 22, (3, 3), (2, 1), (1, 3), 2),
    ("conv", 37, 3, (5, 5), (1, 1), (1, 1), 1),
    ("conv", 5, 9, (7, 8), (2, 2), (1, 1), 1),
    ("conv", 24, 24, (3, 3), (1, 1), (1, 1), 6),
    ("conv", 21, 42, (5, 3), (1, 1), (1, 1), 21),
    ("conv", 21, 21, (3, 3), (2, 2), (1, 1), 21),
    ("conv", 17, 17, (13, 13), (1, 1), (1, 1), 17),
    ("conv", 20, 17, (1, 1), (1, 1), (1, 1), 1),
    ("conv_transpose", 18, 21, (4, 4), (2, 2), (1, 1), 1),
    ("conv_transpose", 18, 1, (6, 6), (3, 3), (1, 1), 1),
    ("max_pool", 19, 19, (3, 3), (2, 2), (1, 1), 19),
    ("avg_pool", 19, 19, (2, 3), (1, 2), (1, 1), 19),
]


def problems(name: str, layout: str, dtype: str) -> list[Problem]:
    """The layers that this algorithm computes."""
    made = []
    for op, inputs, outputs, kernel, stride, dilation, groups in KINDS:
        pool = op.endswith("pool")
        made.append(
            Problem(
                op, inputs, outputs, kernel, stride, dilation, groups, not pool, None if pool else "relu", dtype, layout
            )
        )
    return [one for one in made if algorithm(name).fits(one, neon()) is None]


def symbols(name: str, problem: Problem, tile: object) -> set[str]:
    """The functions that run a small picture."""
    size = (40,) * problem.ndim
    shape = (1, *size, problem.in_channels) if problem.layout == "channels_last" else (1, problem.in_channels, *size)
    strides = tuple(itertools.accumulate(shape[:0:-1], lambda a, b: a * b, initial=1))[::-1]
    plan = algorithm(name).schedule(
        problem, tile, neon(), Sizes(1, size, ((0, 0),) * problem.ndim, (20,) * problem.ndim, strides), 2
    )
    return {phase.symbol for phase in plan.phases}


def assemble(name: str, layout: str, dtype: str) -> int:
    """Assemble the first layer in its first tile and the last in its last; how many modules that were."""
    found, count = algorithm(name), 0
    fitting = problems(name, layout, dtype)
    for place in (0, -1) if fitting else ():
        problem = fitting[place]
        tile = list(found.variants(problem, neon()))[place]
        text = found.emit(problem, tile, neon())
        code = machine.compile(text, neon(), str(problem))
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == EM_AARCH64
        defined = set(re.findall(r"define (?!internal)[^@]*@\"?([\w.]+)", text))
        assert symbols(name, problem, tile) <= defined, defined
        assert all(symbol.encode() in code for symbol in defined)
        count += 1
    lane = "4s" if dtype == "float32" else "2d"
    wanted = rf"f(mla|mls|max|min|maxnm|add)\s+v\d+\.{lane}"
    assert not count or re.search(wanted, machine.assembly(text, neon(), str(problem))), "no vector arithmetic"
    return count


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_and_dtype_it_takes_is_assembled(name):
    code = "import sys; from cpu.test_neon import *; print([assemble(sys.argv[1], *both) for both in " + (
        "itertools.product(LAYOUTS, DTYPES)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    taken = [bool(problems(name, *both)) for both in itertools.product(LAYOUTS, DTYPES)]
    assert any(taken), "no layer of this file is for this algorithm: add one"
    assert [count > 0 for count in eval(done.stdout)] == taken


def test_every_kind_of_layer_has_an_algorithm_on_arm():
    for both in itertools.product(LAYOUTS, DTYPES):
        taken = {str(one) for name in NAMES for one in problems(name, *both)}
        assert len(taken) == len(KINDS)


def test_code_that_arm_lacks_is_noticed(monkeypatch):
    """The check itself can fail: an algorithm that emits another machine's instructions."""
    from cpu.kernels import AVX512_ONLY

    fitting = problems("dense", "channels_last", "float32")
    assert fitting
    with pytest.raises(RuntimeError, match="aarch64 does not have"):
        machine.compile(AVX512_ONLY, neon(), str(fitting[0]))
    with pytest.raises(linker.Unsupported):
        linker.place(machine.compile("define void @f() {\n  ret void\n}", neon()), ("f",))
