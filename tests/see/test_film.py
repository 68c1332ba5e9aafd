"""Every kind in every format, opened again by readers that share nothing with the writers."""

from __future__ import annotations

import io
import struct
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import polyconv as pc
from polyconv.see import film
from polyconv.see.kinds import EXAMPLES
from polyconv.see.raster import raster
from polyconv.see.shapes import Picture, Text

by_kind = pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
FRAMES = 5  # of each film below: the first and last among them


def opened(path: Path) -> tuple[str, tuple[int, int], int, list[np.ndarray]]:
    """Format, size, number of frames, and the frames as arrays."""
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
        frames = []
        for number in range(count):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB"), np.int16))
        return str(image.format), image.size, count, frames


@by_kind
@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
def test_films(example, kind, tmp_path):
    drawing = example.draw(max_frames=FRAMES)
    name, size, count, frames = opened(drawing.save(tmp_path / f"film.{kind}", scale=0.5))
    first = drawing.picture(0)
    assert name == {"gif": "GIF", "webp": "WEBP", "apng": "PNG"}[kind]
    assert size == (round(first.width * 0.5), round(first.height * 0.5))
    assert count == len(drawing.frames)
    for number in (0, count - 1):
        exact = np.asarray(raster(drawing.picture(number), 0.5), np.int16)
        difference = np.abs(frames[number] - exact)
        assert difference.max() <= (120 if kind == "gif" else 0)
        assert difference.mean() < 3


@by_kind
def test_stills_and_sheets(example, tmp_path):
    drawing = example.draw(max_frames=FRAMES)
    first = drawing.picture(0)
    name, size, count, _ = opened(drawing.save(tmp_path / "still.png", frame=0))
    assert (name, size, count) == ("PNG", (first.width * 2, first.height * 2), 1)
    name, size, count, (pixels,) = opened(drawing.save(tmp_path / "sheet.png", sheet=True, scale=0.25))
    assert size[0] * size[1] >= len(drawing.frames) * first.width * first.height * 0.25**2
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5
    root = ET.parse(drawing.save(tmp_path / "still.svg", frame=0)).getroot()
    assert root.get("viewBox") == f"0 0 {first.width} {first.height}"


def boxes(data: bytes) -> dict[str, list[bytes]]:
    """The boxes of an MP4 file by their names, those of the sample tables included."""
    found: dict[str, list[bytes]] = {}
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + size]
        found.setdefault(name.decode("latin-1"), []).append(body)
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            for key, value in boxes(body).items():
                found.setdefault(key, []).extend(value)
        assert size >= 8
        at += size
    return found


@pytest.mark.parametrize("example", EXAMPLES[:: len(EXAMPLES) // 4], ids=lambda e: e.name)
def test_mp4(example, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="NOT RUN: MP4 needs imageio-ffmpeg")
    drawing = example.draw(max_frames=FRAMES)
    path = drawing.save(tmp_path / "film.mp4", scale=1, fps=4)
    first = drawing.picture(0)
    found = boxes(path.read_bytes())
    assert found["ftyp"]
    (samples,) = {struct.unpack(">I", body[8:12])[0] for body in found["stsz"]}
    assert samples == len(drawing.frames)
    assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (samples, pytest.approx(samples / 4, abs=0.01))
    reader = imageio_ffmpeg.read_frames(str(path))
    size = next(reader)["size"]
    assert size == (first.width, first.height // 2 * 2)
    shown = np.frombuffer(next(reader), np.uint8).reshape(size[1], size[0], 3).astype(int)
    reader.close()
    exact = np.asarray(raster(first), int)[: size[1], : size[0]]
    assert np.abs(shown - exact).mean() < 6  # the codec loses a little


def test_a_5x5_animation_is_small_and_quick(tmp_path):
    start = time.perf_counter()
    path = pc.network("conv 3x3 1 padding 1").draw(input_size=(5, 5)).save(tmp_path / "conv.gif")
    assert time.perf_counter() - start < 5
    assert path.stat().st_size < 300_000
    with Image.open(path) as image:
        assert image.n_frames == 25
        assert image.info["loop"] == 0
        assert image.info["duration"] == 500


def test_letters_are_drawn_where_they_are_measured():
    """No ink outside the width that the layout counted with, for every sign that drawings use."""
    for words in ("max(3, −1, 2) = 3", "0·2 + 3×(−1) → 7", "output of this operation", "… and 61 more", "(ᵀ)"):
        text = Text(100, 60, words, 20, "#000000")
        pixels = np.asarray(raster(Picture(600, 100, "#ffffff", (text,), "", "")).convert("L"))
        from polyconv.see.lettering import measure

        columns = np.flatnonzero((pixels < 200).any(axis=0))
        assert columns.min() >= 99
        assert columns.max() <= 101 + measure(words, 20)
        assert columns.max() >= 90 + measure(words, 20)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("conv.bmp", {}, r"conv.bmp: the extension '.bmp' is none of .gif, .svg"),
        ("conv", {}, r"conv: it has no extension"),
        ("nowhere/conv.gif", {}, r"the folder .*nowhere does not exist"),
        ("conv.gif", {"frame": 1}, r"frame=1 is for one picture, .svg or .png; a .gif has them all"),
        ("conv.gif", {"sheet": True}, r"a sheet of all frames is a .png, got .gif"),
        ("conv.png", {"frame": 9}, r"frame 9 does not exist: the drawing has frames 0 to 8"),
        ("conv.gif", {"fps": 0}, r"fps must be a number from 0.1 to 30, got 0"),
        ("conv.gif", {"scale": 100}, r"scale must be a number from 0.25 to 8, got 100"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_any_work(name, options, message, tmp_path, monkeypatch):
    drawing = pc.network("conv 3x3 1").draw((5, 5))
    monkeypatch.setattr(film, "raster", lambda *_: pytest.fail("work was done"))
    with pytest.raises(ValueError, match=message):
        drawing.save(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_film_too_large_for_the_memory_is_refused():
    drawing = pc.network("conv 3x3 2 padding 1").draw((11, 11), max_frames=2000)
    with pytest.raises(ValueError, match=r"242 frames of 4800x.* pixels, at most 500,000,000"):
        film.check_size(drawing.frames, len(drawing.frames), 8.0)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "conv.gif"
    path.write_bytes(b"old")
    monkeypatch.setattr(film, "gif", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pc.network("conv 3x3 1").draw((5, 5)).save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_mp4_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"pip install \"polyconv\[see\]\""):
        pc.network("conv 3x3 1").draw((5, 5)).save(tmp_path / "conv.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_gif_of_one_frame_is_a_gif():
    drawing = pc.network("conv 3x3 1").draw((3, 3))
    assert len(drawing.frames) == 1
    with Image.open(io.BytesIO(film.gif(drawing.frames, 2.0))) as image:
        assert image.format == "GIF"
