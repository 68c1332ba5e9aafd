"""The directives ``{commands}``, the help of every command, and ``{made}``, a page that a command writes."""

from __future__ import annotations

import contextlib
import shlex
from html import escape
from pathlib import Path

from click.testing import CliRunner
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from polyconv.cli import commands
from polyconv_docs.pictures import FOLDER


def output_of(*arguments: str) -> str:
    """What ``polyconv ARGUMENTS`` prints; another exit status than 0 is an error."""
    done = CliRunner().invoke(commands, arguments, prog_name="polyconv", terminal_width=92)
    if done.exit_code != 0:
        raise ValueError(f"polyconv {shlex.join(arguments)} ended with status {done.exit_code}: {done.output}")
    return done.output.strip("\n")


class CommandsDirective(SphinxDirective):
    """A section for each command, in the order of ``polyconv --help``."""

    def run(self) -> list[nodes.Node]:
        """Ask each command."""
        return [_block(output_of("--help")), *[self._section(name) for name in commands.commands]]

    def _section(self, name: str) -> nodes.section:
        title = f"polyconv {name}"
        made = nodes.section("", nodes.title("", title), ids=[f"polyconv-{name}"])
        made["names"].append(nodes.fully_normalize_name(title))
        self.state.document.note_explicit_target(made)
        made += _block(output_of(name, "--help"))
        return made


def _block(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text")


class MadeDirective(SphinxDirective):
    """``{made} COMMAND ... FILE.html``: runs a command that writes a page of its own; the content is the link to it."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write the page beside the pictures."""
        arguments = shlex.split(self.arguments[0])
        name = next(part for part in arguments if part.endswith(".html"))
        folder = Path(self.env.app.outdir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            output_of(*arguments)
        up = "../" * self.env.docname.count("/")
        link = f'<p><a class="made" href="{up}{FOLDER}/{name}">{escape(" ".join(self.content))}</a></p>'
        return [nodes.raw("", link, format="html")]


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("commands", CommandsDirective)
    app.add_directive("made", MadeDirective)
