"""A page in a real browser, with what it complained of and asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def opened() -> Iterator[Any]:
    """Chromium, where there is one: what the fixture ``chromium`` gives."""
    api = pytest.importorskip("playwright.sync_api", reason="NOT RUN: the tests of pages need playwright")
    if CHROMIUM is None:
        pytest.skip("NOT RUN: the tests of pages need Chromium (apt install chromium)")
    with api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


class Visit:
    """A page from its address; ``close`` fails where it complained, or asked another host for something.

    Args:
        browser: Chromium.
        url: of the page, or None where its contents are set.
        context: of the browser's context, such as ``color_scheme``.
    """

    def __init__(self, browser: Any, url: str | None, **context: Any) -> None:
        self.context = browser.new_context(**{"reduced_motion": "reduce", **context})
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.home = url or "about:blank"
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        if url is not None:
            self.page.goto(url)

    def close(self) -> None:
        """Leave, and see that nothing was wrong."""
        self.context.close()
        assert self.errors == []
        start = self.home.split("?")[0]
        assert [url for url in self.requests if not url.startswith((start, "data:", "blob:"))] == []


def expect(locator: Any) -> Any:
    """Playwright's assertion that waits, long enough for a machine that does much else."""
    import playwright.sync_api as api

    api.expect.set_options(timeout=30_000)
    return api.expect(locator)
