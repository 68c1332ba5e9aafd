"""The directive ``{frameworks}``: a network as code of PyTorch, Keras and ONNX, each folded away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from polyconv.see.code import SYSTEMS, code
from polyconv_docs.pictures import shape_of


class FrameworksDirective(SphinxDirective):
    """``{frameworks} NETWORK`` for an input (``:input:``, channels and sizes)."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"input": shape_of}

    def run(self) -> list[nodes.Node]:
        """One folded block for each framework that has the layer."""
        text = " ".join(self.arguments[0].split())
        found: list[nodes.Node] = []
        for system in SYSTEMS:
            try:
                said = code(text, (1, *self.options["input"]), system).rstrip()
            except ValueError as error:
                said = f"# {error}"
            found.append(nodes.raw("", f'<details class="framework"><summary>{system}</summary>', format="html"))
            found.append(nodes.literal_block(said, said, language="py"))  # "python" would be run
            found.append(nodes.raw("", "</details>", format="html"))
        return [nodes.container("", *found, classes=["frameworks"])]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("frameworks", FrameworksDirective)
