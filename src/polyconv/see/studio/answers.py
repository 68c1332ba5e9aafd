"""What the studio's page shows of a state, as plain values: every number in it is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from polyconv._units import amount
from polyconv.count.advice import check
from polyconv.count.alternatives import compare
from polyconv.count.render import sizes_text
from polyconv.count.tally import ITEM_BYTES, Report, count
from polyconv.geometry import product
from polyconv.layers import Conv, ConvTranspose, Pool, Separable, Sizes, Spatial
from polyconv.network import Network
from polyconv.notation import network
from polyconv.see import sample
from polyconv.see.choose import MAX_CHANNELS
from polyconv.see.code import SYSTEMS, code
from polyconv.see.drawing import Drawing, draw
from polyconv.see.page import moving
from polyconv.see.studio.build import KINDS, edited, fields_of
from polyconv.see.studio.state import State, number, read_state
from polyconv.see.svg import one

MAX_DRAWN = 5_000_000  # MACs of a drawing's own arithmetic, and numbers it holds
DRAWN_SIDES = (6, 0)  # of the smaller input that is drawn instead: this, else the smallest that fits
MAX_DRAWN_FRAMES, FEWEST_FRAMES = 200, 25
MAX_TERMS = 8000  # of all frames
CHUNK = 8  # frames in one answer
Answer = dict[str, Any]


def view(query: Mapping[str, str]) -> Answer:
    """Everything the page shows; where the state does not hold, a sentence under "problem"."""
    try:
        state = after_edit(query)
        return shown(state)
    except (ValueError, TypeError, ArithmeticError) as error:
        return {"problem": str(error)}


def after_edit(query: Mapping[str, str]) -> State:
    """The state that the address and the builder's edit describe."""
    state = read_state(query)
    if "edit" not in query:
        return state
    before = Network(state.network.stages[: state.stage + 1])
    text, stage = edited(state.network, query["edit"], before.channels(state.in_shape[0])[len(before.nodes) - 1])
    return read_state({**query, "net": text, "stage": str(stage), "input": state.input, "loose": "1"})


def shown(state: State) -> Answer:
    """The page's contents for a state."""
    net, shape = state.network, (1, *state.in_shape)
    report = count(net, shape)
    ndim = len(state.in_shape) - 1
    field = report.rows[-1].receptive_field
    return {
        "state": {
            "net": state.text,
            "input": state.input,
            "view": state.view,
            "flip": str(int(state.flip)),
            "seed": state.seed,
            "stage": state.stage,
        },
        "title": str(net),
        "note": state.note,
        "ndim": ndim,
        "in_shape": list(state.in_shape),
        "stages": [
            {"text": text, "fields": fields_of(stage, ndim)}
            for stage, text in zip(net.stages, (str(Network((s,))) for s in net.stages), strict=True)
        ],
        "kinds": list(KINDS),
        "convolves": _convolves(net),
        "transposed": any(isinstance(node.layer, ConvTranspose) for node in net.nodes),
        "figures": figures(report),
        "layers": layers(report),
        "advice": [
            {"stage": a.stage, "what": a.what, "why": a.why, "fix": a.fix, "source": a.source}
            for a in check(net, shape)
        ],
        "field": None if field is None else {"size": list(field.size), "aligned": field.aligned},
        "compare": compared(state),
        "code": codes(state),
        "drawing": drawing(state),
    }


def figures(report: Report) -> list[Answer]:
    """The few numbers that say most."""
    last = report.rows[-1]
    field = last.receptive_field
    seen = (sizes_text(field.size), f"stride {sizes_text(field.stride)}") if field else ("–", last.field_problem)
    return [
        {"name": "output", "value": sizes_text(report.out_shape[1:]), "unit": "channels × size"},
        {"name": "parameters", "value": amount(report.params), "unit": exactly(report.params)},
        {"name": "MACs", "value": amount(report.macs), "unit": f"{amount(report.macs_on_data)} on data"},
        {"name": "receptive field", "value": seen[0], "unit": seen[1]},
    ]


def exactly(count: int) -> str:
    """A number in full, where the short form leaves digits out."""
    return f"{count:,}" if amount(count) != f"{count:,}" else "weights and biases"


def layers(report: Report) -> Answer:
    """The table of layers."""
    head = ["stage", "layer", "output", "parameters", "MACs", "receptive field"]
    rows = [
        [
            row.name,
            row.text,
            sizes_text(row.out_shape[1:]),
            f"{row.params:,}",
            f"{row.macs:,}",
            sizes_text(row.receptive_field.size) if row.receptive_field else "–",
        ]
        for row in report.rows
    ]
    return {"head": head, "rows": rows}


