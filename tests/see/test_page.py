"""The page in a real browser: step, slide, pin, keys; nothing is asked of any host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polyconv as pc
from browsing import Visit, expect
from polyconv.see.kinds import EXAMPLES
from polyconv.see.sums import sums
from polyconv.see.svg import svg
from polyconv.see.theme import THEMES


def saved(text: str, folder: Path, *size: Any, **options: Any) -> tuple[pc.Network, Path]:
    drawing = pc.network(text).draw(*size, **options)
    return drawing, drawing.save(folder / "page.html")


def test_step_slide_and_keys(chromium, tmp_path):
    drawing, path = saved("conv 3x3 2 stride 2 padding 1", tmp_path, (5, 5), 2)
    visit = Visit(chromium, path.as_uri(), reduced_motion="reduce")
    page, count = visit.page, len(drawing.frames)
    where = lambda: int(page.locator("#where").inner_text())  # noqa: E731
    assert where() == 1
    page.click("#forward")
    page.click("#forward")
    assert where() == 3
    page.click("#back")
    assert where() == 2
    page.click("#last")
    assert where() == count
    page.keyboard.press("ArrowLeft")
    assert where() == count - 1
    page.keyboard.press("Home")
    assert where() == 1
    page.locator("#step").fill("7")
    assert where() == 8
    words = page.locator("#picture svg text").all_text_contents()
    assert drawing.composer.scene.frames[7].lines[0] in words
    assert "input" in words
    assert "output of this operation" in words
    visit.close()


def test_play_pause_and_reduced_motion(chromium, tmp_path):
    _, path = saved("conv 3x3 1", tmp_path, (5, 5))
    still = Visit(chromium, path.as_uri(), reduced_motion="reduce")
    still.page.wait_for_timeout(900)
    assert still.page.locator("#where").inner_text() == "1"
    still.close()
    moving = Visit(chromium, path.as_uri(), reduced_motion="no-preference")
    expect(moving.page.locator("#where")).not_to_have_text("1")
    moving.page.select_option("#speed", "4")
    moving.page.click("#play")
    assert moving.page.locator("#play").get_attribute("aria-label") == "Play"
    before = moving.page.locator("#where").inner_text()
    moving.page.wait_for_timeout(600)
    assert moving.page.locator("#where").inner_text() == before
    moving.close()


@pytest.mark.parametrize("view", ["slide", "stamp"])
def test_click_an_output_to_pin_its_sum(chromium, tmp_path, view):
    drawing, path = saved("transposed 3x3 1 stride 2", tmp_path, (3, 3), view=view)
    visit = Visit(chromium, path.as_uri(), reduced_motion="reduce")
    page = visit.page
    page.locator('[data-cell="0:0:2,2"]').click()
    line = page.locator("#lines p").first.inner_text()
    assert page.locator("#which").inner_text().endswith("output channel 0, position (2, 2)")
    total = line.rpartition("= ")[2].replace("−", "-")
    assert float(total) == drawing.composer.scene.values[1][0, 2, 2]
    pinned = page.locator("#pin > *")
    assert pinned.count() == 1
    page.click("#first")
    assert pinned.count() == 1
    page.keyboard.press("Escape")
    assert pinned.count() == 0
    page.keyboard.press("p")
    assert page.locator("#lines p").count() == 1
    visit.close()


def test_every_control_has_a_name_and_the_page_fits_a_phone(chromium, tmp_path):
    _, path = saved("conv 3x3 2 | maxpool 3x3", tmp_path, (11, 11), theme="dark")
    visit = Visit(chromium, path.as_uri(), reduced_motion="reduce", viewport={"width": 375, "height": 700})
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for control in page.locator("button:visible, select, input").all():
        named = "e => e.getAttribute('aria-label') || (e.labels[0] || e).textContent.trim()"
        assert control.evaluate(named)
    assert page.locator("svg[role=img] > title").count() == 1
    visit.close()


COLOUR = "e => getComputedStyle(e).fill"
GROUPS = "conv 1x1 4 groups 2 | conv 1x1 4 groups 2"


@pytest.mark.parametrize("made", ["auto", "light", "dark"])
@pytest.mark.parametrize("wanted", ["light", "dark"])
def test_a_page_follows_its_reader_where_no_theme_was_asked_for(chromium, tmp_path, made, wanted):
    _, path = saved("conv 3x3 1", tmp_path, (4, 4), theme=made)
    theme = THEMES[wanted if made == "auto" else made]
    rgb = lambda c: f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:7], 16)})"  # noqa: E731
    visit = Visit(chromium, path.as_uri(), reduced_motion="reduce", color_scheme=wanted)
    cell = visit.page.locator('[data-cell="0:0:0,0"]')
    assert cell.evaluate(COLOUR) == rgb(theme.output_loud)
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == rgb(theme.background)
    assert visit.page.locator("#picture svg text").first.evaluate(COLOUR) == rgb(theme.ink)
    visit.page.click("#forward")
    assert cell.evaluate(COLOUR) == rgb(theme.output)
    visit.close()


@pytest.mark.parametrize("wanted", ["light", "dark"])
def test_coloured_maps_have_one_for_each_reader(chromium, tmp_path, wanted):
    path = pc.draw_correlation(GROUPS, in_channels=2).save(tmp_path / "page.html")
    visit = Visit(chromium, path.as_uri(), reduced_motion="reduce", color_scheme=wanted)
    shown = [image.is_visible() for image in visit.page.locator("image").all()]
    assert shown == [wanted == "light", wanted == "dark"] * 2
    assert not visit.page.locator(".controls").is_visible()  # one picture: nothing to play or to point at
    assert not visit.page.locator("#pinned").is_visible()
    visit.close()


def test_the_films_speed_is_the_pages(chromium, tmp_path):
    path = pc.network("conv 3x3 1").draw((5, 5)).save(tmp_path / "page.html", fps=0.1)
    visit = Visit(chromium, path.as_uri(), reduced_motion="no-preference")
    visit.page.wait_for_timeout(800)
    assert visit.page.locator("#where").inner_text() == "1"
    visit.close()
    visit = Visit(
        chromium, pc.network("conv 3x3 1").draw((5, 5)).save(path, fps=30).as_uri(), reduced_motion="no-preference"
    )
    expect(visit.page.locator("#where")).to_have_text(re.compile("[4-9]"))
    visit.close()


FITS = """() => {
  const all = document.querySelector("svg").getBoundingClientRect(), out = [];
  const words = [...document.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
  for (const [text, box] of words) if (box.left < all.left || box.right > all.right || box.bottom > all.bottom) out.push(text);
  words.forEach(([one, a], n) => words.slice(n + 1).forEach(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 2 && high > 4) out.push(`${one} over ${other}`);
  }));
  return out;
}"""  # noqa: E501


def test_words_fit_in_a_browsers_own_font(chromium):
    """Helvetica is rarely there: what a browser takes instead is up to a sixth wider."""
    long = "conv 3x3 2 same | conv 3x3 2 same relu | maxpool 2x2"
    drawings = [example.draw(max_frames=6) for example in EXAMPLES]
    drawings += [pc.network(long).draw((6, 6), flip=True, max_frames=6), pc.draw_correlation(long, in_channels=2)]
    drawings += [pc.draw_field(long), pc.draw_features(long), pc.draw_matrix("conv 3x3 1 nobias", input_size=(4, 4))]
    visit = Visit(chromium, None, viewport={"width": 640, "height": 1200})
    for drawing in drawings:
        visit.page.set_content(f"<body style='margin:0'>{svg(drawing.picture())}")
        assert visit.page.evaluate(FITS) == [], drawing
    visit.page.evaluate("document.querySelector('text').textContent = 'x'.repeat(200)")
    assert visit.page.evaluate(FITS) != []  # the check can fail
    visit.close()


def test_a_notebook_frame_runs_its_player(chromium, tmp_path):
    drawing = pc.network("conv 3x3 1").draw((4, 4))
    (tmp_path / "book.html").write_text(f"<!doctype html><title>book</title>{drawing._repr_html_()}")
    visit = Visit(chromium, (tmp_path / "book.html").as_uri(), reduced_motion="reduce")
    frame = visit.page.frame_locator("iframe")
    frame.locator("#first").click()
    frame.locator("#forward").click()
    assert frame.locator("#where").inner_text() == "2"
    visit.close()


# -- without a browser -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_kind_makes_a_page_that_stands_alone(example, tmp_path):
    drawing = example.draw(max_frames=6)
    text = drawing.save(tmp_path / "page.html").read_text()
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)(?:https?:|//)", text)
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S)[1])
    assert len(data["frames"]) == len(data["said"]) == len(drawing.frames)
    assert max(number for frame in data["frames"] for number in frame) == len(data["shapes"]) - 1
    assert "%%" not in text.replace(json.dumps(data), "").split("<script>")[0]
    tags = {tag for shape in data["shapes"] for tag in re.findall(r'data-cell="([^"]*)"', shape)}
    assert set(data["outputs"]) <= tags


def test_hostile_contents_are_never_markup(tmp_path):
    drawing = pc.network("conv 3x3 1").draw((4, 4))
    object.__setattr__(
        drawing.composer.scene, "title", '</script><script>alert("1")</script><img src=x onerror=alert(1)>'
    )
    text = drawing.save(tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert text.count("<script") == 2
    assert "srcdoc" in drawing._repr_html_()
    assert "<img" not in drawing._repr_html_()


@pytest.mark.parametrize("text", ["conv 3x3 2 padding 1", "transposed 3x3 2 stride 2 padding 1 relu", "maxpool 2x2"])
def test_sums_reach_the_outputs(text):
    made = pc.network(text).draw((4, 4), 2).composer.scene
    found = sums(made)
    data = [key for key in found if made.steps[0].outputs[0].kinds[key[2]] == 0]
    assert len(data) == made.values[1].size
    for _, channel, cell in data:
        position = tuple(c + low for c, low in zip(cell, made.steps[0].outputs[0].low, strict=True))
        said = found[0, channel, cell].lines[-1].replace("−", "-").split(" ")[-1]
        np.testing.assert_allclose(float(said), made.values[1][(channel, *position)], rtol=0.01)
