"""The directive ``{polyconv}``: a drawing that moves, in both colour schemes, with a player one click away."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import polyconv as pc
from polyconv.see import film as raster
from polyconv.see.drawing import Drawing
from polyconv.see.page import page
from polyconv.see.shapes import Picture, Raster
from polyconv.see.theme import theme_named
from polyconv_docs.film import film

FOLDER = "_pictures"
THEMES = ("light", "dark")
KINDS = ("work", "matrix", "field", "features", "costs", "correlation")


def shape_of(text: str) -> tuple[int, ...]:
    """The numbers of an option such as ``1x5x5``."""
    return tuple(int(part) for part in text.split("x"))


def kind_of(text: str) -> str:
    """One of ``KINDS``."""
    return directives.choice(text, KINDS)


class film_node(nodes.General, nodes.Element):  # noqa: N801 (docutils finds visitors by this name)
    """A picture: its files' name, its size, and whether it moves."""


def draw(text: str, options: dict[str, Any], theme: str) -> Drawing:
    """The drawing that a directive asks for."""
    kind = options.get("kind", "work")
    channels, *size = options.get("input") or (None,)
    if kind == "costs":
        return pc.draw_costs(pc.compare(text, (1, *options["input"])), theme=theme)
    if kind == "field":
        return pc.draw_field(text, input_size=tuple(size) or None, theme=theme)
    if kind == "features":
        return pc.draw_features(text, input_size=tuple(size) or None, theme=theme)
    if kind == "correlation":
        return pc.draw_correlation(text, in_channels=channels, theme=theme)
    if kind == "matrix":
        return pc.draw_matrix(text, None, tuple(size), in_channels=channels, theme=theme)
    net = pc.network(text)
    given: dict[str, Any] = {}
    if "x" in options:
        given["x"] = np.array(json.loads(options["x"]), dtype=np.float64)
        given["x"] = given["x"].reshape(-1, *given["x"].shape[-(net.ndim or 2) :])
        channels, *size = given["x"].shape
    if "weight" in options:
        given["weights"] = _weights(net, json.loads(options["weight"]), channels)
    given["flip"] = "flip" in options
    for name in ("view", "seed", "max_frames", "max_channels"):
        if name.replace("_", "-") in options:
            given[name] = options[name.replace("_", "-")]
    return net.draw(tuple(size) or None, channels, theme=theme, **given)


def _weights(net: pc.Network, values: Any, channels: int | None) -> dict[str, Any]:
    """The first layer's kernel from its numbers, every bias 0."""
    found = {name: np.zeros(shape) for name, shape in net.parameters(channels or 1, net.ndim or 2).items()}
    first = next(iter(found))
    found[first] = np.broadcast_to(np.array(values, dtype=np.float64), found[first].shape).copy()
    return found


class PolyconvDirective(SphinxDirective):
    """``{polyconv} NETWORK``: the network at work; the content is the caption."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {
        "input": shape_of,  # channels and sizes, such as 1x5x5
        "kind": kind_of,
        "flip": directives.flag,  # the convolution of mathematics
        "view": lambda text: directives.choice(text, ("stamp", "slide")),
        "x": directives.unchanged,  # the input's numbers, as JSON
        "weight": directives.unchanged,  # the kernel's numbers, as JSON
        "seed": int,
        "fps": float,
        "frame": int,  # this frame alone, standing still
        "max-frames": int,
        "max-channels": int,
    }

    def run(self) -> list[nodes.Node]:
        """Draw it in both colour schemes, write the files, and give their place on the page."""
        text = " ".join(self.arguments[0].split())
        folder = Path(self.env.app.outdir) / FOLDER
        key = json.dumps([text, {name: str(value) for name, value in sorted(self.options.items())}])
        name = f"{_slug(text)}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        try:
            node = written(text, self.options, folder, name)
        except (ValueError, TypeError) as error:
            raise self.error(f"{text}: {error}") from error
        figure = nodes.figure(classes=["polyconv"])
        self.set_source_info(figure)
        figure += node
        if self.content:
            caption = nodes.caption("", "")
            children = self.parse_content_to_nodes()
            caption += children[0].children if children else []
            figure += caption
            figure += children[1:]
        return [figure]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48]


def written(text: str, options: dict[str, Any], folder: Path, name: str) -> film_node:
    """Write a drawing's files, and say what is on the page."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Drawing(Kept(draw(text, options, "light").composer))
    extension = save(made, folder / f"{name}-light", options)
    save(Drawing(Kept(draw(text, options, "dark").composer)), folder / f"{name}-dark", options)
    picture = made.picture(options.get("frame"))
    moves = "frame" not in options and len(made.frames) > 1
    return film_node(
        file=name,
        extension=extension,
        title=made.title,
        alt=picture.description,
        width=picture.width,
        height=picture.height,
        moves=moves,
    )


