"""What the site needs beyond Sphinx: polyconv's own pictures, numbers and commands, made when the site is built.

    ```{polyconv} conv 3x3 1 stride 2
    :input: 1x5x5
    The caption.
    ```

draws a network at work (``pictures.py``; ``cards.py`` draws small ones). ``{numbers}`` counts it (``numbers.py``),
``{frameworks}`` writes it in the code of others (``frameworks.py``), ``{commands}`` shows the help of every command
(``commands.py``). Every ``python`` block of a page is run, and so is every line of a ``console`` block that starts with
``polyconv``; what they print is shown under them (``blocks.py``). Formulas become MathML (``formulas.py``).
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from polyconv_docs import blocks, cards, commands, docstrings, formulas, frameworks, numbers, pictures


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of them."""
    for part in (pictures, cards, numbers, commands, blocks, docstrings, formulas, frameworks):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
