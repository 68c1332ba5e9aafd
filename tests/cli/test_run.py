"""``polyconv run``: what it writes is what the model gives."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import polyconv as pc
from polyconv.images import read_picture


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


def colours() -> np.ndarray:
    return np.moveaxis(read_picture("picture.jpg"), -1, 0)[None]


def test_npy_is_all_of_the_output_with_the_weights_of_the_seed(polyconv):
    net = pc.network("conv 3x3 5 stride 2 padding 1 relu | maxpool 2x2")
    done = polyconv("run", str(net), "picture.jpg", "-o", "out.npy", "--seed", "3")
    assert done.exit_code == 0, done.output
    expected = net.bind(net.weights(in_channels=3, seed=3))(colours())
    np.testing.assert_array_equal(np.load("out.npy"), expected)


def test_the_chart_has_a_row_for_each_layer(polyconv):
    text = polyconv("run", "conv 3x3 5 same | relu | maxpool 2x2", "picture.jpg", "-o", "out.npy").stdout
    for words in ("conv 3x3 5 same", "relu", "maxpool 2x2", "total", "MACs on data", "GFLOP/s", "1x5x296x448"):
        assert words in text


def test_given_weights_and_a_colour_picture_as_it_is(polyconv):
    np.savez("swap.npz", **{"0.weight": np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1)})
    assert polyconv("run", "pointwise 3 nobias", "picture.jpg", "-o", "out.png", "--weights", "swap.npz").exit_code == 0
    np.testing.assert_array_equal(pixels("out.png"), pixels("picture.jpg")[:, :, ::-1])


def test_weights_for_one_channel_read_the_picture_grey(polyconv):
    np.savez("grey.npz", **{"0.weight": np.ones((1, 1, 1, 1), np.float64)})
    done = polyconv("run", "pointwise 1 nobias", "picture.jpg", "-o", "out.png", "--weights", "grey.npz")
    assert done.exit_code == 0, done.output
    ours = pixels("out.png").astype(int)
    with Image.open("picture.jpg") as image:
        theirs = np.asarray(image.convert("L")).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_values_beyond_a_pictures_are_scaled_and_that_is_said(polyconv):
    np.savez("big.npz", **{"0.weight": np.full((1, 3, 1, 1), -7, np.float32)})
    text = polyconv("run", "pointwise 1 nobias", "picture.jpg", "-o", "out.png", "--weights", "big.npz").stdout
    assert "shown as black to white" in text
    shown = pixels("out.png")
    assert (shown.min(), shown.max()) == (0, 255)


def test_many_channels_become_tiles(polyconv):
    text = polyconv("run", "conv 3x3 20 same stride 4", "picture.jpg", "-o", "out.webp").stdout
    assert "the first 16 of 20 channels" in text
    assert pixels("out.webp").shape == (4 * 74 + 3 * 2, 4 * 112 + 3 * 2, 3)


def test_one_axis_reads_rows_and_three_axes_read_colours_as_depth(polyconv):
    assert polyconv("run", "avgpool 4", "picture.jpg", "-o", "rows.npy").exit_code == 0
    assert np.load("rows.npy").shape == (296, 3, 112)
    assert polyconv("run", "avgpool 4", "picture.jpg", "-o", "rows.png").exit_code == 0
    assert pixels("rows.png").shape == (296, 112, 3)
    assert polyconv("run", "conv 2x3x3 4", "picture.jpg", "-o", "depth.npy").exit_code == 0
    assert np.load("depth.npy").shape == (1, 4, 2, 294, 446)


def test_an_array_goes_in_as_it_is(polyconv):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 7))
    np.save("x.npy", x)
    net = pc.network("depthwise 3x3")
    assert polyconv("run", str(net), "x.npy", "-o", "y.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("y.npy"), net.bind(net.weights(4, dtype="float64"))(x))


@pytest.mark.parametrize("grey", [True, False])
def test_grey_is_one_channel(polyconv, grey):
    options = ["--grey"] if grey else []
    assert polyconv("run", "identity", "picture.jpg", "-o", "out.npy", *options).exit_code == 0
    assert np.load("out.npy").shape == (1, 1 if grey else 3, 296, 448)


def test_of_a_batch_the_first_is_shown_and_that_is_said(polyconv):
    x = np.random.default_rng(0).random((2, 3, 6, 7), np.float32)
    np.save("x.npy", x)
    assert "of the first of 2 in the batch" in polyconv("run", "identity", "x.npy", "-o", "y.png").stdout
    np.testing.assert_allclose(pixels("y.png") / 255, np.moveaxis(x[0], 0, -1), atol=0.5 / 255 + 1e-6)
