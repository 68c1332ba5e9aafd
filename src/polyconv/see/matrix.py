"""A linear layer as its sparse matrix: C beside its transpose, and row by row the window that makes the row.

Which weight stands where is read off the frames of the layer's scene: there is no second account of the geometry.
Source of the picture: Dumoulin and Visin, arXiv 1603.07285, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polyconv.geometry import product
from polyconv.layers import Conv, ConvTranspose, Pool, Sizes
from polyconv.network import Network
from polyconv.notation import network as parsed
from polyconv.see import numbers as text
from polyconv.see.arrange import HEADING, MARGIN, ROOM, SMALL, WIDTH
from polyconv.see.drawing import Drawing
from polyconv.see.lettering import clipped, fitted, wrapped
from polyconv.see.panel import Panel
from polyconv.see.parts import Cell, Frame, Kind, Scene, Step, cells
from polyconv.see.scene import scene
from polyconv.see.shapes import Picture, Polygon, Shape, Text, rect
from polyconv.see.sums import Sum
from polyconv.see.theme import Theme, ThemeName, theme_named

MOST = 64  # rows or columns
LARGEST_CELL = 26.0
ALL = 64  # channels: every one is read, or the matrix would have holes


@dataclass(frozen=True, eq=False)
class MatrixComposer:
    """Draws a layer's matrix, a row a frame."""

    scene: Scene
    theme: Theme
    values: bool

    width = WIDTH

    @property
    def step(self) -> Step:
        """The layer at work."""
        return self.scene.steps[0]

    @property
    def title(self) -> str:
        """What is drawn."""
        return f"{self.scene.title} as a matrix: y = {self._names[0]} x"

    def check(self) -> None:
        """What does not fit was refused by its number of rows and columns."""

    def __len__(self) -> int:
        """As many frames as rows."""
        return len(self.scene.frames)

    @property
    def still(self) -> int:
        """The first row that lies in the middle."""
        return len(self) // 2

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return product(self.step.out_shape), product(self.step.in_shape)

    @cached_property
    def entries(self) -> dict[Cell, tuple[str, float]]:
        """(row, column) of every entry, with its name and its value."""
        found: dict[Cell, tuple[str, float]] = {}
        for row, frame in enumerate(self.scene.frames):
            for column, name, value in self._row(frame):
                before = found.get((row, column))
                if before is not None:  # other padding modes read one input several times
                    name, value = f"{before[0]}+{name}", before[1] + value
                found[row, column] = (name, value)
        return found

    def _row(self, frame: Frame) -> list[tuple[int, str, float]]:
        """(column, name, value) of what one output reads from real inputs."""
        step, found = self.step, []
        size = product(step.in_shape[1:])
        for term in frame.terms:
            source = step.inputs[term.grid].source(term.cell)
            if source is None or term.tap is None:
                continue
            channel = step.in_channels[term.grid]
            if term.weight is None:
                name, value = f"1/{len(frame.terms)}", 1 / len(frame.terms)
            else:
                name, value = self._name(frame.channel, channel, term.tap), term.weight
            found.append((channel * size + source, name, value))
        return found

    def _name(self, o: int, c: int, tap: Cell) -> str:
        """A weight's name: "w01", or with its channels "w2,0,01"."""
        if isinstance(self.step.layer, ConvTranspose):  # drawn flipped, named as it is stored
            kernel = self.step.kernels[o, c].shape
            tap = tuple(size - 1 - t for size, t in zip(kernel, tap, strict=True))
        taps = "".join(map(str, tap))
        single = self.step.in_shape[0] == 1 and self.step.out_shape[0] == 1
        return f"w{taps}" if single else f"w{o},{c},{taps}"

    @property
    def _names(self) -> tuple[str, str]:
        """What the layer's matrix and its transpose are called: a transposed layer's own is Cᵀ."""
        return ("Cᵀ", "C") if isinstance(self.step.layer, ConvTranspose) else ("C", "Cᵀ")

    # -- places ----------------------------------------------------------------------------------------------------

    @cached_property
    def places(self) -> tuple[Panel, Panel, float]:
        """C's panel, that of its transpose, and the y under them."""
        rows, columns = self.shape
        top = self._top + HEADING + 12
        beside = min(LARGEST_CELL, (ROOM - 36) / (rows + columns))
        if beside >= 14:
            first = Panel(MARGIN, top, beside, (rows, columns))
            second = Panel(MARGIN + columns * beside + 36, top, beside, (columns, rows))
            return first, second, top + max(rows, columns) * beside
        cell = min(LARGEST_CELL, ROOM / max(rows, columns))
        first = Panel(MARGIN, top, cell, (rows, columns))
        under = top + rows * cell + HEADING + 24
        return first, Panel(MARGIN, under, cell, (columns, rows)), under + columns * cell

    @cached_property
    def _small(self) -> tuple[list[Panel], list[Panel], float]:
        """The panels of the inputs, of the outputs, and the y under them."""
        step = self.step
        across = sum((1, *grid.shape)[-1] + 1 for grid in (*step.inputs, *step.outputs))
        cell = min(20.0, (ROOM - 60) / across)
        y = MARGIN + 15 + 14 + HEADING + 8.0
        x, places = float(MARGIN), []
        for index, grid in enumerate((*step.inputs, *step.outputs)):
            x += 60 if index == len(step.inputs) else 0
            places.append(Panel(x, y, cell, grid.shape))
            x += places[-1].width + cell
        return places[: len(step.inputs)], places[len(step.inputs) :], y + max(p.height for p in places)

    @property
    def _top(self) -> float:
        return self._small[2] + 20

    @property
    def height(self) -> int:
        """Of every frame."""
        return int(self.places[2] + 14 + self._formulas * 18 + SMALL + 14 + MARGIN)

    @cached_property
    def _formulas(self) -> int:
        return max(len(self._lines(index)) for index in range(len(self)))

    # -- pictures --------------------------------------------------------------------------------------------------

    def _said(self, index: int) -> str:
        read = sorted((column, name) for (row, column), (name, _) in self.entries.items() if row == index)
        return f"y{index} = {text.joined([f'{name}{text.DOT}x{column}' for column, name in read]) or '0'}"

    def _lines(self, index: int) -> list[str]:
        return wrapped(self._said(index), 13.0, ROOM, 6)

    def outputs(self) -> dict[str, Sum]:
        """Each row's formula, under the tag of its output."""
        return {
            f"row:{index}": Sum(index, f"row {index} of {self._names[0]}", (self._said(index),))
            for index in range(len(self))
        }

    def picture(self, index: int) -> Picture:
        """One row of C under way."""
        made: list[Shape] = [Text(MARGIN, MARGIN + 12, clipped(self.title, 15.0, ROOM), 15.0, self.theme.ink)]
        made += self._grids(index) + self._matrices(index)
        y = self.places[2] + 14
        for line in self._lines(index):
            made.append(Text(MARGIN, y + 12, line, 13.0, self.theme.ink))
            y += 18
        frame = self.scene.frames[index]
        straight, turned = self._names
        said = f"row {index} of {straight}, column {index} of {turned}: the {frame.caption}"
        size = f"{len(self.entries):,} of {product(self.shape):,} entries are weights, the others zero"
        foot = f"step {index + 1} of {len(self)}: {said}; {size}"
        made.append(Text(MARGIN, self.height - MARGIN, clipped(foot, SMALL, ROOM), SMALL, self.theme.faint))
        return Picture(
            WIDTH,
            self.height,
            self.theme.background,
            tuple(made),
            f"polyconv: {self.title}",
            f"{said}. {self._said(index)}",
        )

    def _grids(self, index: int) -> list[Shape]:
        """The input and the output, numbered as the matrix numbers them."""
        step, theme = self.step, self.theme
        frame = self.scene.frames[index]
        inputs, outputs, _ = self._small
        size = product(step.in_shape[1:])
        y = inputs[0].y - 8
        made: list[Shape] = [
            Text(inputs[0].x, y, "input x", HEADING, theme.ink),
            Text(outputs[0].x, y, "output of this operation, y", HEADING, theme.ink),
        ]
        for which, (grid, panel) in enumerate(zip(step.inputs, inputs, strict=True)):
            read = {term.cell for term in frame.terms if term.grid == which}
            for cell in cells(grid.shape):
                source = grid.source(cell)
                data = grid.kinds[cell] == Kind.DATA
                quiet = theme.input if data else theme.padding
                fill = theme.input_loud if cell in read and source is not None else quiet
                said = "" if source is None else str(step.in_channels[which] * size + source)
                made += self._cell(panel, cell, said, fill, theme.ink, not data)
        number = 0
        for grid, panel in zip(step.outputs, outputs, strict=True):
            for cell in cells(grid.shape):
                fill = theme.output_loud if number == index else theme.output
                made += self._cell(panel, cell, str(number), fill, theme.ink, tag=f"row:{number}")
                number += 1
        return made

    def _matrices(self, index: int) -> list[Shape]:
        rows, columns = self.shape
        first, second, _ = self.places
        straight, turned_name = self._names
        said = f"{straight}: {rows}{text.TIMES}{columns}"
        made: list[Shape] = [
            Text(first.x, first.y - 8, said, SMALL + 1, self.theme.ink, box=ROOM),
            Text(second.x, second.y - 8, f"{turned_name}: {columns}{text.TIMES}{rows}", SMALL + 1, self.theme.ink),
        ]
        for panel, turned in ((first, False), (second, True)):
            for at in cells((rows, columns)):
                entry = self.entries.get(at)
                now = at[0] == index
                cell = at[::-1] if turned else at
                fill = self.theme.background if entry is None else self.theme.kernel
                if now:
                    fill = self.theme.stuffed if entry is None else self.theme.kernel_loud
                name = "" if entry is None else (text.number(entry[1]) if self.values else entry[0])
                tag = "" if turned else f"row:{at[0]}"
                made += self._cell(panel, cell, name, fill, self.theme.ink, tag=tag)
            made.append(self._ring(panel, index, turned))
        return made

    def _ring(self, panel: Panel, index: int, turned: bool) -> Shape:
        columns = self.shape[1]
        line = index * panel.cell
        if turned:
            return rect(panel.x + line, panel.y, panel.cell, columns * panel.cell, None, self.theme.mark, 2.0)
        return rect(panel.x, panel.y + line, columns * panel.cell, panel.cell, None, self.theme.mark, 2.0)

    def _cell(
        self, panel: Panel, cell: Cell, said: str, fill: str, ink: str, dashed: bool = False, tag: str = ""
    ) -> list[Shape]:
        made: list[Shape] = [Polygon(panel.corners(cell), fill, self.theme.rule, 0.75, dashed, tag)]
        size = fitted(said, min(11.0, panel.cell * 0.55), panel.cell - 2, 8.0) if said else None
        if size is not None:
            x, y = panel.centre(cell)
            made.append(Text(round(x, 1), round(y + size * 0.36, 1), said, size, ink, "middle", panel.cell))
        return made


