"""Checks a built site: no page asks another host for anything, and every page works in a browser.

    python docs/check.py docs/_build/html

What a page loads is read off its markup, styles and scripts, and where Chromium and Playwright are there, seen in the
browser, at a phone's width.
"""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ELSEWHERE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
LOADS = {  # tag: attributes whose address the browser fetches by itself
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
NOT_FETCHED = {"canonical", "author", "license", "next", "prev", "index", "search", "help"}  # kinds of <link>
IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)['"]?((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)
IN_SCRIPT = re.compile(r"""(?:fetch|import|importScripts|open)\(\s*['"`]((?:https?:)?//[^'"`]+)""", re.IGNORECASE)
PHONE = {"width": 390, "height": 844}


class Reader(HTMLParser):
    """Collects what a document loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.local: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        self.inside = tag if tag in ("style", "script") else self.inside
        given = {name: value or "" for name, value in attrs}
        self.local += [given[name] for name in ("src", "href") if name in given and not _is_outside(given[name])]
        if "style" in given:
            self.found += IN_STYLE.findall(given["style"])
        if tag == "link" and set(given.get("rel", "").split()) & NOT_FETCHED:
            return
        for name in LOADS.get(tag, ()):
            parts = given.get(name, "").split(",") if name == "srcset" else [given.get(name, "")]
            self.found += [part.strip() for part in parts if ELSEWHERE.match(part)]

    def handle_endtag(self, tag: str) -> None:
        """The end of one element."""
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        """The text of a style or a script."""
        if self.inside == "style":
            self.found += IN_STYLE.findall(data)
        elif self.inside == "script":
            self.found += IN_SCRIPT.findall(data)


def _is_outside(address: str) -> bool:
    """Whether an address is no file of the site."""
    return (
        not address or address.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:|//", address, re.IGNORECASE) is not None
    )


def missing_files(path: Path) -> list[str]:
    """Addresses in a page that name no file of the site."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8", errors="replace"))
    named = (unquote(urlsplit(address).path) for address in reader.local)
    return sorted({name for name in named if name and not (path.parent / name).exists()})


def loaded_from_elsewhere(name: str, text: str) -> list[str]:
    """Addresses on other hosts that a file makes a browser fetch.

    Args:
        name: of the file; its extension says what it is.
        text: its content.
    """
    if name.endswith((".html", ".svg")):
        reader = Reader()
        reader.feed(text)
        return reader.found
    return (IN_STYLE if name.endswith(".css") else IN_SCRIPT).findall(text)


def files(site: Path) -> Iterator[Path]:
    """Every file of the site that can ask for something."""
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".svg", ".css", ".js") and path.is_file():
            yield path


class Quiet(SimpleHTTPRequestHandler):
    """Serves the site without a word."""

    def log_message(self, *args: Any) -> None:
        """Nothing."""


def faults_in_browser(site: Path, pages: Iterable[str]) -> list[str] | None:
    """What goes wrong when the pages are opened; None where there is no browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            visitor = Visitor(browser, home)
            for path in pages:
                visitor.visit(path)
            browser.close()
            return visitor.faults
    finally:
        server.shutdown()
        server.server_close()


class Visitor:
    """A reader with a phone, who notes what goes wrong."""

    def __init__(self, browser: Any, home: str) -> None:
        self.home = home
        self.faults: list[str] = []
        self.page = browser.new_page(viewport=PHONE, reduced_motion="reduce")
        self.page.on("console", lambda m: self.note(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.note(str(error)))
        self.page.on("response", lambda r: self.note(f"status {r.status} for {r.url}") if r.status >= 400 else None)
        self.page.on("request", self.asked)

    def note(self, fault: str) -> None:
        """Keep a fault with its page."""
        self.faults.append(f"{self.page.url.removeprefix(self.home)}: {fault}")

    def asked(self, request: Any) -> None:
        """A request of the page."""
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.note(f"asks another host: {request.url}")

    def visit(self, path: str) -> None:
        """Open a page, and see whether it fits."""
        self.page.goto(self.home + path)
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        if wide > PHONE["width"]:
            self.note(f"is {wide} pixels wide on a phone of {PHONE['width']}")


def main(site: Path) -> int:
    """Check the site in this folder; the exit status."""
    if not (site / "index.html").is_file():
        print(f"there is no site in {site}: build it with scripts/docs", file=sys.stderr)
        return 2
    found = list(files(site))
    faults = [
        f"{path.relative_to(site)}: loads {address}"
        for path in found
        for address in loaded_from_elsewhere(path.name, path.read_text(encoding="utf-8", errors="replace"))
    ]
    faults += [
        f"{path.relative_to(site)}: there is no {name}"
        for path in found
        if path.suffix == ".html" and "_pictures" not in path.parts
        for name in missing_files(path)
    ]
    pages = [str(path.relative_to(site)) for path in found if path.suffix == ".html" and "_pictures" not in path.parts]
    seen = faults_in_browser(site, pages)
    if seen is None:
        print("NOT RUN: opening the pages needs Chromium and playwright (pip install playwright)", file=sys.stderr)
    faults += seen or []
    for fault in faults:
        print(fault, file=sys.stderr)
    pictures = {path.stem for path in site.glob("_pictures/*-light.*")}
    print(f"{site}/index.html: {len(pages)} pages, {len(pictures)} pictures, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build/html")))
