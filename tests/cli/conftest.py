"""A folder with a picture in it, and the command run there as a user would."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from polyconv.cli import commands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty but for picture.jpg."""
    with resources.as_file(resources.files("polyconv") / "data" / "chelsea.jpg") as source:
        shutil.copy(source, tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def polyconv(folder: Path) -> Callable[..., Result]:
    """Run the command; what it printed and its exit status come back."""

    def run(*args: str) -> Result:
        return CliRunner().invoke(commands, list(args), prog_name="polyconv")

    return run