def draw_matrix(
    network: Network | str,
    weight: Any = None,
    input_size: Sizes | int | None = None,
    *,
    in_channels: int | None = None,
    values: bool = False,
    theme: ThemeName = "auto",
) -> Drawing:
    """A linear layer as its sparse matrix C and the transpose, with the cells that make each row.

    A convolution is ``C @ x``; the transposed convolution with the same weight is ``C.T @ y``.

    Args:
        network: one convolution, transposed convolution or average pooling.
        weight: its weight; small whole numbers if not given.
        input_size: positions along each axis; a small one that fits if not given.
        in_channels: channels of the input.
        values: whether the entries show the weights' values; their names (w00, w01, ...) if not.
        theme: "light", "dark", or "auto": light, where a page follows its reader.

    Raises:
        ValueError: for another layer, and for more than 64 rows or columns.

    Example:
        >>> import polyconv as pc
        >>> pc.draw_matrix("conv 3x3 1 nobias", input_size=(4, 4))
        Drawing('conv 3x3 1 nobias as a matrix: y = C x', 4 frames of 600x702)
    """
    colours = theme_named(theme)
    net = parsed(network)
    layer = net.nodes[0].layer
    if len(net.nodes) != 1 or not isinstance(layer, Conv | ConvTranspose | Pool):
        raise ValueError(f"a matrix is drawn for one convolution, transposed or avgpool layer, got {net}")
    if isinstance(layer, Pool) and layer.kind == "max":
        raise ValueError("a maximum is not linear: it has no matrix. Draw avgpool, or the layer without the matrix")
    activation = None if isinstance(layer, Pool) else layer.activation
    if activation is not None:
        raise ValueError(f"{activation} is not linear: leave it out to draw the matrix of {net}")
    weights = None if weight is None else {"0.weight": weight}
    if weights is not None and not isinstance(layer, Pool) and layer.bias:
        count = layer.out_channels_for(in_channels or 1)
        weights["0.bias"] = [0.0] * count
    made = scene(
        net,
        input_size,
        in_channels,
        weights=weights,
        view="slide",
        max_frames=MOST * MOST,
        max_channels=ALL,
    )
    rows, columns = product(made.steps[0].out_shape), product(made.steps[0].in_shape)
    if max(rows, columns) > MOST:
        raise ValueError(
            f"the matrix has {rows:,} rows (outputs) and {columns:,} columns (inputs), a drawing shows at most {MOST} "
            "of each. Draw a smaller input_size or fewer channels"
        )
    return Drawing(MatrixComposer(made, colours, values))
