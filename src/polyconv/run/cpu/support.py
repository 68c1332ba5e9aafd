"""Whether machine code can be made and run here; found out by doing it once, not by guessing."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_TRIAL = """
define void @polyconv_trial(ptr %args, i64 %first, i64 %last, ptr %scratch) {
  %sum = add i64 %first, %last
  store i64 %sum, ptr %args
  ret void
}
"""


def why_not() -> str | None:
    """Why the CPU compiler cannot be used here, in words for ``explain()``; None where it can.

    ``POLYCONV_ENGINE=numpy`` asks for the NumPy engine; otherwise a trivial function is compiled and run once.

    Raises:
        ValueError: ``POLYCONV_ENGINE`` names something else than ``auto``, ``cpu`` or ``numpy``.
    """
    wish = os.environ.get("POLYCONV_ENGINE", "auto") or "auto"
    if wish not in ("auto", "cpu", "numpy"):
        raise ValueError(f"POLYCONV_ENGINE={wish!r} is not known; use 'auto', 'cpu' or 'numpy', or leave it unset.")
    return "POLYCONV_ENGINE=numpy asks for the NumPy engine" if wish == "numpy" else _obstacle()


@functools.cache
def _obstacle() -> str | None:
    """What stands in the way, tried once a process."""
    if sys.platform not in ("linux", "darwin"):
        return f"the CPU compiler does not run on {sys.platform}"
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "the CPU compiler needs a 64-bit Python"
    try:
        return _try()
    except ImportError as error:
        return f"llvmlite cannot be imported ({error})"
    except (RuntimeError, OSError, MemoryError) as error:
        return f"machine code is refused here ({error})"


def _try() -> str | None:
    """Compile, link and call."""
    from polyconv.run.cpu import cache, machine, pool
    from polyconv.run.cpu.target import host

    if not cache.llvm_version():
        return "llvmlite is not installed (pip install llvmlite)"
    target = host()
    if target.arch not in ("x86_64", "aarch64", "arm64"):
        return f"the CPU compiler does not know {target.arch}"
    trial = machine.load(_TRIAL, "polyconv_trial", target, "a trial function")
    words = pool.run(trial, [0], 41)
    return None if words[0] == 41 else "a trial function gave a wrong answer"
