"""Every command explains itself, and its examples run as they stand."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from cli.test_bench import EXAMPLE as BENCH
from polyconv.cli import commands
from test_readme import COMMANDS as README


def example_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("  polyconv ")]


def help_of(*names: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "polyconv", *names, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_overview_names_every_command():
    overview = help_of()
    assert all(f"\n  {name} " in overview for name in commands.commands)
    assert "...\n" not in overview.replace("[ARGS]...", ""), "a command's short help is cut off"
    assert len(example_lines(overview)) == 2


@pytest.mark.parametrize("name", list(commands.commands))
def test_the_examples_of_a_command_run(name, polyconv, studio_stopped):
    lines = example_lines(polyconv(name, "--help").stdout)
    assert lines, "no example"
    for line in set(lines) - {*README, BENCH}:  # tests/test_readme.py and test_bench.py run those
        done = polyconv(*shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output)
        assert done.stdout.strip(), line


def test_the_notation_in_the_overview_is_read():
    import polyconv as pc

    lines = [line.strip() for line in help_of().splitlines() if line.startswith('  "')]
    assert len(lines) >= 5
    for line in lines:
        pc.network(shlex.split(line)[0])


HEAVY = ("torch", "scipy", "PIL", "llvmlite", "rich")


@pytest.mark.parametrize(
    ("code", "loaded"),
    [("import polyconv.cli", []), ("import polyconv.cli, PIL.Image, rich.table", ["PIL", "rich"])],
    ids=["the command", "the probe can fail"],
)
def test_starting_loads_nothing_heavy(code, loaded):
    probe = f"import sys; {code}; import json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == loaded
