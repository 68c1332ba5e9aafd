"""Formulas as MathML, which browsers draw themselves: no script, no font, nothing fetched."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(node: nodes.math | nodes.math_block, as_block: bool) -> str:
    """A formula's markup; one that cannot be read is a warning with its place."""
    try:
        markup: str = tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("the formula %r cannot be read: %s", node.astext(), error, location=node)
        return ""
    return markup


def inline(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """A formula on its own."""
    translator.body.append(f'<div class="formula">{mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register MathML as the way formulas are written."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
