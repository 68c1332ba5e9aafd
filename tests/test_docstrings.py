"""The examples of the public docstrings run, and every public function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import polyconv as pc

SKIPPED = {"polyconv.__main__"}  # running it is the command


def modules() -> list[str]:
    return ["polyconv", *(m.name for m in pkgutil.walk_packages(pc.__path__, "polyconv.") if m.name not in SKIPPED)]


@pytest.mark.parametrize("name", modules())
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an example saves, it saves there
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", [n for n in pc.__all__ if callable(getattr(pc, n))])
def test_public_functions_and_classes_show_an_example(name):
    thing = getattr(pc, name)
    assert ">>> " in (inspect.getdoc(thing) or ""), f"polyconv.{name} has no example in its docstring"


def test_a_wrong_example_fails():
    def wrong() -> None:
        """Sum.

        >>> 1 + 1
        3
        """

    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder().find(wrong, "wrong"):
        runner.run(test, out=lambda _: None)
    assert runner.failures == 1
