"""The benchmark's own virtual environments. Standard library only: this runs before anything is installed.

Three, because the peers' requirements clash: LiteRT runs models that TensorFlow converts, and neither should share
a process, or pinned versions, with the others.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAIN, LITERT, CONVERT = (ROOT / f".venv-bench{part}" for part in ("", "-litert", "-convert"))
PEERS = ["torch==2.13.0", "onnxruntime", "onnx", "openvino", "jax", "matplotlib"]


def requirements() -> dict[Path, list[str]]:
    """What goes into each environment; polyconv itself is read from ``src``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {MAIN: [*project["dependencies"], *PEERS], LITERT: ["numpy", "ai-edge-litert"], CONVERT: ["tensorflow-cpu"]}


def python(environment: Path) -> str:
    """The interpreter of an environment."""
    return str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def ensure() -> None:
    """Create what is missing, and install again where the requirements have changed."""
    for environment, wanted in requirements().items():
        stamp = environment / ".installed"
        digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            continue
        print(f"installing into {environment.name}: {', '.join(wanted)}", flush=True)
        if not _runs(python(environment)):
            venv.create(environment, with_pip=True, clear=True)
        subprocess.run([python(environment), "-m", "pip", "install", "--quiet", *wanted], check=True)
        stamp.write_text(digest)


def _runs(interpreter: str) -> bool:
    """Whether an interpreter is there and starts (it does not after the Python it came from has gone)."""
    try:
        return subprocess.run([interpreter, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def enter() -> None:
    """Go on in the main environment: replaces this process unless it already runs there."""
    if Path(sys.prefix).resolve() == MAIN.resolve():
        return
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    command = [python(MAIN), "-m", "benchmarks", *sys.argv[1:]]
    if os.name == "nt":
        sys.exit(subprocess.call(command, env={**os.environ, "PYTHONPATH": path}))
    os.execve(command[0], command, {**os.environ, "PYTHONPATH": path})


def interpreters() -> dict[str, str]:
    """The interpreters of the libraries that live outside the main environment."""
    return {"litert": python(LITERT), "tensorflow": python(CONVERT)}
