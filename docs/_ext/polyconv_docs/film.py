"""A drawing as one SVG that moves by style sheet alone, and stands still where motion is not wanted or there is paper.

Every distinct element is in the file once. Elements are told apart by the frames they are seen in; those of the same
frames share an animation of their visibility.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import groupby, pairwise

from polyconv.see.shapes import Picture
from polyconv.see.svg import head, one

LAST = 3  # the last frame is shown for as long as so many others

Seen = tuple[int, ...]  # the frames an element is in, ascending


def film(pictures: Sequence[Picture], still: int, fps: float = 1.6) -> str:
    """The frames as an animated SVG document.

    Args:
        pictures: the frames, all of one size.
        still: the frame shown where nothing may move.
        fps: frames a second.
    """
    frames = [[one(shape) for shape in picture.shapes] for picture in pictures]
    elements = _ordered(frames)
    every = tuple(range(len(frames)))
    names = {seen: f"k{number}" for number, seen in enumerate(dict.fromkeys(s for _, s in elements if s != every))}
    body = []
    for seen, group in groupby(elements, key=lambda element: element[1]):
        text = "\n".join(element for element, _ in group)
        body.append(text if seen == every else f'<g class="{names[seen]}">\n{text}\n</g>')
    style = _style(names, len(frames), still, fps)
    return "\n".join([head(pictures[still]), f"<style>{style}</style>", *body, "</svg>", ""])


def _ordered(frames: Sequence[Sequence[str]]) -> list[tuple[str, Seen]]:
    """Every element with its frames, in an order that keeps each frame's: what is above stays above."""
    numbered = [_numbered(frame) for frame in frames]
    seen: dict[tuple[str, int], list[int]] = {}
    graph: TopologicalSorter[tuple[str, int]] = TopologicalSorter()
    for index, frame in enumerate(numbered):
        for element in frame:
            seen.setdefault(element, []).append(index)
            graph.add(element)
        for below, above in pairwise(frame):
            graph.add(above, below)
    try:
        order = list(graph.static_order())
    except CycleError:  # two frames stack the same elements differently: each frame whole
        return [(element, (index,)) for index, frame in enumerate(frames) for element in frame]
    return [(element[0], tuple(seen[element])) for element in order]


def _numbered(frame: Sequence[str]) -> list[tuple[str, int]]:
    """Each element with how often it came before in its frame: drawn twice, it counts as two."""
    counts: dict[str, int] = {}
    found = []
    for element in frame:
        found.append((element, counts.get(element, 0)))
        counts[element] = counts.get(element, 0) + 1
    return found


def _style(names: dict[Seen, str], count: int, still: int, fps: float) -> str:
    """The animation of each set of frames, and what is seen where none may run."""
    beats = count + LAST - 1
    rules = []
    for seen, name in names.items():
        frames = set(seen)
        shown = [index in frames for index in range(count)]
        stops = "".join(
            f"{100 * index / beats:.3g}%{{visibility:{'visible' if shown[index] else 'hidden'}}}"
            for index in range(count)
            if index == 0 or shown[index] != shown[index - 1]
        )
        rest = "" if still in frames else "visibility:hidden;"
        rules.append(
            f"@keyframes {name}{{{stops}}}.{name}{{{rest}animation:{name} {beats / fps:.4g}s step-end infinite}}"
        )
    return "".join(rules) + "@media print,(prefers-reduced-motion:reduce){g{animation:none!important}}"
