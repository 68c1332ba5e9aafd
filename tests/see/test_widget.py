"""The widget: its traits in Python, and its script in a real browser with the real traits behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import polyconv as pc
from browsing import Visit

NEEDS = "NOT RUN: the widget's tests need anywidget"


@pytest.fixture
def player() -> Any:
    pytest.importorskip("anywidget", reason=NEEDS)
    return pc.widget("conv 3x3 1", (5, 5), seed=1)


def test_traits_are_checked(player):
    from traitlets import TraitError

    assert (player.notation, player.frame, player.count, player.playing) == ("conv 3x3 1", 0, 9, False)
    player.frame, player.speed, player.pinned = 8, 2, "0:0:1,2"
    assert player.lines == player.drawing.composer.outputs()["0:0:1,2"].lines
    for name, value, said in (
        ("frame", 9, "the drawing has frames 0 to 8"),
        ("speed", 3.0, "one of 0.5, 1, 2 and 4"),
        ("pinned", "0:0:9,9", "such as '0:0:0,0'"),
    ):
        with pytest.raises(TraitError, match=said):
            setattr(player, name, value)
    assert (player.frame, player.speed, player.pinned) == (8, 2, "0:0:1,2")


def test_another_network_and_a_mistake(player):
    player.frame, player.pinned = 5, "0:0:1,2"
    before = player.page
    player.notation = "conv 3x3 1 stirde 2"
    assert "did you mean 'stride'" in player.problem.lower()
    assert (player.page, player.frame) == (before, 5)  # the last good drawing stays
    player.notation = "conv 3 1"  # the input has two axes
    assert "2" in player.problem
    player.notation = "maxpool 2x2"
    assert (player.problem, player.frame, player.pinned, player.count) == ("", 0, "", 4)
    assert player.drawing.title == "maxpool 2x2"
    assert player.page != before


def test_any_drawing_has_a_player():
    pytest.importorskip("anywidget", reason=NEEDS)
    made = pc.widget(pc.draw_matrix("conv 2x2 1 nobias", input_size=(3, 3)))
    assert (made.notation, made.count) == ("", 4)
    made.pinned = "row:2"
    assert made.lines[0].startswith("y2 = ")
    with pytest.raises(ValueError, match="Give them where it is made"):
        pc.widget(made.drawing, (3, 3))


def test_bad_arguments_are_refused(player):
    with pytest.raises(ValueError, match=r"fps must be a number from 0\.1 to 30, got 0"):
        pc.widget("conv 3x3 1", fps=0)
    with pytest.raises(ValueError, match="1,000,000"):
        pc.widget("conv 3x3 1", (10**6, 10**6))


def test_without_anywidget_the_extra_is_named():
    code = (
        "import sys; sys.modules['anywidget'] = None\nimport polyconv\ntry:\n    polyconv.widget('conv 3x3 1')\n"
        "except ImportError as error:\n    print(error)"
    )
    folder = str(Path(pc.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    assert 'pip install "polyconv[notebook]"' in done.stdout


# What a notebook gives a widget's script: a model whose traits Python holds.
STUB = """async ([esm, traits]) => {
  const values = { ...traits }, dirty = {}, callbacks = {};
  window.stub = {
    get: (key) => values[key],
    set(key, value) { if (values[key] !== value) { values[key] = value; dirty[key] = value; this.fire(key); } },
    save_changes() { const sent = { ...dirty }; for (const key in dirty) delete dirty[key]; window.saved(sent); },
    on: (name, work) => (callbacks[name] ||= []).push(work),
    off: (name, work) => { callbacks[name] = (callbacks[name] || []).filter((one) => one !== work); },
    fire: (key) => (callbacks[`change:${key}`] || []).slice().forEach((work) => work()),
    receive(key, value) { if (values[key] !== value) { values[key] = value; this.fire(key); } },
    listeners: () => Object.values(callbacks).flat().length,
  };
  const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  window.gone = module.default.render({ model: window.stub, el: document.getElementById("cell") });
}"""
SYNCED = ("notation", "page", "problem", "count", "frame", "playing", "speed", "pinned")


class Notebook(Visit):
    """A page with the widget in it, and a kernel that is this process."""

    def __init__(self, browser: Any, player: Any) -> None:
        super().__init__(browser, None)
        self.player = player
        self.waiting: list[dict[str, Any]] = []
        self.page.expose_function("saved", lambda sent: self.waiting.append(sent))
        self.page.set_content('<!doctype html><html lang="en"><title>book</title><div id="cell"></div></html>')
        self.page.evaluate(STUB, [player._esm, {name: getattr(player, name) for name in SYNCED}])
        self.heard: dict[str, Any] = {}
        player.observe(lambda change: self.tell(change["name"]), names=list(SYNCED))
        self.frame = self.page.frame_locator("iframe")
        self.frame.locator("#shapes > *").first.wait_for()

    def tell(self, name: str) -> None:
        if name not in self.heard:  # a notebook sends nothing back to where it came from
            self.page.evaluate("([key, value]) => stub.receive(key, value)", [name, getattr(self.player, name)])

    def until(self, done: Any) -> None:
        """Let both sides talk until something holds."""
        for _ in range(100):
            while self.waiting:
                self.heard = self.waiting.pop(0)
                for key, value in self.heard.items():
                    setattr(self.player, key, value)
                self.heard = {}
            if done():
                return
            self.page.wait_for_timeout(30)
        raise AssertionError("it did not come about")


@pytest.fixture
def notebook(chromium, player):
    made = Notebook(chromium, player)
    yield made
    made.close()


def test_python_sees_what_a_person_does(notebook):
    player, frame = notebook.player, notebook.frame
    frame.locator("#forward").click()
    frame.locator("#forward").click()
    notebook.until(lambda: player.frame == 2)
    frame.locator('[data-cell="0:0:2,1"]').click()
    notebook.until(lambda: player.pinned == "0:0:2,1" and player.frame == 7)
    assert frame.locator("#lines p").all_text_contents() == list(player.lines)
    frame.locator("#speed").select_option("4")
    notebook.until(lambda: player.speed == 4)
    frame.locator("#play").click()
    notebook.until(lambda: player.playing and player.frame != 7)
    frame.locator("#play").click()
    notebook.until(lambda: not player.playing)


def test_a_person_sees_what_python_does(notebook):
    player, frame = notebook.player, notebook.frame
    player.frame = 6
    notebook.until(lambda: frame.locator("#where").inner_text() == "7")
    player.pinned = "0:0:0,1"
    notebook.until(lambda: frame.locator("#which").inner_text().endswith("position (0, 1)"))
    notebook.until(lambda: player.frame == 1)  # where that output is written
    player.playing = True
    notebook.until(lambda: player.frame not in (1, 6))
    player.playing = False
    player.notation = "maxpool 2x2"
    notebook.until(lambda: frame.locator("h1").text_content() == "maxpool 2x2")
    notebook.until(lambda: notebook.page.locator("input").input_value() == "maxpool 2x2")
    assert frame.locator("#where").inner_text() == "1"


def test_a_text_is_typed_and_a_mistake_shown(notebook):
    player, page = notebook.player, notebook.page
    text = page.get_by_label("Network")
    text.fill("conv 2x2 1")
    notebook.until(lambda: player.count == 16)
    text.fill("conv 2x2 <img src=x onerror=alert(1)>")
    notebook.until(lambda: page.get_by_role("alert").is_visible())
    assert "<img" in page.get_by_role("alert").inner_text()
    assert page.locator("img").count() == 0
    assert player.drawing.title == "conv 2x2 1"
    height = page.locator("iframe").bounding_box()["height"]
    assert height > 400  # as high as its content
    page.evaluate("gone()")
    assert page.evaluate("stub.listeners()") == 0