def compared(state: State) -> Answer:
    """The stage that is being built beside the other kinds of convolution, where it is one."""
    stage = state.network.stages[state.stage]
    text = str(Network((stage,)))
    if not isinstance(stage, Conv | ConvTranspose | Separable | Spatial):
        return {"problem": f"{text} is no convolution. Choose a stage that is one"}
    before = state.network.stages[: state.stage]
    try:
        shape = Network(before).out_shape((1, *state.in_shape)) if before else (1, *state.in_shape)
        found = compare(Network((stage,)), shape)
    except ValueError as error:
        return {"problem": str(error)}
    top = max(max((row.report.macs for row in found.rows), default=1), 1)
    rows = [
        {
            "kind": row.kind,
            "text": str(row.network),
            "params": f"{row.report.params:,}",
            "macs": amount(row.report.macs),
            "ratio": f"{found.macs_ratio(row):.2f}",
            "share": row.report.macs / top,
            "note": row.note,
        }
        for row in found.rows
    ]
    return {"of": text, "in_shape": sizes_text(shape[1:]), "rows": rows, "left_out": [list(x) for x in found.left_out]}


def codes(state: State) -> list[Answer]:
    """The network in the code of each system, or why it cannot be written there."""
    found = []
    for system in SYSTEMS:
        try:
            found.append({"name": system, "text": code(state.network, (1, *state.in_shape), system)})
        except ValueError as error:
            found.append({"name": system, "problem": str(error)})
    return found


# -- the drawing -------------------------------------------------------------------------------------------------------


def drawing(state: State) -> Answer:
    """The drawing without its frames but the first; a smaller one, or a sentence, where it would be too large."""
    try:
        made, note = drawn(state)
    except ValueError as error:
        return {"problem": str(error)}
    first = made.picture(0)
    elements = list(map(one, first.shapes))
    outputs = {
        tag: {"frame": s.frame, "title": s.title, "lines": s.lines} for tag, s in made.composer.outputs().items()
    }
    return {
        "svg": moving(first, elements),
        "count": len(made.frames),
        "frames": {"0": "".join(elements)},
        "said": {"0": first.description},
        "outputs": outputs,
        "note": note,
    }


def frames(query: Mapping[str, str]) -> Answer:
    """Some frames of the drawing, from ``first`` on."""
    try:
        state = read_state(query)
        made, _ = drawn(state)
        first = number(query, "first", MAX_DRAWN_FRAMES * 2)
    except (ValueError, TypeError, ArithmeticError) as error:
        return {"problem": str(error)}
    chosen = range(first, min(first + CHUNK, len(made.frames)))
    marked = {str(index): markup(made, index) for index in chosen}
    return {
        "frames": {index: pair[0] for index, pair in marked.items()},
        "said": {index: pair[1] for index, pair in marked.items()},
    }


def markup(made: Drawing, index: int) -> tuple[str, str]:
    """One frame's shapes as SVG elements, and what it says in words."""
    picture = made.frames[index]
    return "".join(map(one, picture.shapes)), picture.description


def drawn(state: State) -> tuple[Drawing, str]:
    """The drawing of a state, and a sentence where it had to be of a smaller input than asked for."""
    net = state.network
    return _kept(str(net), state.in_shape, state.view, state.flip and _convolves(net), state.theme, state.seed)


def _convolves(net: Network) -> bool:
    return any(isinstance(node.layer, Conv) for node in net.nodes)


@lru_cache(maxsize=16)
def _kept(text: str, in_shape: Sizes, view: str, flip: bool, theme: str, seed: int) -> tuple[Drawing, str]:
    net = network(text)
    options: dict[str, Any] = {"view": view, "flip": flip, "theme": theme, "seed": seed}
    try:
        return _drawn(net, in_shape, options), ""
    except ValueError as error:
        problem = error
    for side in DRAWN_SIDES:
        smaller = (in_shape[0], *(side or sample.first_size(net)[0],) * (len(in_shape) - 1))
        try:
            made = _drawn(net, smaller, options)
        except ValueError:
            continue
        said = f"Too large to draw: {problem}".rstrip(".")
        where = f"Drawn here on an input of {sizes_text(smaller)}; the numbers are for {sizes_text(in_shape)}."
        return made, f"{said}. {where}"
    raise problem


def _drawn(net: Network, in_shape: Sizes, options: dict[str, Any]) -> Drawing:
    report = count(net, (1, *in_shape))
    numbers = report.peak_activation_bytes // ITEM_BYTES[report.dtype]
    for found, what in ((report.macs, "MACs"), (numbers, "numbers at once")):
        if found > MAX_DRAWN:
            raise ValueError(
                f"an input of {sizes_text(in_shape)} needs {amount(found)} {what}; the studio draws up to "
                f"{amount(MAX_DRAWN)}. Use a smaller input or fewer channels to see it move"
            )
    return draw(net, in_shape[1:], in_shape[0], max_frames=_frames(net, in_shape), **options)


def _frames(net: Network, in_shape: Sizes) -> int:
    """How many frames are drawn: fewer where each has many terms, so that a change is answered quickly."""
    channels, rank, terms = net.channels(in_shape[0]), len(in_shape) - 1, 1
    for node in net.nodes:
        if isinstance(node.layer, Conv | ConvTranspose | Pool):
            window = product(node.layer.kernel_for(rank))
            terms = max(terms, window * min(channels[node.inputs[0]], MAX_CHANNELS))
    return min(max(MAX_TERMS // terms, FEWEST_FRAMES), MAX_DRAWN_FRAMES)
