"""Filters of neighbouring layers: how far they go together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import polyconv as pc
from polyconv.cli import commands
from polyconv.count.correlation import neighbours, of_noise, of_responses
from polyconv.see.shapes import Polygon, Raster, Text

GROUPED = "conv 3x3 16 same groups 4 relu | conv 3x3 8 same groups 4"
DENSE = "conv 3x3 16 same relu | conv 3x3 8 same"


def of(text, channels, seed=0, ndim=2):
    net = pc.network(text)
    return of_noise(net, net.weights(channels, seed, ndim=ndim), channels, ndim)


def test_four_groups_are_exactly_four_blocks_and_a_dense_layer_is_none():
    (grouped,) = of(GROUPED, 8)
    blocks = np.kron(np.eye(4, dtype=bool), np.ones((2, 4), bool))
    np.testing.assert_array_equal(grouped.inside, blocks)
    assert (grouped.values[~blocks] == 0).all()
    assert (grouped.values[blocks] != 0).all()
    (dense,) = of(DENSE, 8)
    assert (dense.values != 0).all()
    assert dense.inside.all()


def test_groups_after_a_dense_layer_share_its_inputs_so_that_blocks_are_not_exact():
    (found,) = of("conv 3x3 16 same | conv 3x3 8 same groups 4", 3)
    assert (found.values[~found.inside] != 0).all()
    assert np.abs(found.values[found.inside]).mean() > np.abs(found.values[~found.inside]).mean()


@pytest.mark.parametrize(
    ("text", "ndim"),
    [
        ("conv 3x2 6 stride 2 padding 1 relu | conv 2x3 4 dilation 2x1", 2),
        ("conv 3x3 6 groups 2 | maxpool 2x2 | depthwise 3x3 multiplier 2", 2),
        ("transposed 3 4 stride 2 | conv 3 6 dilation 2", 1),
        ("conv 3 4 | transposed 4 6 stride 3 groups 2", 1),
        ("conv 2x2x2 3 | conv 1x2x1 2", 3),
    ],
)
def test_it_is_what_many_samples_of_noise_say(text, ndim):
    """The two layers run on many small arrays of noise, and NumPy's own correlation of what comes out."""
    net = pc.network(text)
    weights = net.weights(2, seed=3, dtype="float64", ndim=ndim)
    (found,) = of_noise(net, weights, 2, ndim)
    bare = [dataclasses.replace(net.nodes[n].layer, activation=None) for n in (found.first, found.second)]
    turned = any(isinstance(layer, pc.ConvTranspose) for layer in bare)
    size = [2 * n + 1 if turned else n for n in pc.receptive_field(pc.Network(tuple(bare))).size]
    x = np.random.default_rng(0).standard_normal((6000, 2, *size))
    for index, layer in zip((found.first, found.second), bare, strict=True):
        groups = layer.groups or x.shape[1]
        run = pc.conv_transpose if isinstance(layer, pc.ConvTranspose) else pc.conv
        options = {"stride": layer.strides_for(ndim), "dilation": layer.dilations_for(ndim), "groups": groups}
        before, x = x, run(x, weights[f"{net.nodes[index].name}.weight"], **options)
    middle = x[(..., *(n // 2 for n in x.shape[2:]))]  # (samples, filters)
    rows = len(middle.T)
    places = before.reshape(len(before), before.shape[1], -1)
    ones = np.eye(places.shape[2]).reshape(-1, 1, *before.shape[2:]).repeat(before.shape[1], axis=1)
    reach = run(ones, np.ones_like(weights[f"{net.nodes[index].name}.weight"]), **options)
    read = np.flatnonzero(reach[(slice(None), 0, *(n // 2 for n in x.shape[2:]))])
    every = [np.corrcoef(middle.T, places[:, :, n].T)[:rows, rows:] for n in read]
    best = np.take_along_axis(np.stack(every), np.abs(np.stack(every)).argmax(axis=0)[None], axis=0)[0]
    strong = np.abs(found.values) > 0.2
    np.testing.assert_allclose(np.abs(found.values[strong]), np.abs(best[strong]), atol=0.06)
    assert np.abs(best[~strong]).max(initial=0) < 0.25
    assert strong.any()


def test_who_reads_whom():
    net = pc.network("conv 3x3 8 relu | maxpool 2x2 | add(identity, separable 3x3 8 same) | conv 3x3 4")
    named = [(net.nodes[a].name, net.nodes[b].name) for a, b in neighbours(net)]
    assert named == [("0", "2.1.0.depthwise"), ("2.1.0.depthwise", "2.1.0.pointwise")]  # none through the sum


def test_a_filter_that_copies_a_channel_goes_with_it_fully():
    weight = np.array([[0, 0, 1], [-2, 0, 0], [0, 3, 0]])[:, :, None, None] * 1.0
    drawing = pc.draw_correlation(
        "conv 1x1 3 nobias | conv 1x1 3 nobias",
        {"0.weight": np.eye(3)[:, :, None, None], "1.weight": weight},
        over="photograph",
    )
    (pair,) = drawing.composer.pairs
    np.testing.assert_allclose([pair.values[0, 2], pair.values[1, 0], pair.values[2, 1]], (1, -1, 1))
    (noise,) = pc.draw_correlation(
        "conv 1x1 3 nobias | conv 1x1 3 nobias", {"0.weight": np.eye(3)[:, :, None, None], "1.weight": weight}
    ).composer.pairs
    np.testing.assert_array_equal(noise.values, np.sign(weight[:, :, 0, 0]))


def test_responses_at_the_tap_they_read():
    x = np.random.default_rng(1).standard_normal((1, 3, 40))
    layer = pc.network("conv 3 2 stride 2 padding 2:1 nobias").stages[0]
    weight = np.zeros((2, 3, 3))
    weight[0, 1, 2], weight[1, 2, 0] = 1, -1
    y = pc.conv(x, weight, stride=2, padding=((2, 1),))
    found = of_responses(layer, x[0], y[0])
    np.testing.assert_allclose([found[0, 1], found[1, 2]], (1, -1))
    assert np.abs(found[0, [0, 2]]).max() < 0.8


def test_a_channel_that_never_varies_correlates_with_nothing():
    weights = pc.network(GROUPED).weights(8)
    weights["0.weight"][5] = 0
    (pair,) = of_noise(pc.network(GROUPED), weights, 8, 2)
    assert (pair.values[:, 5] == 0).all()
    assert np.isfinite(pair.values).all()


def test_the_picture_outlines_the_groups_and_says_whose_weights():
    drawing = pc.draw_correlation(GROUPED, in_channels=8)
    picture = drawing.picture()
    assert "4 groups, outlined" in picture.description
    assert "Random weights, seed 0" in picture.description
    assert sum(isinstance(shape, Raster) for shape in picture.shapes) == 2
    outlines = [s for s in picture.shapes if isinstance(s, Polygon) and s.width == 1.5]
    assert len(outlines) == 4
    given = pc.draw_correlation(GROUPED, pc.network(GROUPED).weights(8, seed=5), theme="dark")
    assert "The given weights" in given.picture().description


def test_wide_layers_are_left_out_and_the_rest_drawn():
    """As AlexNet: two groups before and after a dense layer, a wide classifier at the end."""
    two = "conv 3x3 48 groups 2"
    text = f"conv 3x3 24 | {two} | conv 3x3 48 | {two} | {two} | pointwise 1100"
    drawing = pc.draw_correlation(text, in_channels=3)
    dense, _, third, fourth = drawing.composer.pairs
    assert [pair.groups for pair in drawing.composer.pairs] == [2, 1, 2, 2]
    assert "1 of 5 pairs, of more than 1,024 filters, are left out" in drawing.picture().description
    assert (dense.values[~dense.inside] != 0).all()
    assert np.abs(third.values[third.inside]).mean() > 1.05 * np.abs(third.values[~third.inside]).mean()
    assert (fourth.values[~fourth.inside] == 0).all()


def test_the_scale_is_said_and_fits_weak_correlations():
    words = lambda drawing: [s.text for s in drawing.picture().shapes if isinstance(s, Text)]  # noqa: E731
    strong = pc.draw_correlation("conv 1x1 2 | conv 1x1 2", in_channels=2)
    assert "1" in words(strong)
    assert not any("or more" in word for word in words(strong))
    assert "0.2 or more" in words(pc.draw_correlation("conv 3x3 64 | conv 3x3 64", in_channels=32))


@pytest.mark.parametrize("kind", ["svg", "gif", "html"])
def test_the_command(kind, tmp_path):
    net = pc.network(f"{GROUPED} | pointwise 4")
    np.savez(tmp_path / "w.npz", **net.weights(8))
    target = tmp_path / f"groups.{kind}"
    words = ["draw", str(net), "--correlation", "--weights", str(tmp_path / "w.npz"), "-o", str(target)]
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 0, done.output
    assert "2 frames" in done.output
    if kind == "gif":
        with Image.open(target) as film:
            assert film.n_frames == 2
    done = CliRunner().invoke(commands, ["draw", DENSE, "--correlation", "--over", "photograph", "-o", str(target)])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("conv 3x3 4", "--correlation"), "no two convolutions one after the other"),
        (("concat(conv 3x3 4 same, identity) | conv 3x3 4", "--correlation"), "no two convolutions"),
        (("conv 3x3 4 | conv 3x3 4", "--over", "noise"), "--over belongs to --correlation"),
        (("conv 3x3 4 | conv 3x3 4", "--correlation", "--matrix"), "are different drawings"),
        (("conv 3x3 4000 | conv 3x3 4", "--correlation"), "have 4,000 filters, at most 1,024 are drawn"),
        (("conv 9x9 1024 | conv 9x9 1024", "--correlation"), "multiply-accumulates, at most"),
        (("conv 3x3 4 | conv 3x3 4", "--correlation", "--over", "noise", "--picture", "a.jpg"), "takes no picture"),
        (("conv 3x3x3 4 | conv 1x1x1 4", "--correlation", "--over", "photograph"), "a photograph has 2 axes"),
    ],
)
def test_a_mistake_is_one_sentence(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(commands, ["draw", *words, "-o", "a.svg"])
    assert done.exit_code == 2
    assert message in done.output
    assert list(tmp_path.iterdir()) == []
