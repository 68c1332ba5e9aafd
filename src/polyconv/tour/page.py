"""The tour as one self-contained page: pictures and films inlined, no script, no request to anywhere."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import groupby
from string import Template

import numpy as np

from polyconv import __version__
from polyconv._units import amount, gflops, milliseconds, shown_shape
from polyconv.count.render import sizes_text
from polyconv.images import encoded, fitted
from polyconv.run.problem import Array
from polyconv.see.code import code
from polyconv.tour import Visit
from polyconv.tour.animation import SMALL, animation

ENLARGED = 200  # pixels: narrower pictures are enlarged, and each of their pixels is to be seen
BEFORE = 320  # pixels of the photograph beside each result
MOST_KERNELS = 6
KERNEL_PIXELS, BAR_PIXELS = 48, 10
POSITIVE, NEGATIVE = np.array((0.90, 0.38, 0.0)), np.array((0.37, 0.24, 0.60))  # told apart by the colour-blind too


def page(visits: Sequence[Visit], photograph: Array, name: str | None = None) -> str:
    """The page as HTML.

    Args:
        visits: the stops, done.
        photograph: what they read, (height, width, 3).
        name: of the photograph's file; None for the one that ships.
    """
    template = Template((resources.files("polyconv.tour") / "page.html").read_text(encoding="utf-8"))
    height, width = photograph.shape[:2]
    of_what = "Chelsea the cat, by Stéfan van der Walt (CC0)" if name is None else name
    return template.substitute(
        number=len(visits),
        links="\n".join(f'<li><a href="#{_slug(v)}">{escape(v.stop.title)}</a></li>' for v in visits),
        photograph=_picture(photograph, "The photograph that every kind is shown on", ""),
        before=_data_url(fitted(photograph, BEFORE), ".jpg"),
        ratio=f"{width} / {height}",
        caption=escape(f"The input: {of_what}. {width} x {height} pixels, three colours, values from 0 to 1."),
        parts="\n".join(_part(part, list(group)) for part, group in groupby(visits, lambda visit: visit.stop.part)),
        rows="\n".join(_row(visit, max(v.report.macs for v in visits)) for visit in visits),
        version=escape(__version__),
        picture=escape(shlex.quote(name) if name else ""),
    )


def _slug(visit: Visit) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in visit.stop.title.lower())


def _part(title: str, visits: Sequence[Visit]) -> str:
    cards = "\n".join(map(_card, visits))
    return f'<section>\n<h2>{escape(title)}</h2>\n<div class="cards">\n{cards}\n</div>\n</section>'


def _card(visit: Visit) -> str:
    stop = visit.stop
    figures = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in _numbers(visit))
    return (
        f'<article id="{_slug(visit)}">\n<h3>{escape(stop.title)}</h3>\n'
        f"{_before_and_after(visit)}\n"
        f"<pre><code>{escape(stop.notation)}</code></pre>\n{_kernels(visit)}"
        f"<p>{escape(stop.seen)}</p>\n"
        f'<p class="quiet">{escape(stop.use)} <cite>({escape(stop.source)})</cite></p>\n'
        f"{_film(stop.title)}\n{_codes(visit)}\n<dl>{figures}</dl>\n</article>"
    )


def _before_and_after(visit: Visit) -> str:
    """What the network reads beside what became of it; the photograph is on the page once, as a background."""
    if visit.before is None:
        before = '<div class="before" role="img" aria-label="The photograph before"></div>'
    else:
        before = _picture(fitted(visit.before, BEFORE), f"What goes in: {visit.stop.title}", "input")
    after = _picture(visit.picture, f"The photograph after: {visit.stop.title}", "picture")
    shapes = shown_shape(visit.report.in_shape), shown_shape(visit.report.out_shape)
    return (
        f'<div class="pair"><figure>{before}<figcaption>before: {shapes[0]}</figcaption></figure>'
        f"<figure>{after}<figcaption>after: {shapes[1]}</figcaption></figure></div>"
    )


def _film(title: str) -> str:
    """The kind at work in numbers; one frame where a reader wants no motion."""
    moving, still, width, height = animation(title)
    text, shape = SMALL[title]
    said = f"At work on a small input, step by step: {text}, input {sizes_text(shape)}"
    return (
        f'<figure class="film"><picture><source media="(prefers-reduced-motion: reduce)" srcset="{_url(still, "png")}">'
        f'<img alt="{escape(said)}" loading="lazy" width="{width}" height="{height}" src="{_url(moving, "gif")}">'
        f"</picture><figcaption>The kind at work: <code>{escape(text)}</code></figcaption></figure>"
    )


def _codes(visit: Visit) -> str:
    """The layer in polyconv and in PyTorch, folded away."""
    shape = visit.report.in_shape
    ours = (
        "import numpy as np\nimport polyconv as pc\n\n"
        f'net = pc.network("{visit.stop.network}")\n'
        f"model = net.bind(net.weights(in_channels={shape[1]}))\n"
        f"y = model(np.ones({shape}, np.float32))\n"
    )
    blocks = f"<h4>polyconv</h4><pre><code>{escape(ours)}</code></pre>"
    try:
        blocks += f"<h4>PyTorch</h4><pre><code>{escape(code(visit.stop.network, shape))}</code></pre>"
    except ValueError as error:  # it has no such layer
        blocks += f'<p class="quiet">PyTorch: {escape(str(error))}</p>'
    return f"<details><summary>The code</summary>{blocks}</details>"


def _numbers(visit: Visit) -> list[tuple[str, str]]:
    report = visit.report
    return [
        ("output", shown_shape(report.out_shape)),
        ("parameters", f"{report.params:,}"),
        ("receptive field", f"{sizes_text(report.receptive_field.size)} px"),
        ("MACs", amount(report.macs)),
        ("MACs on data", amount(report.macs_on_data)),
        ("time", f"{milliseconds(visit.seconds)} ms"),
    ]


def _row(visit: Visit, most: int) -> str:
    report = visit.report
    cells = [
        shown_shape(report.out_shape),
        f"{report.params:,}",
        f"{report.macs:,}",
        f"{report.macs_on_data:,}",
        sizes_text(report.receptive_field.size),
        milliseconds(visit.seconds),
        gflops(report.macs, visit.seconds),
    ]
    bar = f'<td class="bar"><span style="width:{100 * report.macs / max(most, 1):.1f}%"></span></td>'
    body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row"><a href="#{_slug(visit)}">{escape(visit.stop.title)}</a></th>{body}{bar}</tr>'


def _picture(values: Array, alt: str, classes: str) -> str:
    """An <img> with its picture in it: JPEG, or PNG where it is small."""
    height, width = values.shape[:2]
    small = width < ENLARGED
    classes = " ".join(filter(None, (classes, "pixels" if small else "")))
    return (
        f'<img class="{classes}" alt="{escape(alt)}" width="{width}" height="{height}" '
        f'src="{_data_url(values, ".png" if small else ".jpg")}">'
    )


def _data_url(values: Array, extension: str) -> str:
    return _url(encoded(values, extension, quality=84), {".png": "png", ".jpg": "jpeg"}[extension])


def _url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _kernels(visit: Visit) -> str:
    """The layer's distinct kernels, the first few, as little pictures."""
    found: list[Array] = []
    for weight in visit.weights.values():
        found += _distinct(weight)
    if not found:
        return ""
    images = "".join(map(_kernel, found[:MOST_KERNELS]))
    more = f"<span>and {len(found) - MOST_KERNELS} more</span>" if len(found) > MOST_KERNELS else ""
    return f'<div class="kernels"><span>kernels</span>{images}{more}</div>\n'


