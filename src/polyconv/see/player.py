"""The widget itself; importing this module needs anywidget, the extra ``polyconv[notebook]``."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from polyconv._checks import real_between
from polyconv.notation import network as parsed
from polyconv.see.drawing import Drawing
from polyconv.see.page import asset, page

SPEEDS = (0.5, 1.0, 2.0, 4.0)


class Player(anywidget.AnyWidget):
    """A drawing with its player; see ``polyconv.widget``."""

    _esm = asset("widget.js")
    notation = traitlets.Unicode("").tag(sync=True)
    page = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    count = traitlets.Int(1).tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Float(1.0).tag(sync=True)
    pinned = traitlets.Unicode("").tag(sync=True)

    def __init__(self, drawing: Drawing, text: str, fps: float, options: dict[str, Any]) -> None:
        self._fps = real_between(fps, "fps", 0.1, 30.0)
        self._options = options
        self._drawing = drawing
        super().__init__(notation=text, page=page(drawing, fps, framed=True), count=len(drawing.frames))

    @property
    def drawing(self) -> Drawing:
        """What is shown."""
        return self._drawing

    @property
    def lines(self) -> tuple[str, ...]:
        """The pinned output's sum in numbers; empty where none is pinned."""
        found = self._drawing.composer.outputs().get(self.pinned)
        return () if found is None else tuple(found.lines)

    @traitlets.validate("frame")
    def _fitting_frame(self, proposal: Any) -> int:
        value = int(proposal["value"])
        if not 0 <= value < len(self._drawing.frames):
            raise traitlets.TraitError(
                f"frame is {value}, the drawing has frames 0 to {len(self._drawing.frames) - 1}. Use one of them"
            )
        return value

    @traitlets.validate("speed")
    def _known_speed(self, proposal: Any) -> float:
        if proposal["value"] not in SPEEDS:
            raise traitlets.TraitError(f"speed is {proposal['value']}, it must be one of 0.5, 1, 2 and 4")
        return float(proposal["value"])

    @traitlets.validate("pinned")
    def _known_output(self, proposal: Any) -> str:
        value, known = str(proposal["value"]), self._drawing.composer.outputs()
        if value and value not in known:
            example = f", such as {next(iter(known))!r}" if known else "; this drawing has none"
            raise traitlets.TraitError(f"pinned is {value!r}, it must be '' or the tag of an output{example}")
        return value

    @traitlets.observe("notation")
    def _redraw(self, change: Any) -> None:
        """Draw another network; where that cannot be, say why and keep what is shown."""
        try:
            net = parsed(change["new"])
            made = net.draw(**self._options)
        except (ValueError, TypeError) as error:
            self.problem = str(error)
            return
        self._drawing = made
        with self.hold_sync():
            self.playing, self.frame, self.pinned, self.problem = False, 0, "", ""
            self.count, self.page = len(made.frames), page(made, self._fps, framed=True)
