"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner

from polyconv.cli import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder with a picture."""
    with resources.as_file(resources.files("polyconv") / "data" / "chelsea.jpg") as source:
        shutil.copy(source, tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)


def test_there_is_something_to_run():
    assert len(blocks("python")) >= 2
    assert len(blocks("console")) >= 2


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1][:40])
def test_the_python_runs(code):
    if "pc.matrix" in code:
        pytest.importorskip("scipy")
    exec(compile(code, "README.md", "exec"), {})


COMMANDS = [line for block in blocks("console") for line in block.splitlines() if line.startswith("polyconv ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run(line, studio_stopped):
    done = CliRunner().invoke(commands, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output


def test_every_command_is_shown():
    assert {line.split()[1] for line in COMMANDS} == set(commands.commands)


def test_the_scripts_and_pictures_exist():
    scripts = re.findall(r"^(scripts/\w+)", "\n".join(blocks("console")), re.MULTILINE)
    assert scripts == ["scripts/demo", "scripts/test"]
    for path in (*scripts, *re.findall(r"!\[.+?\]\((.+?)\)", README)):
        assert (ROOT / path).is_file(), path


def test_the_notation_shown_is_read():
    import polyconv as pc

    (text,) = blocks("text")
    for line in text.splitlines():
        for part in re.split(r" · | {3,}.*", line):
            if part and not part.startswith("relu "):
                pc.network(part)
