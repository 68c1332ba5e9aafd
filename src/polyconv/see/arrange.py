"""The arrangement of one step on the canvas: columns for pictures and volumes, rows for sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from polyconv.layers import Conv, ConvTranspose, Pool, Sizes
from polyconv.see import numbers as text
from polyconv.see.lettering import wrapped
from polyconv.see.panel import Panel, panel_size
from polyconv.see.parts import Kind, Step

WIDTH = 600
MARGIN = 18
ROOM = WIDTH - 2 * MARGIN
LARGEST, SMALLEST = 40, 6
TALLEST = 760
HEADING, SMALL = 13.0, 11.0
GAP = 40
GUTTER = 128  # left of sequences, for their headings
LEAST = {"input": 96.0, "kernel": 96.0, "output": 162.0}


@dataclass
class Plan:
    """Where everything of a step is.

    Args:
        cell: the width of a cell.
        inputs: the panel of each input grid.
        kernels: the panel of the kernel beside each input grid; empty for pointwise steps.
        stamps: for a stamp, where its products are shown.
        outputs: the panel of each output grid.
        headings: (x, y, text, size, whether it is a title).
        bottom: the first free y under it.
        rows: whether it is the arrangement for sequences.
    """

    cell: float
    inputs: list[Panel] = field(default_factory=list)
    kernels: list[Panel] = field(default_factory=list)
    stamps: list[Panel] = field(default_factory=list)
    outputs: list[Panel] = field(default_factory=list)
    headings: list[tuple[float, float, str, float, bool]] = field(default_factory=list)
    bottom: float = 0.0
    rows: bool = False


def arrange_all(steps: Sequence[Step], top: float) -> tuple[Plan, ...]:
    """The arrangement of every step, all with cells of one size."""
    cell = min(int(arrange(step, top).cell) for step in steps)
    return tuple(arrange(step, top, cell) for step in steps)


def arrange(step: Step, top: float, largest: int = LARGEST) -> Plan:
    """The largest arrangement of a step that fits the canvas.

    Raises:
        ValueError: where its cells would be too small to see.
    """
    make: Callable[[Step, float, float], Plan | None] = _rows if len(step.out_shape) == 2 else _columns
    for cell in range(largest, SMALLEST - 1, -1):
        plan = make(step, top, float(cell))
        if plan is not None:
            return plan
    given, made = ("x".join(map(str, grid.shape)) for grid in (step.inputs[0], step.outputs[0]))
    raise ValueError(
        f"{step.text}: {given} cells of input and {made} of "
        f"output do not fit a drawing {WIDTH} wide and {TALLEST} high. Draw a smaller input_size or fewer channels"
    )


def kernel_shape(step: Step) -> Sizes:
    """The size of the window, () for a pointwise step."""
    layer = step.layer
    if isinstance(layer, Conv | ConvTranspose | Pool):
        return layer.kernel_for(len(step.out_shape) - 1)
    return ()


def _sized(shape: Sizes) -> str:
    channels, *spatial = shape
    return f"{channels:,} channels of {text.sizes(spatial)}" if channels > 1 else text.sizes(spatial)


def about_input(step: Step) -> list[str]:
    """What stands under the heading "input"."""
    grid = step.inputs[0]
    said = [_sized(step.in_shape)]
    if (grid.kinds == Kind.PADDING).any():
        mode = step.layer.padding_mode if isinstance(step.layer, Conv) else ""
        mode = "" if mode in ("", "zeros") else f" ({mode})"
        said.append(f"dashed: padding {_sides(grid.kinds == Kind.PADDING)}{mode}")
    if (grid.kinds == Kind.STUFFED).any():
        said.append("grey: zeros put in between")
    return said


def _sides(mask: object) -> str:
    """The border that a mask marks, as "1", or "0:1×2:0" where the sides differ."""
    import numpy as np

    inside = np.argwhere(~np.asarray(mask))
    shape = np.asarray(mask).shape
    if not len(inside):
        return ""
    pairs = [
        (int(low), int(size - 1 - high)) for low, high, size in zip(inside.min(0), inside.max(0), shape, strict=True)
    ]
    if len({side for pair in pairs for side in pair}) == 1:
        return str(pairs[0][0])
    return text.TIMES.join(str(a) if a == b else f"{a}:{b}" for a, b in pairs)


def about_kernel(step: Step) -> tuple[str, list[str]]:
    """The middle heading and what stands under it."""
    kernel = kernel_shape(step)
    if not kernel:
        return "", []
    layer = step.layer
    name = "window" if isinstance(layer, Pool) else "kernel"
    said = [text.sizes(kernel)]
    rank = len(kernel)
    if isinstance(layer, Conv | ConvTranspose | Pool):
        for word, values in (("stride", layer.strides_for(rank)), ("dilation", layer.dilations_for(rank))):
            if any(value != 1 for value in values):
                said.append(f"{word} {values[0] if len(set(values)) == 1 else text.sizes(values)}")
    if step.flipped:
        name = "flipped kernel"
    if isinstance(layer, ConvTranspose) and step.view == "slide":
        said = [item for item in said if not item.startswith("stride")]
    if step.groups > 1 and not isinstance(layer, Pool):
        said.append(f"{step.groups} groups")
    return name, said


def about_output(step: Step) -> list[str]:
    """What stands under the heading "output of this operation"."""
    cropped = step.outputs[0].kinds == Kind.CROPPED
    said = [_sized(step.out_shape)]
    if cropped.any():
        said.append(f"grey: cropped {_sides(cropped)}")
    if step.view == "stamp" and step.bias is not None and step.bias.any():
        said.append("starts from the bias")
    return said


def _headed(plan: Plan, x: float, y: float, width: float, title: str, said: list[str]) -> float:
    """Add a heading at (x, y); return the y below it."""
    for line in wrapped(title, HEADING, width):
        plan.headings.append((x, y + HEADING, line, HEADING, True))
        y += HEADING + 4
    for item in said:
        for line in wrapped(item, SMALL, width):
            plan.headings.append((x, y + SMALL, line, SMALL, False))
            y += SMALL + 3
    return y + 6


def _columns(step: Step, top: float, cell: float) -> Plan | None:
    kernel = kernel_shape(step)
    sizes = [panel_size(shape, cell) for shape in (step.inputs[0].shape, kernel or (1, 1), step.outputs[0].shape)]
    (in_wide, in_high), (k_wide, k_high), (out_wide, out_high) = sizes
    wides = [max(in_wide, LEAST["input"]), max(k_wide, LEAST["kernel"]), max(out_wide, LEAST["output"])]
    if sum(wides) + 2 * GAP > ROOM:
        return None
    spare = (ROOM - sum(wides) - 2 * GAP) / 2
    starts = [MARGIN, MARGIN + wides[0] + GAP + spare, WIDTH - MARGIN - wides[2]]
    plan = Plan(cell)
    name, said = about_kernel(step)
    below = [
        _headed(plan, starts[0], top, wides[0], "input", about_input(step)),
        _headed(plan, starts[1], top, wides[1] + GAP / 2, name, said) if name else top,
        _headed(plan, starts[2], top, wides[2], "output of this operation", about_output(step)),
    ]
    start = max(below)
    several = len(step.inputs) > 1 or len(step.outputs) > 1
    label = SMALL + 5 if several else 0.0
    middle_high = 2 * k_high + 24 if step.view == "stamp" else k_high + (SMALL + 6 if several and kernel else 0)
    pitch = max(in_high, middle_high if kernel else 0) + label + 12
    out_pitch = out_high + (label if several else 0) + 12
    body = max(len(step.inputs) * pitch, len(step.outputs) * out_pitch) - 12
    if start - top + body > TALLEST:
        return None
    in_top = start + (body + 12 - len(step.inputs) * pitch) / 2
    out_top = start + (body + 12 - len(step.outputs) * out_pitch) / 2
    for row in range(len(step.inputs)):
        y = in_top + row * pitch + label
        room = pitch - label - 12
        plan.inputs.append(Panel(starts[0], round(y + (room - in_high) / 2), cell, step.inputs[0].shape))
        if kernel:
            k_y = round(y + (room - middle_high) / 2)
            plan.kernels.append(Panel(starts[1], k_y, cell, kernel))
            if step.view == "stamp":
                plan.stamps.append(Panel(starts[1], k_y + k_high + 24, cell, kernel))
    for row, grid in enumerate(step.outputs):
        plan.outputs.append(Panel(starts[2], round(out_top + row * out_pitch + label), cell, grid.shape))
    plan.bottom = start + body
    return plan


def _rows(step: Step, top: float, cell: float) -> Plan | None:
    kernel, several = kernel_shape(step), len(step.inputs) > 1 or len(step.outputs) > 1
    stamp = step.view == "stamp"
    layer = step.layer
    dilation = layer.dilations_for(1)[0] if isinstance(layer, Conv | ConvTranspose | Pool) else 1
    across = max(step.inputs[0].shape[0], step.outputs[0].shape[0], *kernel, 1)
    room = ROOM - GUTTER
    if across * cell > room:
        return None
    plan = Plan(cell, rows=True)
    label = SMALL + 6 if several else 0.0

    def block(
        y: float, title: str, said: list[str], panels: list[Panel], count: int, size: int, pitch: int = 1
    ) -> float:
        under = _headed(plan, MARGIN, y, GUTTER - 12, title, said)
        x = MARGIN + GUTTER + (room - ((size - 1) * pitch + 1) * cell) / 2
        for _ in range(count):
            panels.append(Panel(round(x), round(y + label), cell, (size,), pitch))
            y += cell + 8 + label
        return max(under, y) + 14

    y = block(top, "input", about_input(step), plan.inputs, len(step.inputs), step.inputs[0].shape[0])
    if kernel:
        name, said = about_kernel(step)
        y = block(y, name, said, plan.kernels, 1 if stamp else len(step.inputs), kernel[0], 1 if stamp else dilation)
    if stamp:
        y = block(y, "stamped", [], plan.stamps, 1, kernel[0], dilation)
    outputs = step.outputs
    y = block(y, "output of this operation", about_output(step), plan.outputs, len(outputs), outputs[0].shape[0])
    plan.bottom = y - 16
    return plan if plan.bottom - top <= TALLEST else None