class Kept:
    """A drawing's composer that makes each frame once: the film and the player show the same ones."""

    def __init__(self, composer: Any) -> None:
        self.composer = composer
        self.picture = cache(composer.picture)

    def __getattr__(self, name: str) -> Any:
        """Whatever else it is asked for."""
        return getattr(self.composer, name)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.composer)


def save(drawing: Drawing, stem: Path, options: dict[str, Any]) -> str:
    """A drawing as an animated picture and as a page with a player; the picture's extension."""
    if "frame" in options:
        drawing.save(stem.with_suffix(".svg"), frame=options["frame"])
        return ".svg"
    pictures = list(drawing.frames)
    stem.with_suffix(".html").write_text(page(drawing, options.get("fps", 1.6)), encoding="utf-8")
    if _has_pixels(pictures):
        if len(pictures) > 1:
            stem.with_suffix(".webp").write_bytes(raster.webp(pictures, options.get("fps", 0.8), 1.5))
            drawing.save(stem.with_suffix(".png"), scale=1.5)  # for a reader who wants no motion
        else:
            drawing.save(stem.with_suffix(".webp"), scale=1.5)
        return ".webp"
    text = film(pictures, drawing.composer.still, options.get("fps", 1.6))
    stem.with_suffix(".svg").write_text(text, encoding="utf-8")
    return ".svg"


def _has_pixels(pictures: Sequence[Picture]) -> bool:
    return any(isinstance(shape, Raster) for shape in pictures[0].shapes)


def visit(translator: Any, node: film_node) -> None:
    """The picture of the reader's colour scheme, and what opens its player."""
    up = "../" * translator.builder.current_docname.count("/")
    images = []
    for theme in THEMES:
        stem = f"{up}{FOLDER}/{node['file']}-{theme}"
        image = (
            f'<img class="only-{theme}" src="{stem}{node["extension"]}" alt="{escape(node["alt"])}" '
            f'width="{node["width"]}" height="{node["height"]}" loading="lazy">'
        )
        if node["moves"] and node["extension"] == ".webp":  # the SVG stops by itself
            still = f'<source media="(prefers-reduced-motion: reduce)" srcset="{stem}.png">'
            image = f"<picture>{still}{image}</picture>"
        images.append(image)
    opening = f'<div class="polyconv-stage" tabindex="0" role="group" aria-label="{escape(node["title"])}">'
    translator.body.append(f"{opening}{''.join(images)}</div>")
    if node["moves"]:
        links = "".join(
            f'<a class="polyconv-open only-{theme}" href="{up}{FOLDER}/{node["file"]}-{theme}.html" '
            f'data-ratio="{node["width"] / node["height"]:.4f}">Step through it</a>'
            for theme in THEMES
        )
        translator.body.append(f'<p class="polyconv-controls">{links}</p>')


def skip(translator: Any, node: film_node) -> None:
    """Other formats get the description in words."""
    translator.add_text(node["alt"])


def depart(translator: Any, node: film_node) -> None:
    """Nothing is left to close."""


class GalleryScraper:
    """Finds the drawings and pictures that an example made, for Sphinx-Gallery."""

    def __repr__(self) -> str:
        """Always the same, since Sphinx-Gallery compares its configuration as text."""
        return "GalleryScraper"

    def __call__(self, block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
        """Save what is new in the example's names, and give the text that shows it."""
        import PIL.Image

        shown = block_vars.setdefault("polyconv_shown", [])
        lines = []
        for value in list(block_vars["example_globals"].values()):
            if not isinstance(value, Drawing | PIL.Image.Image) or any(value is other for other in shown):
                continue
            shown.append(value)
            target = Path(next(block_vars["image_path_iterator"]))
            if isinstance(value, PIL.Image.Image):
                value.save(target)
            else:
                value.save(target, scale=1.5)
            lines += _shown(value, target, Path(gallery_conf["src_dir"]))
        return "\n".join(lines)


def _shown(value: Any, target: Path, root: Path) -> list[str]:
    """The picture as it moves, where it does, in both colour schemes, where it has them."""
    if not isinstance(value, Drawing):
        return _image(target, root, "The picture that the code above makes", "polyconv-shown")
    lines = []
    for theme in THEMES:
        drawing = Drawing(Kept(replace(value.composer, theme=theme_named(theme))))
        stem = target.with_name(f"{target.stem}-{theme}")
        extension = save(drawing, stem, {})
        lines += _image(stem.with_suffix(extension), root, value.title, f"polyconv-shown only-{theme}")
    return lines


def _image(path: Path, root: Path, alt: str, classes: str) -> list[str]:
    """An image in reStructuredText."""
    return ["", f".. image:: /{path.relative_to(root).as_posix()}", f"   :alt: {alt}", f"   :class: {classes}", ""]


def setup(app: Sphinx) -> None:
    """Register the directive and its node."""
    app.add_node(film_node, html=(visit, depart), text=(skip, depart))
    app.add_directive("polyconv", PolyconvDirective)
