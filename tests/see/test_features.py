"""Feature maps of a photograph."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import polyconv as pc
from polyconv.cli import commands
from polyconv.see.shapes import Raster

NET = "concat(conv 3x3 4 same relu, avgpool 3x3 stride 1 same) | batchnorm | maxpool 2x2 | separable 3x3 6"


def test_the_last_stage_is_what_the_network_gives():
    random = np.random.default_rng(0)
    photo = random.random((16, 20, 3))
    net = pc.network(NET)
    weights = net.weights(3, seed=4)
    stages = pc.draw_features(net, photo, weights=weights).composer.stages
    x = np.moveaxis(photo, -1, 0)[None].astype(np.float32)
    np.testing.assert_allclose(stages[-1][1], net.bind(weights)(x)[0], rtol=1e-4, atol=1e-5)
    assert [maps.shape for _, maps in stages[1:]] == [shape[1:] for shape in net.shapes(x.shape)]


def test_a_few_channels_of_each_are_shown():
    drawing = pc.draw_features("conv 3x3 8 same | pointwise 2", channels=3)
    assert [sum(isinstance(s, Raster) for s in picture.shapes) for picture in drawing.frames] == [3, 3, 2]


def test_the_command_draws_a_sheet(tmp_path):
    target = tmp_path / "maps.png"
    done = CliRunner().invoke(commands, ["draw", NET, "--features", "--sheet", "-o", str(target)])
    assert done.exit_code == 0, done.output
    with Image.open(target) as image:
        assert image.width > 600


def test_too_many_channels_are_refused():
    with pytest.raises(ValueError, match="channels is 9, at most 8"):
        pc.draw_features(NET, channels=9)
