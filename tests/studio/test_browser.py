# ruff: noqa: E501 (the checks that run in the page)
"""The studio in a real browser: type, slide, step, reload, upload, hit the limits, by mouse and by keyboard."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from browsing import Visit, expect
from polyconv.see.studio.server import StudioServer


@pytest.fixture(scope="module")
def server() -> Iterator[StudioServer]:
    made = StudioServer()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


class Studio(Visit):
    """A page of the studio."""

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.page.url).query).items()}

    def figure(self, name: str, value: str) -> None:
        row = self.page.locator("#figures div", has_text=name).first
        expect(row.locator(".value")).to_have_text(value)


@pytest.fixture
def visit(chromium, server) -> Iterator[Studio]:
    made = Studio(chromium, server.url)
    made.figure("output", "2x5x5")
    yield made
    made.close()


def test_type_a_network_and_a_mistake(visit):
    page = visit.page
    page.fill("#net", "conv 3x3 4 stride 2 padding 1 relu")
    visit.figure("output", "4x3x3")
    expect(page.locator("#code")).to_contain_text("nn.Conv2d(1, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))")
    drawn = page.locator("#shapes").inner_html()
    page.fill("#net", "conv 3x3 4 stirde 2")
    expect(page.locator("#problem")).to_contain_text("did you mean 'stride'", ignore_case=True)
    assert page.locator("#problem pre").inner_text().split("\n")[1] == " " * 11 + "^" * 6
    assert page.locator("#net").get_attribute("aria-invalid") == "true"
    assert page.locator("#shapes").inner_html() == drawn  # the last good drawing stays
    page.fill("#net", "conv 3x3 4")
    expect(page.locator("#problem")).to_be_empty()
    visit.figure("output", "4x3x3")


def test_drag_a_slider_and_set_one_axis(visit):
    page = visit.page
    page.locator("#kernel").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#net")).to_have_value("conv 4x4 2 padding 1")
    box = page.locator("#stride").bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 5 + 4, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()
    expect(page.locator("#net")).to_have_value("conv 4x4 2 stride 2 padding 1")
    page.locator("#dilation-0").fill("1")
    page.locator("#kernel-1").fill("3")
    page.locator("#kernel-1").press("Tab")
    expect(page.locator("#net")).to_have_value("conv 4x3 2 stride 2 padding 1")
    visit.figure("receptive field", "4x3")


def test_kinds_axes_and_stages(visit):
    page = visit.page
    page.select_option("#kind", "depthwise")
    expect(page.locator("#net")).to_have_value("depthwise 3x3 padding 1")
    page.select_option("#rank", "3")
    expect(page.locator("#net")).to_have_value("depthwise 3x3x3 padding 1")
    page.select_option("#rank", "1")
    expect(page.locator("#net")).to_have_value("depthwise 3 padding 1")
    page.click("#add")
    expect(page.locator("#stage-1")).to_have_attribute("aria-pressed", "true")
    page.select_option("#kind", "maxpool")
    expect(page.locator("#net")).to_have_value(re.compile(r"depthwise 3 padding 1 \| maxpool 3"))
    page.click("#remove")
    expect(page.locator("#net")).to_have_value("depthwise 3 padding 1")


def test_the_kernel_flipped(visit):
    page = visit.page
    numbers = lambda: page.locator("#shapes text").all_text_contents()  # noqa: E731
    plain = numbers()
    page.check("#flip")
    expect(page.locator("#shapes")).to_contain_text("flipped kernel")
    assert numbers() != plain
    assert visit.query["flip"] == "1"
    page.reload()
    expect(page.locator("#flip")).to_be_checked()
    page.select_option("#kind", "maxpool")
    expect(page.locator("#net")).to_have_value(re.compile("maxpool"))
    expect(page.locator("#shapes")).not_to_contain_text("flipped")
    assert page.locator("#flip").count() == 0


def test_step_pin_and_reload_the_address(visit):
    page = visit.page
    for _ in range(11):
        page.click("#forward")
    expect(page.locator("#where")).to_have_text("12")
    page.locator('[data-cell="0:0:2,1"]').click()
    expect(page.locator("#which")).to_contain_text("position (2, 1)")
    page.click("#tab-compare")
    expect(page.locator("#panel-compare")).to_contain_text("depthwise separable")
    assert visit.query["pin"] == "0:0:2,1"
    said = page.locator("#lines").inner_text()
    page.reload()
    expect(page.locator("#lines")).to_have_text(said)
    expect(page.locator("#where")).to_have_text("12")
    expect(page.locator("#panel-compare")).to_be_visible()
    assert page.locator("#net").input_value() == "conv 3x3 2 padding 1"


def test_play_reaches_frames_that_were_not_there(chromium, server):
    made = Studio(chromium, f"{server.url}?net=conv+3x3+1&input=1x8x8", reduced_motion="no-preference")
    made.page.select_option("#speed", "4")
    expect(made.page.locator("#where")).to_have_text(re.compile("1[0-9]"))
    made.page.click("#play")
    expect(made.page.locator("#play")).to_have_attribute("aria-label", "Play")
    made.close()


def test_pictures(visit, tmp_path):
    from PIL import Image

    page = visit.page
    page.click("#tab-photo")
    Image.new("RGB", (60, 40), (200, 90, 10)).save(tmp_path / "<img onerror=alert(1)>.png".replace("/", ""))
    page.set_input_files("#file", next(tmp_path.glob("*.png")))
    expect(page.locator("#photo-said")).to_contain_text("1x40x60 in, 2x40x60 out")
    expect(page.locator("#after")).to_be_visible()
    assert page.locator("#after").evaluate("e => e.decode().then(() => e.naturalWidth)") > 0
    page.fill("#net", "conv 3x3 1 stride 2 same")
    expect(page.locator("#photo-said")).to_contain_text("1x20x30 out")
    (tmp_path / "no.txt").write_text("this is no picture")
    page.set_input_files("#file", tmp_path / "no.txt")
    expect(page.locator("#photo-said")).to_contain_text("it is no picture")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.gif")
    page.set_input_files("#file", tmp_path / "large.gif")
    expect(page.locator("#photo-said")).to_contain_text("10000 x 10000 pixels are more than")
    page.click("#sample")
    expect(page.locator("#after")).to_be_visible()


def test_limits(visit):
    page = visit.page
    page.fill("#size", "1x1000000x1000000")
    expect(page.locator("#problem")).to_contain_text("the studio takes at most 4,096")
    assert page.locator("#shapes > *").count() > 20
    page.fill("#size", "1x2000x2000")
    expect(page.locator("#note")).to_contain_text("Drawn here on an input of")
    visit.figure("output", "2x2000x2000")


def test_hostile_texts_stay_text(chromium, server):
    made = Studio(chromium, f"{server.url}?net=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&input=%3Cb%3E")
    expect(made.page.locator("#problem")).to_contain_text("<img")
    assert made.page.locator("#problem img").count() == 0
    assert made.page.locator("main b").count() == 0
    assert not made.page.locator("#play").is_visible()  # nothing to play yet
    made.page.fill("#net", "conv 3x3 2")
    made.figure("output", "2x3x3")
    expect(made.page.locator("#play")).to_be_visible()
    made.close()


NAMED = """e => {
  const by = (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)).filter(Boolean);
  const labels = e.labels ? [...e.labels] : [];
  return (e.getAttribute("aria-label") || by.concat(labels).map((one) => one.textContent).join("") || e.textContent).trim();
}"""
FAULTS = """() => {
  const faults = [], ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, n) => ids.indexOf(id) !== n))) faults.push("id twice: " + id);
  for (const name of ["aria-labelledby", "aria-controls", "aria-describedby", "for"])
    for (const e of document.querySelectorAll(`[${name}]`))
      for (const id of e.getAttribute(name).split(" ")) if (!document.getElementById(id)) faults.push(`${name}=${id}`);
  for (const e of document.querySelectorAll("img:not([alt])")) faults.push("no alt");
  if (document.querySelectorAll("h1").length !== 1) faults.push("h1");
  if (!document.documentElement.lang) faults.push("lang");
  const light = (c) => { const [r, g, b] = c.match(/[0-9.]+/g).map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const under = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  for (const e of document.querySelectorAll("main *, header *")) {
    if (!e.checkVisibility() || e.closest("svg, .unseen, :disabled") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(under(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${e.textContent.slice(0, 30)}`);
  }
  return faults;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_contrast_and_a_phones_width(chromium, server, scheme):
    query = "?net=transposed+3x3+4+stride+2+padding+1+%7C+conv+3x3+8+same&input=2x4x4&tab=compare"
    made = Studio(chromium, server.url + query, color_scheme=scheme, viewport={"width": 360, "height": 740})
    page = made.page
    made.figure("output", "8x7x7")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    controls = page.locator("button, select, input, [role=tabpanel], summary, a").all()
    assert len(controls) > 40
    for control in controls:
        assert control.evaluate(NAMED), control.evaluate("e => e.outerHTML")
    for tab in ("code", "layers", "photo", "compare"):
        page.click(f"#tab-{tab}")
        assert page.evaluate(FAULTS) == []
    page.evaluate("document.querySelector('#figures dt').style.color = getComputedStyle(document.body).backgroundColor")
    assert any("contrast" in fault for fault in page.evaluate(FAULTS))  # the check can fail
    made.close()


def test_by_keyboard_alone(visit):
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the drawing"
    page.locator("#tab-code").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-compare"
    page.locator("#net").focus()
    page.keyboard.press("End")
    page.keyboard.type(" p")  # a letter and a space are text here, not the player's keys
    assert page.locator("#net").input_value() == "conv 3x3 2 padding 1 p"
    assert page.locator("#where").inner_text() == "1"


SEEN = """() => {
  const e = document.activeElement, outline = getComputedStyle(e.closest(".file") || e);
  return [e.id || e.textContent.trim(), e === document.body ? "none" : outline.outlineStyle, outline.outlineWidth];
}"""


def test_tab_reaches_every_control_and_each_shows_that_it_does(visit):
    page = visit.page
    visible = "e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && !e.closest('.skip')"
    controls = [c for c in page.locator("button, select, input, [tabindex='0']").all() if c.evaluate(visible)]
    names = {c.evaluate("e => e.id || e.textContent.trim()") for c in controls}
    reached: dict[str, str] = {}
    for _ in range(len(controls) + 5):
        page.keyboard.press("Tab")
        name, style, width = page.evaluate(SEEN)
        reached[name] = f"{style} {width}"
    assert names <= reached.keys(), names - reached.keys()
    assert {shown for name, shown in reached.items() if name in names} == {"solid 3px"}


def test_a_whole_visit_by_keyboard(visit):
    page = visit.page

    def to(name: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == name:
                return
        raise AssertionError(f"Tab never came to {name}")

    to("net")
    page.keyboard.press("Control+A")
    page.keyboard.type("conv 3x3 1")
    visit.figure("output", "1x3x3")
    to("stride")
    page.keyboard.press("ArrowRight")
    visit.figure("output", "1x2x2")
    to("forward")
    page.keyboard.press("Enter")
    expect(page.locator("#where")).to_have_text("2")
    page.keyboard.press("p")
    expect(page.locator("#which")).to_contain_text("position (0, 1)")
    page.keyboard.press("Escape")
    expect(page.locator("#which")).not_to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#where")).to_have_text("4")
    to("tab-code")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-compare")).to_contain_text("depthwise separable")


def test_an_exported_page_stands_alone(chromium, tmp_path):
    from polyconv.cli import commands

    path = tmp_path / "page.html"
    text = "transposed 3x3 1 stride 2"
    done = CliRunner().invoke(
        commands, ["studio", "--export", str(path), text, "--input", "3x3"], catch_exceptions=False
    )
    assert done.output.startswith(f"wrote {path}: ")
    made = Studio(chromium, path.as_uri())
    made.figure("output", "1x7x7")
    made.page.click("#last")
    expect(made.page.locator("#where")).to_have_text("9")
    expect(made.page.locator("#advice")).to_contain_text("not a multiple of stride")
    made.page.click("#system-ONNX")
    expect(made.page.locator("#code")).to_contain_text("ConvTranspose")
    assert not made.page.locator("#builder").is_visible()
    assert made.page.evaluate(FAULTS) == []
    made.close()


def test_the_command_refuses_before_it_writes(tmp_path):
    from polyconv.cli import commands

    for arguments, said in (
        (["--export", str(tmp_path / "page.txt"), "conv 3x3 1"], "extension"),
        (["--export", str(tmp_path / "page.html"), "conv 3x3 1", "--input", "1000000x5"], "at most 4,096"),
        (["--port", "99999"], "99999"),
    ):
        done = CliRunner().invoke(commands, ["studio", *arguments])
        assert done.exit_code != 0
        assert said in done.output + str(done.exception)
    assert list(tmp_path.iterdir()) == []
