"""Pictures of every mode come in as red, green and blue from 0 to 1, upright; numbers come out as pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyconv.images import encoded, fitted, photograph, read_picture, to_bytes
from polyconv.views import first_look, magnitude, scaled, sheet, signed


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [51, 102, 153]]], np.uint8)


def test_colour(tmp_path: Path):
    found = read_picture(saved(tmp_path, Image.fromarray(PIXELS), "a.png"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, PIXELS / 255, atol=1e-6)


def test_grey_palette_and_bilevel(tmp_path: Path):
    grey = np.array([[0, 51, 255]], np.uint8)
    for mode in ("L", "P"):
        found = read_picture(saved(tmp_path, Image.fromarray(grey).convert(mode), f"{mode}.png"))
        np.testing.assert_allclose(found, np.repeat(grey[:, :, None], 3, axis=2) / 255, atol=1e-6)
    bits = read_picture(saved(tmp_path, Image.fromarray(grey > 100), "bits.png"))
    np.testing.assert_array_equal(bits[0, :, 0], [0, 0, 1])


def test_sixteen_bits_keep_their_fineness(tmp_path: Path):
    grey = np.array([[0, 1, 257, 65535]], np.uint16)
    found = read_picture(saved(tmp_path, Image.fromarray(grey), "deep.png"))
    np.testing.assert_allclose(found[0, :, 1], grey[0] / 65535, atol=1e-7)


def test_transparency_lies_over_white(tmp_path: Path):
    image = Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8))
    found = read_picture(saved(tmp_path, image, "clear.png"))
    np.testing.assert_allclose(found[0], [[1, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]], atol=0.005)


def test_a_sideways_photograph_is_set_upright(tmp_path: Path):
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise
    found = read_picture(saved(tmp_path, image, "turned.png", exif=exif))
    np.testing.assert_allclose(found, np.rot90(PIXELS, -1) / 255, atol=1e-6)


def test_cmyk_is_read(tmp_path: Path):
    found = read_picture(saved(tmp_path, Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "print.tif"))
    np.testing.assert_allclose(found, np.broadcast_to([1, 0, 0], (2, 3, 3)), atol=0.01)


def test_the_photograph_fits_the_tour_as_it_is():
    assert photograph().shape == (296, 448, 3)
    np.testing.assert_array_equal(fitted(photograph(), 448, 8), photograph())


@pytest.mark.parametrize(("shape", "fits"), [((50, 90, 3), (48, 88)), ((1000, 500, 3), (96, 48)), ((8, 8, 3), (8, 8))])
def test_fitting_keeps_the_proportions_and_the_multiple(shape, fits):
    assert fitted(np.zeros(shape, np.float32), 100, 8).shape == (*fits, 3)


def test_fitting_refuses_what_would_vanish():
    with pytest.raises(ValueError, match="2 x 100 pixels is too small: both sides need at least 8"):
        fitted(np.zeros((1000, 20, 3), np.float32), 100, 8)


def test_bytes_are_rounded_and_limited():
    found = to_bytes(np.array([-1, 0, 0.5, 1, 2, np.nan, np.inf, 100 / 255]))
    np.testing.assert_array_equal(found, [0, 0, 128, 255, 255, 0, 255, 100])


@pytest.mark.parametrize("extension", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_what_is_encoded_can_be_opened(extension, shape):
    image = Image.open(io.BytesIO(encoded(np.full(shape, 0.5), extension)))
    assert image.size == (7, 9)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"\(0, 5\) has no pixels"):
        encoded(np.zeros((0, 5)), ".png")
    with pytest.raises(ValueError, match="70000 x 1 pixels cannot be written"):
        encoded(np.zeros((1, 70000)), ".jpg")


def test_views_put_zero_and_the_ends_where_they_say():
    values = np.array([[-2.0, 0.0, 1.0]])
    np.testing.assert_allclose(scaled(values), [[0, 2 / 3, 1]])
    assert signed(values)[0, 1] == 0.5
    assert magnitude(values)[0, 1] == 0
    assert magnitude(values).argmax() == 0
    np.testing.assert_array_equal(scaled(np.full((2, 2), 7.0)), 0.5)
    np.testing.assert_array_equal(signed(np.zeros((2, 2))), 0.5)
    assert scaled(np.array([0.0, np.nan, 2.0]))[2] == 1


def test_a_sheet_keeps_every_plane_where_it_belongs():
    planes = np.arange(5.0)[:, None, None] * np.ones((5, 3, 4)) / 10
    found = sheet(planes, columns=3)
    assert found.shape == (3 * 2 + 2, 4 * 3 + 2 * 2)
    np.testing.assert_array_equal(found[:3, 6:10], 0.1)
    np.testing.assert_array_equal(found[5:, 6:10], 0.4)
    np.testing.assert_array_equal(found[3:5], 1)


def test_the_first_look_says_what_it_shows():
    assert first_look(np.full((1, 2, 3), 0.5))[1] == "its channel in grey, values as they are"
    assert "-1 to 2 shown as black to white" in first_look(np.array([[[-1.0, 2.0]]]))[1]
    picture, words = first_look(np.zeros((40, 2, 3)))
    assert "the first 16 of 40 channels" in words
    assert picture.shape == (4 * 2 + 3 * 2, 4 * 3 + 3 * 2)
