"""The receptive field over a photograph."""

from __future__ import annotations

import io

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import polyconv as pc
from polyconv.cli import commands
from polyconv.images import photograph
from polyconv.see.field import draw_field
from polyconv.see.shapes import Polygon, Raster, Text

NET = "conv 3x3 8 same | 2 * (conv 3x3 8 dilation 4 same relu) | maxpool 2x2 | conv 3x3 4 same"


def words(picture):
    return " ".join(shape.text for shape in picture.shapes if isinstance(shape, Text))


def test_a_frame_for_each_layer_that_reads_around_itself():
    drawing = draw_field(NET)
    fields = [stage.field.size for stage in drawing.composer.stages]
    assert fields == [(3, 3), (11, 11), (19, 19), (20, 20), (24, 24)]
    assert "81 of 121 pixels are read" in words(drawing.picture(1))
    assert "are read" not in words(drawing.picture(0))
    assert pc.receptive_field(NET).size == fields[-1]


def test_the_holes_of_dilations_are_dark_and_the_rest_is_not():
    close = [s for s in draw_field(NET).picture(1).shapes if isinstance(s, Raster)][1]
    pixels = np.asarray(Image.open(io.BytesIO(close.content)).convert("L"), float)
    assert pixels.shape == (11, 11)
    hole = np.isin(np.arange(11), (3, 7))
    assert pixels[hole].max() < pixels[~hole][:, ~hole].min()


def test_the_box_is_where_the_geometry_says():
    drawing = draw_field("conv 5x3 4 stride 2 padding 2x1", np.ones((60, 40, 3)), input_size=(60, 40))
    stage = drawing.composer.stages[0]
    assert stage.spans == ((28, 32), (19, 21))
    boxes = [s for s in drawing.picture(0).shapes if isinstance(s, Polygon) and s.stroke and not s.fill]
    assert len(boxes) == 2


def test_given_weights_decide_what_weighs():
    weight = np.zeros((1, 3, 3, 3), np.float32)
    weight[0, 1, 0, 2] = -2  # one tap alone, whatever its sign
    drawing = draw_field("conv 3x3 1 same nobias", weights={"0.weight": weight})
    (stage,) = drawing.composer.stages
    assert [tuple(map(int, where)) for where in np.argwhere(stage.effective)] == [
        (stage.spans[0][0], stage.spans[1][1]),
    ]


def test_of_many_stages_some_are_shown_and_the_last_is():
    drawing = draw_field("10 * (conv 3x3 4 same)", max_frames=4)
    assert [stage.field.size[0] for stage in drawing.composer.stages] == [3, 9, 15, 21]
    assert "4 of 10 stages are shown" in words(drawing.picture(3))


@pytest.mark.parametrize("kind", ["gif", "svg", "png", "html"])
def test_the_command(kind, tmp_path):
    Image.fromarray((photograph() * 255).astype(np.uint8)).save(tmp_path / "photo.jpg")
    target = tmp_path / f"field.{kind}"
    words_ = [NET, "--field", "--picture", str(tmp_path / "photo.jpg"), "-o", str(target)]
    done = CliRunner().invoke(commands, ["draw", *words_])
    assert done.exit_code == 0, done.output
    assert "5 frames" in done.output
    if kind == "gif":
        with Image.open(target) as film:
            assert film.n_frames == 5
    if kind in ("svg", "html"):
        assert "data:image/jpeg;base64," in target.read_text()


@pytest.mark.parametrize(
    ("words_", "message"),
    [
        (("conv 3x3x3 4", "--field"), "has 2 axes, the network 'conv 3x3x3 4' has 3"),
        (("conv 3x3 4", "--field", "--matrix"), "are different drawings"),
        (("conv 3x3 4", "--picture", "missing.jpg"), "Add --field"),
        (("conv 3x3 4", "--field", "--picture", "missing.jpg"), "cannot read missing.jpg"),
        (("conv 3x3 4", "--field", "--input", "5000x5000"), "at most 1024 pixels"),
        (("conv 3x3 4", "--field", "--input", "2x2"), "3"),
    ],
)
def test_a_mistake_is_one_sentence(words_, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(commands, ["draw", *words_, "-o", "a.svg"])
    assert done.exit_code == 2
    assert message in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"must be \(height, width, 3\).*got shape \(8, 8\)"):
        draw_field(NET, np.ones((8, 8)))
