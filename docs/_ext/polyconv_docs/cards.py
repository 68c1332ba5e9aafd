"""The directive ``{cards}``: pages beside each other, each with a small picture that stands still."""

from __future__ import annotations

from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from polyconv_docs.pictures import FOLDER, THEMES, draw, shape_of


class CardsDirective(SphinxDirective):
    """One card for each line ``PAGE: NETWORK @ INPUT``, the page in the same folder; its title is the link."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw each, and link to its page."""
        cards = []
        for line in filter(str.strip, self.content):
            page, _, rest = line.partition(":")
            text, _, size = rest.partition("@")
            try:
                cards.append(self._card(page.strip(), text.strip(), {"input": shape_of(size.strip())}))
            except (ValueError, TypeError) as error:
                raise self.error(f"{line}: {error}") from error
        return [nodes.raw("", f'<div class="cards">{"".join(cards)}</div>', format="html")]

    def _card(self, page: str, text: str, options: dict[str, tuple[int, ...]]) -> str:
        source = Path(self.env.doc2path(self.env.docname)).with_name(f"{page}.md")
        title = source.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        self.env.note_dependency(str(source))
        folder = Path(self.env.app.outdir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        up = "../" * self.env.docname.count("/")
        images = []
        for theme in THEMES:
            drawing = draw(text, options, theme)
            drawing.save(folder / f"card-{page}-{theme}.svg")
            address = f"{up}{FOLDER}/card-{page}-{theme}.svg"
            size = f'width="{drawing.composer.width}" height="{drawing.composer.height}"'
            images.append(f'<img class="only-{theme}" src="{address}" alt="" {size} loading="lazy">')
        return f'<a class="card" href="{page}.html"><span>{"".join(images)}</span>{escape(title)}</a>'


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("cards", CardsDirective)
