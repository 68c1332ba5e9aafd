"""How drawn cases are drawn: the same ones on every run, unless another profile is asked for.

``pytest --hypothesis-profile=explore --hypothesis-seed=7`` draws new ones; a failure prints the call that replays it.
Machine code made for the tests is kept beside pytest's own cache, not in the user's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import browsing

_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("suite", max_examples=100, derandomize=True, database=None, **_COMMON)
settings.register_profile("quick", max_examples=15, derandomize=True, database=None, **_COMMON)
settings.register_profile("explore", max_examples=1500, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

os.environ.setdefault("POLYCONV_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "polyconv"))


def pytest_report_header(config: pytest.Config) -> str:
    """Say how the cases of this run were drawn."""
    profile = config.getoption("--hypothesis-profile", default=None) or os.environ.get("HYPOTHESIS_PROFILE", "suite")
    seed = config.getoption("--hypothesis-seed", default=None)
    drawn = "the same cases every run" if settings().derandomize else f"seed {seed or 'new on every run'}"
    return f"drawn cases: profile {profile}, {settings().max_examples} per test, {drawn}"


@pytest.fixture
def studio_stopped(monkeypatch):
    """The studio starts, opens no browser, and is stopped at once as by control-C."""
    import webbrowser

    from polyconv.see.studio.server import StudioServer

    def stopped(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(StudioServer, "serve_forever", stopped)
    monkeypatch.setattr(webbrowser, "open", lambda url: url.startswith("http://127.0.0.1:"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser, where there is one."""
    yield from browsing.opened()
