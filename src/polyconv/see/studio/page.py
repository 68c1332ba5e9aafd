"""The studio's page: its files for the server, and one stand-alone document of a view."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from polyconv.see.page import POLICY, asset
from polyconv.see.studio.answers import drawn, markup, shown
from polyconv.see.studio.state import State
from polyconv.see.svg import clean

FILES = {
    "/": "text/html",
    "/studio.css": "text/css",
    "/player.css": "text/css",
    "/studio.js": "text/javascript",
    "/player.js": "text/javascript",
}


@cache
def file(path: str) -> bytes:
    """The content of one of ``FILES``."""
    if path == "/":
        links = '<link rel="stylesheet" href="/player.css"><link rel="stylesheet" href="/studio.css">'
        scripts = '<script src="/player.js" defer></script><script src="/studio.js" defer></script>'
        return _document("polyconv studio", links, scripts).encode()
    return (asset(path[1:]) if path.startswith("/player") else _own(path[1:])).encode()


def exported(state: State, fps: float = 2.0) -> str:
    """A view as one document that asks no host for anything, every frame in it, ``fps`` of them a second."""
    view = {**shown(state), "theme": state.theme, "fps": fps}
    _with_every_frame(view, state)
    data = json.dumps(view, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    style = f"<style>{asset('player.css')}\n{_own('studio.css')}</style>"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{clean(POLICY)}">'
    scripts = (
        f'<script id="data" type="application/json">{data}</script>'
        f"<script>{asset('player.js')}\n{_own('studio.js')}</script>"
    )
    return _document(f"{view['title']} · polyconv", policy + style, scripts)


def _with_every_frame(view: dict[str, Any], state: State) -> None:
    """Put in the frames that the server would give when they are asked for."""
    drawing = view["drawing"]
    if "problem" in drawing:
        return
    made, _ = drawn(state)
    for index in range(len(made.frames)):
        drawing["frames"][str(index)], drawing["said"][str(index)] = markup(made, index)


def _document(title: str, head: str, scripts: str) -> str:
    values = {"title": clean(title), "head": head, "controls": asset("controls.html"), "scripts": scripts}
    parts = _own("studio.html").split("%%")
    return "".join(values[part] if index % 2 else part for index, part in enumerate(parts))


def _own(name: str) -> str:
    return (files("polyconv.see.studio") / "assets" / name).read_text(encoding="utf-8")
