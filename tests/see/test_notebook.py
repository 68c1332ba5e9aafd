"""Networks and layers show themselves, whatever they are; themes can be told apart; kinds come on one sheet."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

import polyconv as pc
from polyconv.see import kinds
from polyconv.see.theme import THEMES, between


@pytest.mark.parametrize(
    "text",
    ["conv 3x3 64 stride 2 same relu", "globalpool", "upsample 2", "transposed 4x4 3 stride 2", "separable 3x3 2"],
)
def test_a_layer_shows_itself(text):
    layer = pc.network(text).stages[0]
    assert ET.fromstring(layer._repr_svg_()).tag.endswith("svg")


def test_a_layer_too_large_to_draw_shows_its_text():
    assert pc.Conv(kernel_size=(99, 99), out_channels=1)._repr_svg_() is None


def test_a_network_shows_its_layers():
    text = pc.network("concat(pointwise 2, conv 3x3 2 same) | relu")._repr_html_()
    root = ET.fromstring(text)
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    assert cells[:6] == ["0.0.0", "pointwise 2", "input", "0.1.0", "conv 3x3 2 same", "input"]
    assert cells[6:9] == ["0", "concat", "0.0.0, 0.1.0"]
    assert root.find("{http://www.w3.org/2000/svg}svg") is not None


def test_a_long_network_is_cut_with_a_count():
    root = ET.fromstring(pc.network("90 * (conv 3x3 4 same)")._repr_html_())
    assert "… and 50 more layers" in "".join(root.itertext())
    assert len(list(root.iter("tr"))) == 42


def test_a_comparison_shows_itself():
    comparison = pc.compare("conv 3x3 8 same", (1, 3, 9, 9))
    root = ET.fromstring(f"<div>{comparison._repr_html_()}</div>")
    assert [row[0].text for row in root.find("table/tbody")] == [row.title for row in comparison.rows]
    assert [p.text for p in root.iter("p")] == [comparison.heading, *comparison.remarks()]
    assert any("bottleneck: left out" in p.text for p in root.iter("p"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            pc.network("conv 3x3 8 same").count((1, 3, 9, 9)),
            r"<Report of 'conv 3x3 8 same' for .*224 parameters, 17,496",
        ),
        (pc.compare("conv 3x3 8 same", (1, 8, 9, 9)), r"<Comparison of 'conv 3x3 8 same' with 5 alternatives>"),
        (pc.receptive_field("conv 3x3 8"), r"<ReceptiveField 3x3 stride 1x1 padding 0x0>"),
        (
            pc.network("conv 3 2").bind(pc.network("conv 3 2").weights(1)),
            r"<Model of 'conv 3 2', channels_first, float32>",
        ),
        (pc.network("conv 3 2"), r"network\('conv 3 2'\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_one_line_in_a_console(value, shown):
    assert re.match(shown, repr(value))
    assert "\n" not in repr(value)
    assert len(repr(value)) < 120


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda t: t.name)
def test_words_are_readable_and_marks_survive_print(theme):
    families = (theme.input, theme.input_loud, theme.kernel, theme.kernel_loud, theme.output, theme.output_loud)
    for fill in (*families, theme.background, theme.padding, theme.stuffed, theme.cropped):
        assert contrast(theme.ink, fill) >= 4.5, fill
    for fill in (theme.background, theme.padding, theme.stuffed, theme.cropped):
        assert contrast(theme.faint, fill) >= 4.5, fill
    for quiet, loud in zip(families[::2], families[1::2], strict=True):  # in grey too
        assert contrast(quiet, loud) >= 1.25, (quiet, loud)
    half = between(theme.padding, theme.input_loud, 0.5)
    assert contrast(theme.ink, half) >= 4.5


def test_every_kind_is_on_the_sheet():
    made = kinds.sheet(columns=3)
    assert made.width == 3 * 624 + 24
    assert len({example.name for example in kinds.EXAMPLES}) == len(kinds.EXAMPLES) >= 20