def _kernel(kernel: Array) -> str:
    """One kernel as a picture whose taps are squares, or bars where it is a row or a column."""
    height, width = kernel.shape
    tap = max(3, min(12, KERNEL_PIXELS // max(height, width)))
    size = f'width="{max(tap * width, BAR_PIXELS)}" height="{max(tap * height, BAR_PIXELS)}"'
    return f'<img class="pixels" alt="" {size} src="{_data_url(_tinted(kernel), ".png")}">'


def _distinct(weight: Array) -> list[Array]:
    """The 2-D slices of one weight that are neither zero nor repeated; the matrix itself for a pointwise layer."""
    if weight.ndim < 2:
        return []
    if all(size == 1 for size in weight.shape[2:]):
        return [weight.reshape(weight.shape[:2])]
    height = weight.shape[-2] if weight.ndim > 3 else 1
    slices = weight.reshape(-1, height, weight.shape[-1])
    scales = np.abs(slices).max(axis=(1, 2), initial=0)
    shapes = {(one / scale).round(4).tobytes(): one for one, scale in zip(slices, scales, strict=True) if scale > 0}
    return list(shapes.values())


def _tinted(kernel: Array) -> Array:
    """Positive weights orange, negative violet, zero white."""
    strength = (kernel / (np.abs(kernel).max() or 1))[:, :, None]
    return np.asarray(1 - np.maximum(strength, 0) * (1 - POSITIVE) - np.maximum(-strength, 0) * (1 - NEGATIVE))
