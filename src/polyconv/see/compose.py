"""One frame as a picture: the cells of its step in their colours, what connects them, and the formula beneath."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from polyconv.layers import Conv, ConvTranspose, Pool
from polyconv.run.problem import Array
from polyconv.see import numbers as text
from polyconv.see.arrange import MARGIN, ROOM, SMALL, WIDTH, Plan, arrange_all, kernel_shape
from polyconv.see.lettering import clipped, fitted, measure, wrapped
from polyconv.see.panel import Panel
from polyconv.see.parts import Cell, Frame, Kind, Scene, Step, Term, cells
from polyconv.see.shapes import Line, Picture, Point, Polygon, Shape, Text, rect
from polyconv.see.sums import Sum, sums
from polyconv.see.theme import Theme, between

TITLE, FORMULA = 15.0, 13.0
LEAST_TEXT = 8.5
LINE = 18.0


@dataclass(frozen=True, eq=False)
class Composer:
    """Draws the frames of a scene on canvases of one size."""

    scene: Scene
    theme: Theme

    @cached_property
    def header(self) -> float:
        """The y under the title."""
        lines = len(self._trail(0)) if len(self.scene.steps) > 1 else 0
        return MARGIN + TITLE + 12 + lines * LINE + (6 if lines else 0)

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """The arrangement of every step."""
        return arrange_all(self.scene.steps, self.header)

    @cached_property
    def _foot(self) -> tuple[float, float]:
        """The y under the tallest step, and the room that the longest formula needs."""
        formula = max(len(self._formula(frame)) for frame in self.scene.frames) * LINE
        notes = max(len(step.notes) for step in self.scene.steps)
        return max(plan.bottom for plan in self.plans), formula + (notes + 1) * (SMALL + 5)

    width = WIDTH

    def check(self) -> None:
        """Refuse what does not fit, before any frame is made."""
        _ = self.plans

    @property
    def title(self) -> str:
        """What is drawn."""
        return self.scene.title

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.scene.frames)

    @property
    def still(self) -> int:
        """The frame that says most on its own: of those that add something, the one nearest the middle."""
        frames, middle = self.scene.frames, len(self.scene.frames) // 2
        adding = [n for n, frame in enumerate(frames) if any(t.value and t.weight != 0 for t in frame.terms)]
        return min(adding, key=lambda index: abs(index - middle), default=middle)

    def outputs(self) -> dict[str, Sum]:
        """The sum of every output, under the tag of its cell."""
        return {tag(*key): found for key, found in sums(self.scene).items()}

    @property
    def height(self) -> int:
        """Of every canvas."""
        bottom, foot = self._foot
        return int(bottom + 20 + foot + MARGIN + 8)

    def _formula(self, frame: Frame) -> list[str]:
        return [line for said in frame.lines for line in wrapped(said, FORMULA, ROOM, 6)]

    def picture(self, index: int) -> Picture:
        """The picture of one frame."""
        frame = self.scene.frames[index]
        step, plan = self.scene.steps[frame.step], self.plans[frame.step]
        shapes: list[Shape] = [*self._head(frame.step)]
        for x, y, said, size, strong in plan.headings:
            shapes.append(Text(x, y, said, size, self.theme.ink if strong else self.theme.faint))
        painter = _Painter(self.theme, step, plan, frame)
        shapes += painter.shapes()
        shapes += self._feet(index, frame, step)
        return Picture(
            WIDTH,
            self.height,
            self.theme.background,
            tuple(shapes),
            f"polyconv: {self.scene.title}",
            f"{step.text}: {frame.caption}. {' '.join(frame.lines)}",
        )

    def _head(self, current: int) -> list[Shape]:
        made: list[Shape] = []
        title = clipped(self.scene.title, TITLE, ROOM)
        made.append(Text(MARGIN, MARGIN + TITLE - 3, title, TITLE, self.theme.ink, box=ROOM))
        if len(self.scene.steps) > 1:
            y = MARGIN + TITLE + 16.0
            for row in self._trail(current):
                for x, said, now in row:
                    colour = self.theme.ink if now else self.theme.faint
                    made.append(Text(x, y, said, SMALL + 1, colour))
                    if now:
                        made.append(
                            Line(((x, y + 4), (x + measure(said, SMALL + 1), y + 4)), self.theme.output_loud, 2)
                        )
                y += LINE
        return made

    def _trail(self, current: int) -> list[list[tuple[float, str, bool]]]:
        """The sizes from layer to layer, with the layer under way marked: rows of (x, text, whether it is this one)."""
        said = [(f"input {text.sizes(self.scene.values[0].shape)}", False)]
        for index, step in enumerate(self.scene.steps):
            said += [(text.ARROW, False), (step.text, index == current), (text.ARROW, False)]
            said.append((text.sizes(step.out_shape), False))
        rows: list[list[tuple[float, str, bool]]] = [[]]
        x = float(MARGIN)
        for word, now in said:
            word = clipped(word, SMALL + 1, ROOM)
            wide = measure(word, SMALL + 1) * 1.1
            if x + wide > WIDTH - MARGIN and rows[-1]:
                rows.append([])
                x = float(MARGIN)
            rows[-1].append((x, word, now))
            x += wide + 6
        return rows

    def _feet(self, index: int, frame: Frame, step: Step) -> list[Shape]:
        y = self._foot[0] + 20
        made: list[Shape] = [Line(((MARGIN, y - 8), (WIDTH - MARGIN, y - 8)), self.theme.rule, 0.75)]
        for line in self._formula(frame):
            made.append(Text(MARGIN, y + FORMULA - 1, line, FORMULA, self.theme.ink, box=ROOM))
            y += LINE
        y = self.height - MARGIN - 10 - len(step.notes) * (SMALL + 5)
        last = len(self.scene.frames)
        said = [f"step {index + 1} of {last}: {frame.caption}", *step.notes]
        said[0] = "; ".join([said[0], *self.scene.notes])
        for line in said:
            made.append(Text(MARGIN, y + 4, clipped(line, SMALL, ROOM), SMALL, self.theme.faint, box=ROOM))
            y += SMALL + 5
        y = self.height - MARGIN
        done = ROOM * (index + 1) / last
        made.append(rect(MARGIN, y, ROOM, 3, self.theme.cropped))
        made.append(rect(MARGIN, y, round(done, 1), 3, self.theme.output_loud))
        return made


@dataclass(frozen=True, eq=False)
class _Painter:
    """The cells of one frame."""

    theme: Theme
    step: Step
    plan: Plan
    frame: Frame

    def shapes(self) -> list[Shape]:
        made: list[Shape] = [] if not self.plan.rows else self._funnel()
        for index, panel in enumerate(self.plan.inputs):
            made += self._input(index, panel)
        made += self._kernels()
        for index, panel in enumerate(self.plan.outputs):
            made += self._output(index, panel)
        return made if self.plan.rows else made + self._links()

    # -- the three kinds of grid ---------------------------------------------------------------------------------

    def _input(self, index: int, panel: Panel) -> list[Shape]:
        grid, theme = self.step.inputs[index], self.theme
        read = {term.cell for term in self.frame.terms if term.grid == index}
        made = self._label(panel, self._name(grid.label, self.step.in_channels[index], self.step.in_shape[0]))
        top, padding = _brightest(grid.values), int(Kind.PADDING)
        fills = {padding: theme.padding, int(Kind.STUFFED): theme.stuffed}
        for cell in cells(grid.shape):
            kind = int(grid.kinds[cell])
            quiet = fills.get(kind, theme.input)
            fill = quiet if cell not in read else theme.input_loud
            if cell in read and kind:
                fill = between(quiet, theme.input_loud, 0.5)
            value = float(grid.values[cell])
            ink = theme.ink if not kind or cell in read else theme.faint
            made += self._cell(panel, cell, value, fill, ink, top, dashed=kind == padding)
        return made + self._ring(panel, read, self._winner(index))

    def _winner(self, index: int) -> Cell | None:
        """For a maximum: the first cell that holds it."""
        if not (isinstance(self.step.layer, Pool) and self.step.layer.kind == "max"):
            return None
        return next((t.cell for t in self.frame.terms if t.grid == index and t.value == self.frame.result), None)

    def _output(self, index: int, panel: Panel) -> list[Shape]:
        grid, theme = self.step.outputs[index], self.theme
        channel = self.step.out_channels[index]
        values = self.frame.outputs[index]
        now = {cell for where, cell in self.frame.writes if where == channel}
        made = self._label(panel, self._name(grid.label, channel, self.step.out_shape[0]))
        top = _brightest(values)
        outside = grid.kinds == Kind.CROPPED
        for cell in cells(grid.shape):
            known = not np.isnan(values[cell])
            cropped = bool(outside[cell])
            fill = theme.cropped if cropped else (theme.output if known else theme.empty)
            if cell in now:
                fill = between(theme.cropped, theme.output_loud, 0.5) if cropped else theme.output_loud
            name = tag(self.frame.step, channel, cell)
            ink = theme.faint if cropped and cell not in now else theme.ink
            made += self._cell(panel, cell, float(values[cell]), fill, ink, top, dashed=cropped, tag=name)
        return made + self._ring(panel, now, None)

    def _kernels(self) -> list[Shape]:
        made: list[Shape] = []
        if not self.plan.kernels:
            return made
        stamp = self.step.view == "stamp"
        rows = [self.step.in_channels.index(c) for _, c in self.frame.kernel]
        if isinstance(self.step.layer, Pool):
            rows = sorted({term.grid for term in self.frame.terms})
        for row in rows:
            terms = [term for term in self.frame.terms if term.grid == row]
            panel = self.plan.kernels[0 if stamp and self.plan.rows else row]
            if self.plan.rows and not stamp and terms:
                panel = replace(panel, x=self._over(self.plan.inputs[row], terms[0].cell, terms[0].tap))
            made += self._kernel(row, panel, terms)
            if stamp:
                made += self._stamp(row, terms)
        return made

    def _over(self, panel: Panel, cell: Cell, tap: Cell | None) -> float:
        """Where a kernel of one axis starts so that its taps lie under the cells they read."""
        dilation = self.plan.kernels[0].pitch if self.step.view != "stamp" else self.plan.stamps[0].pitch
        return panel.x + (cell[0] - (tap or (0,))[0] * dilation) * panel.cell

    def _kernel(self, row: int, panel: Panel, terms: list[Term]) -> list[Shape]:
        theme = self.theme
        pool = isinstance(self.step.layer, Pool)
        made: list[Shape] = []
        channel = self.step.in_channels[row]
        if pool:
            values = np.full(panel.shape, np.nan)
            for term in self.frame.terms:
                if term.grid == row and term.tap is not None:
                    values[term.tap] = term.value
        else:
            grid = self.step.kernels[self.frame.channel, channel]
            values = grid.values
            if len(self.step.inputs) > 1 or len(self.step.outputs) > 1:
                made += self._label(panel, grid.label)
        winner = next((t.tap for t in self.frame.terms if pool and t.cell == self._winner(row)), None)
        top = _brightest(values)
        for cell in cells(panel.shape):
            fill = theme.kernel_loud if cell == winner else theme.kernel
            made += self._cell(
                panel, cell, float(values[cell]), fill, theme.ink, top, dashed=pool and np.isnan(values[cell])
            )
        if self._sums and not self.plan.rows:
            total = sum(t.value * t.weight for t in self.frame.terms if t.grid == row and t.weight is not None)
            said = f"gives {text.number(total)}"
            made.append(Text(panel.x, panel.y + panel.height + SMALL + 2, said, SMALL, theme.faint))
        return made

    @property
    def _sums(self) -> bool:
        """Whether several channels are added up."""
        return self.step.view == "slide" and not isinstance(self.step.layer, Pool) and len(self.frame.kernel) > 1

    def _stamp(self, row: int, terms: list[Term]) -> list[Shape]:
        """The products that are put on the output."""
        panel = self.plan.stamps[0 if self.plan.rows else row]
        mine = [term for term in self.frame.terms if term.grid == row]
        if not mine:
            return []
        if self.plan.rows and mine[0].target is not None:
            which = self.step.out_channels.index(self.frame.channel)
            panel = replace(panel, x=self._over(self.plan.outputs[which], mine[0].target, mine[0].tap))
        made: list[Shape] = []
        for term in mine:
            if term.tap is not None and term.weight is not None:
                value = term.value * term.weight
                made += self._cell(panel, term.tap, value, self.theme.kernel_loud, self.theme.ink, 1.0)
        if not self.plan.rows:
            said = f"{text.TIMES} {text.factor(mine[0].value)} ="
            made.append(Text(panel.x, panel.y - 8, said, FORMULA, self.theme.ink))
        return made

    # -- pieces --------------------------------------------------------------------------------------------------

    def _name(self, label: str, channel: int, channels: int) -> str:
        if len(self.step.inputs) == 1 and len(self.step.outputs) == 1:
            return ""
        layer = self.step.layer
        grouped = isinstance(layer, Conv | ConvTranspose) and 1 < self.step.groups < max(channels, 2)
        return f"{label}, group {channel // (channels // self.step.groups)}" if grouped else label

    def _label(self, panel: Panel, said: str) -> list[Shape]:
        if not said:
            return []
        return [Text(panel.x, panel.y - 4, said, SMALL, self.theme.faint)]

    def _cell(
        self,
        panel: Panel,
        cell: Cell,
        value: float,
        fill: str,
        ink: str,
        top: float,
        dashed: bool = False,
        tag: str = "",
    ) -> list[Shape]:
        said = "" if np.isnan(value) else text.number(value)
        size = fitted(said, panel.text_size, panel.text_width, LEAST_TEXT) if said else None
        if size is None and said and panel.text_size < LEAST_TEXT and np.isfinite(value):
            fill = between(fill, ink, 0.45 * abs(value) / top)  # too small for words: a shade
        made: list[Shape] = [Polygon(panel.corners(cell), fill, self.theme.rule, 1.0, dashed, tag)]
        if size is not None:
            x, y = panel.centre(cell)
            made.append(Text(round(x, 1), round(y + size * 0.36, 1), said, size, ink, "middle", panel.cell))
        return made

    def _ring(self, panel: Panel, marked: set[Cell], winner: Cell | None) -> list[Shape]:
        """An outline round what is under way: one box in the plane, cell by cell in a volume."""
        made: list[Shape] = []
        if not marked:
            return made
        if panel.slanted:
            made += [Polygon(panel.corners(cell), None, self.theme.mark, 1.5) for cell in sorted(marked)]
        else:
            points = [point for cell in marked for point in panel.corners(cell)]
            (x, y), (right, bottom) = _least(points), _most(points)
            made.append(rect(x, y, right - x, bottom - y, None, self.theme.mark, 2.0))
        if winner is not None:
            made.append(Polygon(panel.corners(winner), None, self.theme.mark, 2.5))
        return made

    def _links(self) -> list[Shape]:
        """Arrows from the kernel (or input) to the output, through a plus where channels are added."""
        if not self.frame.terms:
            return []
        which = self.step.out_channels.index(self.frame.channel)
        target = self.plan.outputs[which]
        stamp = self.step.view == "stamp"
        sources = self.plan.stamps if stamp else (self.plan.kernels or self.plan.inputs)
        rows = sorted({term.grid for term in self.frame.terms})
        column = max(panel.x + panel.width for panel in self.plan.kernels or self.plan.inputs)
        bus = round((column + target.x) / 2)
        end = (target.x - 5, round(target.y + target.height / 2))
        made: list[Shape] = []
        for row in rows:
            source = sources[row]
            start = (source.x + source.width + 5, round(source.y + source.height / 2))
            start = (start[0], end[1]) if abs(start[1] - end[1]) < 4 else start  # no kink of a pixel or two
            made.append(Line((start, (bus, start[1]), (bus, end[1])), self.theme.faint, 1.5))
        made.append(Line(((bus, end[1]), end), self.theme.faint, 1.5, arrow=True))
        if len(rows) > 1 or stamp:
            made.append(rect(bus - 8, end[1] - 8, 16, 16, self.theme.background, self.theme.faint, 1.5))
            made += [
                Line(((bus - 4, end[1]), (bus + 4, end[1])), self.theme.ink, 1.5),
                Line(((bus, end[1] - 4), (bus, end[1] + 4)), self.theme.ink, 1.5),
            ]
        if self.plan.kernels and self.step.kernels:
            made += self._times(rows)
        elif not self.plan.kernels:
            said = self.step.text.split(" ")[0]
            room = target.x - column - 16
            size = fitted(said, SMALL + 1, room)
            if size is not None and len(rows) == 1:
                made.append(Text((column + target.x) / 2, end[1] - 8, said, size, self.theme.ink, "middle", room))
        return made

    def _times(self, rows: list[int]) -> list[Shape]:
        made: list[Shape] = []
        for row in rows:
            left, right = self.plan.inputs[row], self.plan.kernels[row]
            x, y = (left.x + left.width + right.x) / 2, left.y + left.height / 2 + 5
            made.append(Text(x, y, text.TIMES, 16, self.theme.faint, "middle"))
        return made

    def _funnel(self) -> list[Shape]:
        """For sequences: lines from the ends of the window to the output it makes."""
        if not self.frame.terms or (not kernel_shape(self.step) and not self.frame.writes):
            return []
        which = self.step.out_channels.index(self.frame.channel)
        target = self.plan.outputs[which]
        written = [point for _, cell in self.frame.writes for point in target.corners(cell)]
        row = max(term.grid for term in self.frame.terms)
        panel = self.plan.inputs[row]
        read = [point for t in self.frame.terms if t.grid == row for point in panel.corners(t.cell)]
        if self.step.view == "stamp":
            return []
        (left, _), (right, low) = _least(read), _most(read)
        if self.plan.kernels:
            low = self.plan.kernels[row].y + self.plan.kernels[row].height
        (start, high), (stop, _) = _least(written), _most(written)
        return [
            Line(((left, low + 1), (start, high - 1)), self.theme.faint, 1.0),
            Line(((right, low + 1), (stop, high - 1)), self.theme.faint, 1.0),
        ]


def tag(step: int, channel: int, cell: Cell) -> str:
    """The name of an output's cell, by which a page finds it."""
    return f"{step}:{channel}:{','.join(map(str, cell))}"


def _least(points: list[Point]) -> Point:
    return (min(p[0] for p in points), min(p[1] for p in points))


def _most(points: list[Point]) -> Point:
    return (max(p[0] for p in points), max(p[1] for p in points))


def _brightest(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) or 1.0 if finite.size else 1.0
