"""Runs what the pages show: every ``python`` block, and each line of a ``console`` block that starts with ``polyconv``.

A page's Python blocks share their names, from top to bottom. What a block prints, or the value of its last expression,
is shown under it. An error is a warning of Sphinx with the block's place, and so fails the build.
"""

from __future__ import annotations

import ast
import contextlib
import io
import shlex
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from polyconv.cli import commands, show

logger = logging.getLogger(__name__)
NOT_RUN = ("gallery/", "api")  # Sphinx-Gallery runs its own; docstrings are run by the tests
WIDTH = 106  # of what commands print


def run_page(app: Sphinx, doctree: nodes.document) -> None:
    """Run the blocks of a page that was just read."""
    if app.env.docname.startswith(NOT_RUN):
        return
    blocks = [node for node in doctree.findall(nodes.literal_block) if node.get("language") in ("python", "console")]
    if not blocks:
        return
    names: dict[str, Any] = {"__name__": "__page__"}
    with _elsewhere():
        for block in blocks:
            try:
                if block["language"] == "python":
                    said = run_python(block.astext(), names, f"{app.env.docname}, line {block.line}")
                else:
                    said = run_console(block.astext())
            except Exception:  # whatever it is, it is told with its place
                logger.warning("the code fails:\n%s", traceback.format_exc(limit=-2), location=block)
                continue
            if said:
                _show(block, said)


def run_python(code: str, names: dict[str, Any], where: str) -> str:
    """What a piece of Python prints, with the value of its last expression."""
    tree = ast.parse(code, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
            if value is not None and not isinstance(value, Path):  # a file written needs no telling
                print(repr(value))
    return printed.getvalue().rstrip()


def run_console(text: str) -> str:
    """What the lines that start with ``polyconv`` print; another exit status than 0 is an error."""
    said = []
    for line in text.splitlines():
        if not line.startswith("polyconv "):
            continue
        done = CliRunner().invoke(commands, shlex.split(line, comments=True)[1:], prog_name="polyconv")
        if done.exit_code != 0:
            raise ValueError(f"{line} ended with status {done.exit_code}: {done.output}")
        said.append(done.output.rstrip())
    return "\n\n".join(said)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In an empty folder with a picture, and with lines of a fixed length."""
    with (
        mock.patch.object(show, "PLAIN_WIDTH", WIDTH),
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        resources.as_file(resources.files("polyconv") / "data" / "chelsea.jpg") as source,
    ):
        shutil.copy(source, Path(folder) / "picture.jpg")
        yield


def _show(block: nodes.literal_block, said: str) -> None:
    """Put the output after its block."""
    output = nodes.literal_block(said, said, language="text", classes=["output"])
    block.parent.insert(block.parent.index(block) + 1, output)


def setup(app: Sphinx) -> None:
    """Register the run of each page."""
    app.connect("doctree-read", run_page)
