"""Drawings as SVG: valid, labelled, escaped, inside their canvas, and a few small ones kept as text."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import oracle
import polyconv as pc
import strategies
from polyconv.see.kinds import EXAMPLES
from polyconv.see.lettering import measure
from polyconv.see.shapes import Line, Picture, Polygon, Text
from polyconv.see.svg import svg
from polyconv.see.theme import THEMES

GOLDEN = Path(__file__).parent / "golden"
SPACE = "{http://www.w3.org/2000/svg}"
by_kind = pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)


def extent(text: Text) -> tuple[float, float]:
    """Left and right of a text, in the font that pixels are drawn with."""
    wide = measure(text.text, text.size)
    left = text.x - {"start": 0.0, "middle": wide / 2, "end": wide}[text.anchor]
    return left, left + wide


def problems(picture: Picture) -> list[str]:
    """What is cut off, too small to read, or wider than its box."""
    found = []
    for shape in picture.shapes:
        if isinstance(shape, Text):
            left, right = extent(shape)
            if (
                left < 0
                or right > picture.width
                or shape.y - shape.size < 0
                or shape.y + shape.size * 0.3 > picture.height
            ):
                found.append(f"outside the canvas: {shape}")
            if right - left > shape.box:
                found.append(f"wider than its box: {shape}")
            if shape.size < 8.5:
                found.append(f"too small: {shape}")
        else:
            assert isinstance(shape, Polygon | Line)
            if not all(-1 <= x <= picture.width + 1 and -1 <= y <= picture.height + 1 for x, y in shape.points):
                found.append(f"outside the canvas: {shape}")
    return found


@by_kind
@pytest.mark.parametrize("theme", THEMES)
def test_every_kind_is_whole_and_labelled(example, theme):
    drawing = example.draw(theme=theme, max_frames=24)
    for picture in drawing.frames:
        assert problems(picture) == []
        root = ET.fromstring(svg(picture))
        words = [node.text for node in root.iter(f"{SPACE}text")]
        assert "input" in words
        joined = " ".join(word or "" for word in words)
        assert "output of this operation" in joined
        assert (root.get("width"), root.get("height")) == (str(picture.width), str(picture.height))
        assert root.find(f"{SPACE}title").text == f"polyconv: {example.text}"


def test_the_checker_sees_what_is_cut_off():
    words = Text(590, 20, "beyond the edge", 12, "#000000")
    narrow = Text(10, 20, "wider than its box", 12, "#000000", box=30)
    tiny = Text(10, 20, "a", 4, "#000000")
    bad = Picture(600, 100, "#ffffff", (words, narrow, tiny, Line(((0, 0), (0, 200)), "#000000")), "t", "d")
    assert len(problems(bad)) == 4


def test_numbers_do_not_touch_each_other_in_large_grids():
    drawing = pc.network("conv 3x3 1 padding 1").draw((14, 13), x=np.arange(14.0 * 13).reshape(1, 14, 13) * 1.37)
    for shape in drawing.picture().shapes:
        if isinstance(shape, Text) and shape.anchor == "middle":
            left, right = extent(shape)
            assert right - left <= shape.box


def test_hostile_text_is_never_markup():
    picture = Picture(
        100, 50, "#ffffff", (Text(5, 20, '<script>alert("&")</script>\x00\x1b', 12, "#000000"),), "<a>", "]]>"
    )
    text = svg(picture)
    assert "<script" not in text
    root = ET.fromstring(text)
    assert root.find(f"{SPACE}text").text == '<script>alert("&")</script>��'
    assert root.find(f"{SPACE}title").text == "<a>"


@pytest.mark.parametrize(
    ("name", "text", "size", "options"),
    [
        ("standard", "conv 2x2 1", (3, 3), {}),
        ("stamp", "transposed 2 1 stride 2", (2,), {}),
        ("slide_dark", "transposed 2 1 stride 2 padding 1", (3,), {"view": "slide", "theme": "dark"}),
        ("volume", "maxpool 2x1x2", (2, 2, 2), {}),
    ],
)
def test_golden(name, text, size, options):
    """UPDATE_GOLDEN=1 writes them anew; then look at the diff."""
    made = svg(pc.network(text).draw(size, **options).picture())
    path = GOLDEN / f"{name}.svg"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(made)
    assert len(made.splitlines()) < 100
    assert made == path.read_text()


def test_a_large_drawing_says_why_it_is_refused():
    with pytest.raises(ValueError, match=r"64x64 cells of input .* do not fit a drawing 600 wide"):
        pc.network("conv 3x3 1").draw((64, 64))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(strategies.convs(), strategies.pools(True), strategies.pools(False), strategies.conv_transposes()),
    st.data(),
)
def test_any_layer_is_drawn_whole_or_refused_with_a_sentence(case, data):
    """With numbers of any length in its cells."""
    kind = "conv" if len(case.arrays) == 3 and "output_padding" not in case.options else "transposed"
    options = {k: v for k, v in case.options.items() if k != "layout"}
    x = case.x if case.options["layout"] == "channels_first" else np.moveaxis(case.x, -1, 1)
    x = np.random.default_rng(x.size).normal(size=x.shape[1:]) * data.draw(st.sampled_from([1.0, 1e-4, 1e9]))
    if "kernel_size" in options:
        options["kernel_size"] = oracle.per_axis(options["kernel_size"], x.ndim - 1)
        layer = pc.Pool(kind="avg" if "count_include_pad" in options else "max", **options)
        weights = {}
    else:
        weight, bias = (None if a is None else np.asarray(a) * 1.37 for a in case.arrays[1:])
        out = len(weight) if kind == "conv" else weight.shape[1] * options["groups"]
        make = pc.Conv if kind == "conv" else pc.ConvTranspose
        layer = make(kernel_size=weight.shape[2:], out_channels=out, bias=bias is not None, **options)
        weights = {"0.weight": weight} | ({} if bias is None else {"0.bias": bias})
    view = data.draw(st.sampled_from(["stamp", "slide"]))
    try:
        drawing = pc.Network((layer,)).draw(x=x, weights=weights, view=view, max_frames=4)
    except ValueError as error:
        event(str(error).partition(":")[0])
        return
    for picture in drawing.frames:
        assert problems(picture) == []
        ET.fromstring(svg(picture))
