"""Drawn matrices against the operators, and what cannot be drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_svg import problems

import polyconv as pc
from polyconv.see.shapes import Polygon, Text

FIGURES = json.loads((Path(__file__).parent.parent / "data" / "dumoulin_visin.json").read_text())["figures"]


def dense(drawing) -> np.ndarray:
    """The drawn matrix as numbers."""
    found = np.zeros(drawing.composer.shape)
    for at, (_, value) in drawing.composer.entries.items():
        found[at] = value
    return found


@pytest.mark.parametrize(
    ("text", "shape", "size"),
    [
        ("conv 3x2 2 stride 2x1 padding 1:0x0:2 dilation 1x2 nobias", (2, 2, 3, 2), (4, 4)),
        ("conv 3 2 same reflect", (2, 1, 3), (5,)),
        ("conv 3 2 groups 2 causal", (2, 1, 3), (5,)),
        ("transposed 3x2 1 stride 2 padding 1 output_padding 1x0", (1, 1, 3, 2), (3, 2)),
        ("transposed 2x1x2 1 stride 2", (1, 1, 2, 1, 2), (1, 2, 2)),
        ("avgpool 2x3 padding 1", None, (4, 3)),
    ],
)
def test_the_drawn_matrix_is_the_operator(text, shape, size):
    weight = None if shape is None else np.random.default_rng(1).normal(size=shape)
    network = pc.network(text)
    layer = network.nodes[0].layer
    channels = 1 if shape is None else shape[1] * (getattr(layer, "groups", 1) if isinstance(layer, pc.Conv) else 1)
    drawing = pc.draw_matrix(text, weight, size, in_channels=channels, values=True)
    weights = {} if weight is None else {"0.weight": weight}
    if weight is not None and layer.bias:
        weights["0.bias"] = np.zeros(layer.out_channels)
    units = np.eye(channels * int(np.prod(size))).reshape(-1, channels, *size)
    expected = network.bind(weights)(units).reshape(len(units), -1).T
    np.testing.assert_allclose(dense(drawing), expected, atol=1e-12)
    for picture in drawing.frames:
        assert problems(picture) == []


@pytest.mark.parametrize(
    "row", [row for row in FIGURES if row["i"] ** 2 <= 64 and row["o"] ** 2 <= 64], ids=lambda r: r["name"]
)
def test_entries_of_the_known_figures(row):
    text = f"conv {row['k']}x{row['k']} 1 stride {row['s']} padding {row['p']} dilation {row['d']} nobias"
    drawing = pc.draw_matrix(text, input_size=row["i"])
    assert drawing.composer.shape == tuple(row["matrix"])
    assert len(drawing.composer.entries) == row["nonzeros"]


def test_the_first_row_of_the_known_matrix():
    drawing = pc.draw_matrix("conv 3x3 1 nobias", input_size=(4, 4))
    names = [drawing.composer.entries.get((0, column), ("0", 0))[0] for column in range(16)]
    assert " ".join(names) == "w00 w01 w02 0 w10 w11 w12 0 w20 w21 w22 0 0 0 0 0"
    words = [shape.text for shape in drawing.picture(1).shapes if isinstance(shape, Text)]
    assert "C: 4×16" in words
    assert "Cᵀ: 16×4" in words
    assert any(word.startswith("y1 = w00·x1 + w01·x2 + w02·x3 + w10·x5") for word in words)
    tags = {shape.tag for shape in drawing.picture(1).shapes if isinstance(shape, Polygon)}
    assert set(drawing.composer.outputs()) <= tags


def test_a_matrix_is_saved_like_any_drawing(tmp_path):
    drawing = pc.draw_matrix("conv 3 1 nobias", input_size=(5,), theme="dark")
    for kind in ("gif", "svg", "png", "html"):
        assert drawing.save(tmp_path / f"matrix.{kind}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maxpool 2x2",), "a maximum is not linear"),
        (
            ("separable 3x3 4",),
            "a matrix is drawn for one convolution, transposed or avgpool layer, got separable 3x3 4",
        ),
        (("relu",), "got relu"),
        (("conv 3x3 1", None, (20, 20)), r"324 rows \(outputs\) and 400 columns \(inputs\), .* at most 64"),
        (("conv 3x3 1 nobias", np.zeros((1, 1, 2, 2)), (4, 4)), r"expected \(1, 1, 3, 3\)"),
        (("conv 3x3 1 nobias relu", None, (4, 4)), "relu is not linear"),
    ],
)
def test_what_has_no_drawn_matrix(arguments, message):
    with pytest.raises(ValueError, match=message):
        pc.draw_matrix(*arguments)
