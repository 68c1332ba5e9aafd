"""The command ``polyconv draw``."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from polyconv.cli import commands


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, ["draw", *words], prog_name="polyconv")
    return done.exit_code, done.output


def test_it_writes_what_the_extension_says(tmp_path):
    path = tmp_path / "conv.gif"
    status, said = run("conv 3x3 1", "--input", "5x5", "-o", str(path))
    assert (status, said) == (0, f"wrote {path}: 9 frames, {path.stat().st_size:,} bytes\n")
    with Image.open(path) as image:
        assert image.n_frames == 9


@pytest.mark.parametrize(
    "words",
    [
        ("conv 3x3 1 nobias", "--input", "4x4", "--matrix", "-o", "matrix.svg"),
        ("conv 3x3 2", "--input", "3x5x5", "--dark", "--frame", "3", "-o", "still.png"),
        ("transposed 3 1 stride 2", "--view", "slide", "-o", "page.html"),
        ("depthwise 3x3", "--sheet", "--seed", "4", "-o", "sheet.png"),
        ("relu", "--input", "3x4", "-o", "relu.webp"),
        ("conv 3x3 1", "--flip", "-o", "flipped.svg"),
    ],
)
def test_options(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = run(*words)
    assert status == 0, said
    assert (tmp_path / words[-1]).stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("conv 3x3 1", "--input", "5x5x5x5", "-o", "a.gif"),
            "--input 5x5x5x5 does not fit a 2-D network. Give HxW",
        ),
        (("conv 3x3 1", "--input", "5;5", "-o", "a.gif"), "--input '5;5' is no size"),
        (("conv 3x3 1", "--input", "1000000x1000000", "-o", "a.gif"), "a drawing takes at most 1,000,000"),
        (("conv 3x3 1", "-o", "a.bmp"), "the extension '.bmp' is none of .gif"),
        (("conv 3x3 1", "-o", "missing/a.gif"), "the folder missing does not exist"),
        (("conv 3x3 1", "--frame", "99", "-o", "a.svg"), "frame 99 does not exist"),
        (("conv 3x3 1 dilatoin 2", "-o", "a.svg"), "did you mean 'dilation'?"),
        (("conv 3x3 1", "--matrix", "--flip", "-o", "a.svg"), "--flip is for the layer at work"),
        (("maxpool 2x2", "--flip", "-o", "a.svg"), "flip is for convolutions"),
        (("maxpool 2x2", "--matrix", "-o", "a.svg"), "a maximum is not linear"),
    ],
)
def test_a_mistake_is_one_sentence(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = run(*words)
    assert status == 2
    assert message.lower() in said.lower()
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    status, said = run("conv 3x3 1", "-o", str(tmp_path / "a.mp4"))
    assert status == 2
    assert 'pip install "polyconv[see]"' in said
