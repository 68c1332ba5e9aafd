"""Docstrings are plain text with Google's sections; this keeps reStructuredText from reading more into them."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

PROPERTIES = ("property", "attribute", "data")
KEPT = "polyconv_docs.docstring"
LITERAL = re.compile(r"(``.*?``)")


def as_plain(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Stars are stars."""
    inside = False  # of an example, up to the next empty line
    for number, line in enumerate(lines):
        inside = line.strip().startswith(">>>") or (inside and bool(line.strip()))
        if not inside:
            parts = LITERAL.split(line)
            lines[number] = "".join(part if part.startswith("``") else part.replace("*", r"\*") for part in parts)
    if what in PROPERTIES:
        app.env.temp_data[KEPT] = list(lines)


def as_was(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A property's first sentence may have a colon in it: Napoleon takes what stands before it for a type."""
    if what in PROPERTIES:
        lines[:] = app.env.temp_data.pop(KEPT)


def setup(app: Sphinx) -> None:
    """Before and after Napoleon, which reads the sections."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", as_plain, priority=400)
    app.connect("autodoc-process-docstring", as_was, priority=600)
