"""Every mistake is one line on standard error, exit status 2, and leaves no file behind."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyconv import __file__ as package

OUT = ("-o", "out.png")
NET = "conv 3x3 8 same"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(str(package)).parents[1])}


def png_that_claims(width: int, height: int) -> bytes:
    """The head of a PNG of any size, without pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def things(folder: Path) -> None:
    """What else lies in the folder."""
    Path("text.jpg").write_text("no picture")
    Path("script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    Path("half.jpg").write_bytes(Path("picture.jpg").read_bytes()[:9000])
    Path("bomb.png").write_bytes(png_that_claims(100_000, 100_000))
    Path("large.png").write_bytes(png_that_claims(10_000, 10_000))
    Image.new("RGB", (4, 5)).save("tiny.png")
    Image.new("RGB", (300, 9)).save("flat.png")
    Path("a_folder.png").mkdir()
    np.savez("wrong.npz", **{"0.wieght": np.ones(3, np.float32)})
    np.savez("ints.npz", **{"0.weight": np.ones((8, 3, 3, 3), int), "0.bias": np.ones(8, int)})
    np.savez("four.npz", **{"0.weight": np.ones((8, 4, 3, 3), "f4"), "0.bias": np.ones(8, "f4")})
    np.savez("objects.npz", **{"0.weight": np.array([{}], object)})
    np.save("bytes.npy", np.zeros((1, 3, 8, 8), np.uint8))
    np.save("empty.npy", np.zeros((0, 3, 8, 8), np.float32))
    np.save("flat.npy", np.zeros((3, 8), np.float32))
    np.save("objects.npy", np.array([{}], object))


CASES = {
    "no file": (("run", NET, "none.jpg", *OUT), r"none\.jpg: No such file"),
    "a folder as picture": (("run", NET, ".", *OUT), r"cannot read \.: Is a directory"),
    "no picture": (("run", NET, "text.jpg", *OUT), r"text\.jpg: it is no picture that polyconv knows \(JPEG, PNG"),
    "PostScript is a program": (("run", NET, "script.eps", *OUT), r"script\.eps: it is no picture"),
    "half a picture": (("run", NET, "half.jpg", *OUT), r"half\.jpg: the picture is damaged \(.*truncated"),
    "a bomb": (("run", NET, "bomb.png", *OUT), r"bomb\.png: more than 64,000,000 pixels. Make it smaller"),
    "too many pixels": (("run", NET, "large.png", *OUT), r"10000 x 10000 pixels are more than 64,000,000"),
    "too small for the network": (
        ("run", "conv 9x9 1", "tiny.png", *OUT),
        r"stage 0 \(conv 9x9 1\).*spans 9 positions, the input has 5 .*larger input",
    ),
    "no folder": (("run", NET, "picture.jpg", "-o", "no/out.png"), r"no/out\.png: the folder no does not exist"),
    "extension": (("run", NET, "picture.jpg", "-o", "out.gif"), r"extension '\.gif' is none of \.png, \.jpg.*\.npy"),
    "no extension": (("run", NET, "picture.jpg", "-o", "out"), r"it has no extension; use one of \.png"),
    "output is a folder": (("run", NET, "picture.jpg", "-o", "a_folder.png"), r"a_folder\.png: it is a folder"),
    "no output": (("run", NET, "picture.jpg"), r"Missing option .*--output.*polyconv run --help"),
    "weights' names": (
        ("run", NET, "picture.jpg", *OUT, "--weights", "wrong.npz"),
        r"missing \['0\.weight', '0\.bias'\], unknown \['0\.wieght'\]; did you mean '0\.weight'",
    ),
    "weights' dtype": (
        ("run", NET, "picture.jpg", *OUT, "--weights", "ints.npz"),
        r"0\.weight has dtype int64.*astype",
    ),
    "weights' channels": (("run", NET, "picture.jpg", *OUT, "--weights", "four.npz"), r"has 3 channels.*expect 4"),
    "weights are no archive": (
        ("run", NET, "picture.jpg", *OUT, "--weights", "text.jpg"),
        r"text\.jpg: .*numpy\.savez",
    ),
    "weights hold objects": (
        ("run", NET, "picture.jpg", *OUT, "--weights", "objects.npz"),
        r"objects\.npz: .*allow_pickle",
    ),
    "no weights": (("run", NET, "picture.jpg", *OUT, "--weights", "none.npz"), r"weights none\.npz: No such file"),
    "an array of bytes": (("run", NET, "bytes.npy", *OUT), r"bytes\.npy holds uint8.*float32"),
    "an array of objects": (("run", NET, "objects.npy", *OUT), r"objects\.npy: .*allow_pickle"),
    "nothing to show": (("run", NET, "empty.npy", *OUT), r"shape \(0, 8, 8, 8\) is empty.*\.npy"),
    "an array of the wrong rank": (("run", NET, "flat.npy", *OUT), r"must be \(batch, channels, height, width\)"),
    "a negative seed": (("run", NET, "picture.jpg", *OUT, "--seed", "-1"), r"'--seed': -1 is not in the range"),
    "more memory than there is": (
        ("run", "conv 3x3 2000000000", "picture.jpg", *OUT),
        r"needs .* TB of memory.*smaller",
    ),
    "explain without memory": (("explain", "conv 3x3 2000000000", "--input", "3x9x9"), r"needs \d\d\d GB of memory"),
    "no input": (("count", NET), r"give --input, such as --input 3x224x224"),
    "no shape": (("count", NET, "--input", "3x2y"), r"--input '3x2y' is no shape"),
    "a shape of digits that are none": (("count", NET, "--input", "3x²x9"), r"is no shape"),
    "wrong rank": (("count", NET, "--input", "3x9"), r"3x9 does not fit a 2-D network. Give CxHxW, or NxCxHxW"),
    "channels": (("count", "conv 3x3 8 groups 4", "--input", "3x9x9"), r"groups = 4 does not divide in_channels = 3"),
    "unknown network": (("count", "@resnet5"), r"got 'resnet5'; did you mean 'resnet50'\?"),
    "unknown command": (("cuont",), r"No such command 'cuont'.*See polyconv --help"),
    "unknown option": (("count", NET, "--inptu", "3"), r"No such option.*See polyconv count --help"),
    "tour of a small picture": (("tour", "flat.png"), r"300 x 9 pixels, the tour needs at least 64"),
    "tour to a picture": (("tour", "-o", "page.png"), r"extension '\.png' is none of \.html"),
    "tour without a picture": (("tour", "none.jpg"), r"none\.jpg: No such file"),
}


@pytest.mark.parametrize(("args", "says"), CASES.values(), ids=CASES)
@pytest.mark.usefixtures("things")
def test_a_mistake_is_one_line(args, says, polyconv, folder):
    before = sorted(folder.iterdir())
    done = polyconv(*args)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("polyconv")
    assert re.search(says, done.stderr), done.stderr
    assert sorted(folder.iterdir()) == before


def test_a_mistake_in_the_notation_keeps_its_caret(polyconv):
    done = polyconv("count", "conv 3x3 8 smae", "--input", "3x9x9")
    assert done.exit_code == 2
    first, text, caret = done.stderr.splitlines()
    assert "did you mean 'same'?" in first
    assert text[caret.index("^") :].startswith("smae")


def test_control_characters_do_not_reach_the_terminal(polyconv):
    done = polyconv("run", NET, "\x1b[31mred\nline.jpg", *OUT)
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_there_is_no_traceback_from_a_real_process_either(folder):
    command = [sys.executable, "-m", "polyconv", "run", NET, "none.jpg", *OUT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_stops_early_is_no_mistake(folder):
    command = f"{sys.executable} -m polyconv count @vgg16 --csv | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=folder, env=ENVIRONMENT
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_an_old_result_survives_a_failure(polyconv, folder):
    Path("out.png").write_bytes(b"old")
    assert polyconv("run", "conv 999x999 1", "picture.jpg", *OUT).exit_code == 2
    assert Path("out.png").read_bytes() == b"old"
