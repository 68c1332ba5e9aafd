"""Importing polyconv is quick and loads nothing heavy: seen from a fresh process, by a probe that can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polyconv as pc

HEAVY = ["torch", "scipy", "PIL", "llvmlite", "anywidget", "traitlets"]
LIMIT = 0.060  # seconds of the importing thread beyond NumPy: work, not waiting for a busy machine

PROBE = """
import json, sys, time
import numpy
start = time.thread_time()
{statement}
seconds = time.thread_time() - start
print(json.dumps([seconds, [name for name in {heavy} if name in sys.modules]]))
"""


def probe(statement: str) -> tuple[float, list[str]]:
    """Seconds beyond NumPy, and the heavy modules loaded, in a fresh process."""
    code = PROBE.format(
        statement=f"sys.path.insert(0, {str(Path(pc.__file__).parents[1])!r})\n{statement}", heavy=HEAVY
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    seconds, loaded = json.loads(done.stdout)
    return seconds, loaded


def test_nothing_heavy_is_imported():
    assert probe("import polyconv")[1] == []


def test_the_public_names_load_nothing_heavy():
    assert probe("import polyconv\nfor name in polyconv.__all__: getattr(polyconv, name)")[1] == []


def test_parsing_and_shapes_load_nothing_heavy():
    """Text, shapes and counts need no engine."""
    statement = "import polyconv; polyconv.network('conv 3x3 8 same | maxpool 2x2').count((1, 3, 16, 16))"
    assert probe(statement)[1] == []


def test_the_probe_sees_a_heavy_import():
    assert probe("import llvmlite, polyconv")[1] == ["llvmlite"]


def test_import_time():
    """The best of some runs: a busy machine makes an import slower, never faster."""
    best = min(probe("import polyconv")[0] for _ in range(7))
    assert best < LIMIT, f"import polyconv takes {best * 1e3:.0f} ms beyond NumPy"


def test_the_probe_sees_a_slow_import(tmp_path):
    work = f"import time\nend = time.thread_time() + {LIMIT}\nwhile time.thread_time() < end:\n    pass\n"
    (tmp_path / "slow_module.py").write_text(work)
    assert probe(f"sys.path.insert(0, {str(tmp_path)!r}); import slow_module")[0] >= LIMIT


def test_all_names_exist_and_are_public():
    assert len(set(pc.__all__)) == len(pc.__all__)
    for name in pc.__all__:
        assert getattr(pc, name) is not None
        assert not name.startswith("_") or name == "__version__"
    contract = {
        "conv",
        "conv_transpose",
        "max_pool",
        "avg_pool",
        "pointwise_conv",
        "depthwise_conv",
        "separable_conv",
        "spatially_separable_conv",
        "network",
        "matrix",
    }
    assert contract <= set(pc.__all__)
