"""Stages as fields that sliders move, and fields as notation again."""

from __future__ import annotations

import json
from typing import Any

from polyconv.layers import Conv, ConvTranspose, Pool, Separable, Spatial
from polyconv.network import Network, Stage
from polyconv.notation import network, options, render
from polyconv.see.studio.state import MAX_AXES

KINDS = ("conv", "pointwise", "depthwise", "separable", "spatial", "transposed", "maxpool", "avgpool")
PER_AXIS = ("kernel", "stride", "dilation", "output_padding", "pads")
_BLANK = {"kernel": "3", "stride": "1", "dilation": "1", "output_padding": "0", "pads": "1"}
_COUNTS = ("groups", "multiplier")
MAX_EDIT = 2000


def fields_of(stage: Stage, ndim: int) -> dict[str, Any] | None:
    """The fields of one stage, all of them texts; None for what the builder has no sliders for.

    Example:
        >>> fields = fields_of(network("conv 3x5 8 padding 0:1x2").stages[0], 2)
        >>> fields["kind"], fields["kernel"], fields["padding"], fields["pads"]
        ('conv', ['3', '5'], 'numbers', ['0:1', '2'])
    """
    multiplier, kind, layer = 1, "", stage
    if isinstance(stage, Separable):
        kind, layer, multiplier = "separable", stage.depthwise, stage.depthwise.multiplier
    elif isinstance(stage, Spatial):
        kind, layer = "spatial", stage.full
    elif isinstance(stage, Conv):
        kind = "depthwise" if stage.depthwise else "pointwise" if stage.kernel_size is None else "conv"
        multiplier = stage.multiplier
    elif isinstance(stage, ConvTranspose):
        kind = "transposed"
    elif isinstance(stage, Pool):
        kind = f"{stage.kind}pool"
    if not kind or not isinstance(layer, Conv | ConvTranspose | Pool):
        return None
    last = stage.pointwise if isinstance(stage, Separable) else layer
    words = isinstance(layer.padding, str)
    pairs = () if words else layer._pairs(ndim)
    extra = layer.output_padding if isinstance(layer, ConvTranspose) else (0,) * ndim
    return {
        "kind": kind,
        "kernel": list(map(str, layer.kernel_for(ndim))),
        "stride": list(map(str, layer.strides_for(ndim))),
        "dilation": list(map(str, layer.dilations_for(ndim))),
        "padding": layer.padding if words else "numbers",
        "pads": [str(b) if b == a else f"{b}:{a}" for b, a in pairs] or ["0"] * ndim,
        "output_padding": list(map(str, extra)),  # type: ignore[arg-type]
        "out": str(getattr(last, "out_channels", None) or ""),
        "groups": str(getattr(layer, "groups", None) or 1),
        "multiplier": str(multiplier),
        "activation": getattr(last, "activation", None) or "",
        "mode": getattr(layer, "padding_mode", "zeros"),
        "bias": getattr(layer, "bias", True),
        "flags": [word for word, on in _flags(layer) if on],
    }


def _flags(layer: Any) -> list[tuple[str, bool]]:
    return [
        ("ceil", getattr(layer, "ceil_mode", False)),
        ("exclude_pad", not getattr(layer, "count_include_pad", True)),
    ]


def text_of(fields: dict[str, Any], ndim: int, out_channels: int = 1) -> str:
    """The notation of one stage with these fields; what its kind does not take is left out.

    Example:
        >>> text_of({"kind": "conv", "kernel": ["3", "5"], "out": "8", "padding": "same", "activation": "relu"}, 2)
        'conv 3x5 8 same relu'
    """
    kind = str(fields.get("kind", "conv"))
    takes = options(kind)
    words = [kind]
    if "kernel" in takes:
        words.append(_axes(fields, "kernel", ndim))
    if "out_channels" in takes:
        words.append(str(fields.get("out") or out_channels))
    for name in ("stride", "dilation", "output_padding"):
        text = _axes(fields, name, ndim)
        plain = {_BLANK[name]} == set(text.split("x")) and not (name == "stride" and kind.endswith("pool"))
        if name in takes and not plain:
            words += [name, text]
    padding = str(fields.get("padding", "valid"))
    if padding == "numbers":
        words += ["padding", _axes(fields, "pads", ndim)]
    elif padding != "valid":
        words.append(padding)
    for name in _COUNTS:
        if name in takes and str(fields.get(name, "1")) != "1":
            words += [name, str(fields[name])]
    mode, activation = str(fields.get("mode", "zeros")), str(fields.get("activation", ""))
    words += [
        word for word in (mode, activation, *map(str, fields.get("flags", ()))) if word in takes and word != "zeros"
    ]
    if "nobias" in takes and not fields.get("bias", True):
        words.append("nobias")
    return render(network(" ".join(words)).stages)


def _axes(fields: dict[str, Any], name: str, ndim: int) -> str:
    """One number per axis, joined by x; the last is repeated where there are too few."""
    given = fields.get(name) or [_BLANK[name]]
    values = [str(value) for value in (given if isinstance(given, list) else [given])]
    return "x".join((values + values[-1:] * ndim)[:ndim])


def edited(net: Network, edit: str, channels: int) -> tuple[str, int]:
    """The network's text after an edit of the builder, and the stage to show next.

    Args:
        net: the network.
        edit: JSON: {"op": "set", "stage": 0, "fields": {...}}, or op "add", "remove" or "rank" ("rank": 1 to 3).
        channels: output channels of the stage, for kinds that had none of their own.
    """
    try:
        wanted = json.loads(edit) if len(edit) <= MAX_EDIT else None
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("stage", 0), int):
        raise ValueError("the edit is not one of the builder's. Reload the page")
    stages = [render((stage,)) for stage in net.stages]
    index = min(max(wanted.get("stage", 0), 0), len(stages) - 1)
    ndim = net.ndim or 2
    match wanted.get("op"):
        case "set" if isinstance(wanted.get("fields"), dict):
            stages[index] = text_of(wanted["fields"], ndim, channels)
        case "add":
            kernel = "x".join("3" * ndim)
            stages.insert(index + 1, f"conv {kernel} {min(channels, 16)} same")
            index += 1
        case "remove" if len(stages) > 1:
            del stages[index]
            index = max(0, index - 1)
        case "rank" if wanted.get("rank") in range(1, MAX_AXES + 1):
            stages = [_with_rank(stage, ndim, wanted["rank"]) for stage in net.stages]
        case _:
            raise ValueError("this cannot be done: a network needs at least one stage. Add another first")
    return " | ".join(stages), index


def _with_rank(stage: Stage, ndim: int, rank: int) -> str:
    """The stage with the first axis's numbers on each of ``rank`` axes."""
    fields = fields_of(stage, ndim)
    if fields is None:
        if getattr(stage, "ndim", 0) is None:
            return render((stage,))
        raise ValueError(f"{render((stage,))} cannot be given other axes by the builder. Write it as text")
    if fields["padding"] == "causal" and rank > 1:
        fields["padding"] = "same"
    return text_of({**fields, **{name: fields[name][:1] for name in PER_AXIS}}, rank)
