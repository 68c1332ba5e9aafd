"""A network as code for PyTorch, Keras and ONNX: text to copy, which builds the same layers with their own weights.

Where a framework has no counterpart, the error says which stage and why: nothing is written that means another layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from polyconv._checks import choice
from polyconv.geometry import Axis
from polyconv.layers import (
    LEAKY_SLOPE,
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    GlobalPool,
    Identity,
    Layer,
    Pool,
    Sizes,
    Upsample,
)
from polyconv.network import INPUT, Branches, Join, Network, Node, Stage
from polyconv.notation import network as parsed

SYSTEMS = ("PyTorch", "Keras", "ONNX")
_TORCH_ACTIVATIONS = {
    "relu": "ReLU()",
    "relu6": "ReLU6()",
    "leaky_relu": f"LeakyReLU({LEAKY_SLOPE})",
    "silu": "SiLU()",
    "gelu": "GELU()",
    "sigmoid": "Sigmoid()",
    "tanh": "Tanh()",
    "hardswish": "Hardswish()",
}
_KERAS_ACTIVATIONS = {name: f'"{name}"' for name in ("relu", "relu6", "silu", "gelu", "sigmoid", "tanh")} | {
    "leaky_relu": f"layers.LeakyReLU(negative_slope={LEAKY_SLOPE})",
    "hardswish": '"hard_swish"',
}
_ONNX_ACTIVATIONS = {
    "relu": "Relu",
    "gelu": "Gelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hardswish": "HardSwish",
}
_JOINS = """class {name}(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return {body}

"""
_BODIES = {"add": "sum(branch(x) for branch in self.branches)"}
_BODIES["concat"] = "torch.cat([branch(x) for branch in self.branches], dim=1)"


def code(network: Network | str, in_shape: Sizes, system: str = "PyTorch") -> str:
    """The network as Python code of another framework.

    Args:
        network: a network or its text.
        in_shape: (batch, channels, *spatial) of its input; Keras and ONNX code is for these sizes.
        system: one of ``SYSTEMS``.

    Raises:
        ValueError: where the input does not fit, or the framework has no such layer.

    Example:
        >>> print(code("conv 3x3 8 stride 2 padding 1 relu", (1, 3, 32, 32)))
        import torch
        from torch import nn
        <BLANKLINE>
        model = nn.Sequential(
            nn.Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
            nn.ReLU(),
        )
        y = model(torch.randn(1, 3, 32, 32))
        <BLANKLINE>
    """
    net = parsed(network)
    shape = net.checked_input(in_shape)
    shapes = (shape, *net.shapes(shape))
    write: dict[str, Callable[[Network, tuple[Sizes, ...]], str]] = {"PyTorch": _torch, "Keras": _keras, "ONNX": _onnx}
    return write[choice(system, SYSTEMS, "system")](net, shapes)


class _Located:
    """Gives each node of a network the shape it reads and names it in errors."""

    def __init__(self, net: Network, shapes: tuple[Sizes, ...]) -> None:
        self.net, self.shapes, self.ndim = net, shapes, len(shapes[0]) - 2

    def read_by(self, node: Node) -> tuple[int, Sizes]:
        """Channels and spatial sizes of a node's input."""
        shape = self.shapes[node.inputs[0] + 1]
        return shape[1], shape[2:]

    def refuse(self, node: Node, system: str, why: str) -> ValueError:
        return ValueError(f"stage {node.name} ({node.text}): {system} has no such layer: {why}")


def _pairs(axes: tuple[Axis, ...]) -> list[tuple[int, int]]:
    return [(axis.before, axis.after) for axis in axes]


def _reversed_pads(pairs: list[tuple[int, int]]) -> tuple[int, ...]:
    """Padding as PyTorch has it: the last axis first."""
    return tuple(side for pair in reversed(pairs) for side in pair)


def _call(name: str, *positional: object, **named: object) -> str:
    shown = [str(value) for value in positional] + [f"{key}={value}" for key, value in named.items()]
    return f"{name}({', '.join(shown)})"


def _named(**values: tuple[Sizes, int]) -> dict[str, object]:
    """The arguments that are not what a framework assumes."""
    return {name: value for name, (value, plain) in values.items() if set(value) != {plain}}


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def _torch(net: Network, shapes: tuple[Sizes, ...]) -> str:
    located = _Located(net, shapes)
    nodes = iter(net.nodes)
    body = _torch_stages(located, net.stages, nodes, "    ")
    kinds = sorted({node.layer.kind for node in net.nodes if isinstance(node.layer, Join)})
    classes = "".join("\n" + _JOINS.format(name=kind.title(), body=_BODIES[kind]) for kind in kinds)
    head = f"import torch\nfrom torch import nn\n\n{classes}"
    sizes = ", ".join(map(str, shapes[0]))
    training = "model.eval()\n" if any(isinstance(node.layer, BatchNorm) for node in net.nodes) else ""
    return f"{head}model = nn.Sequential(\n{body})\n{training}y = model(torch.randn({sizes}))\n"


def _torch_stages(located: _Located, stages: tuple[Stage, ...], nodes: Iterator[Node], indent: str) -> str:
    """The lines of some stages, which use up their nodes."""
    made = ""
    for stage in stages:
        if isinstance(stage, Branches):
            made += f"{indent}{stage.kind.title()}(\n"
            for branch in stage.branches:
                inner = _torch_stages(located, branch, nodes, indent + "        ")
                made += f"{indent}    nn.Sequential(\n{inner}{indent}    ),\n"
            made += f"{indent}),\n"
            next(nodes)  # the join itself
            continue
        for _ in stage.parts():
            made += "".join(f"{indent}nn.{line},\n" for line in _torch_layer(located, next(nodes)))
    return made


def _torch_layer(located: _Located, node: Node) -> list[str]:
    layer, ndim = node.layer, located.ndim
    channels, spatial = located.read_by(node)
    match layer:
        case Conv():
            lines = _torch_conv(layer, channels, spatial)
        case ConvTranspose():
            lines = _torch_transposed(layer, channels, spatial)
        case Pool():
            lines = _torch_pool(located, node, layer, spatial)
        case GlobalPool():
            lines = [f"Adaptive{layer.kind.title()}Pool{ndim}d(1)"]
        case Upsample():
            scales = tuple(map(float, layer.scales_for(ndim)))
            lines = [_call("Upsample", scale_factor=scales, mode='"nearest"')]
        case BatchNorm():
            lines = [f"BatchNorm{ndim}d({channels})"]
        case Activation():
            return [_TORCH_ACTIVATIONS[layer.name]]
        case Identity():
            return ["Identity()"]
        case _:
            raise located.refuse(node, "PyTorch", "it is not known here")
    activation = getattr(layer, "activation", None)
    return [*lines, _TORCH_ACTIVATIONS[activation]] if activation else lines


def _torch_conv(layer: Conv, channels: int, spatial: Sizes) -> list[str]:
    ndim = len(spatial)
    pairs, lines = _pairs(layer.axes(spatial)), []
    pads, mode = tuple(before for before, _ in pairs), layer.padding_mode
    if any(before != after for before, after in pairs):
        kinds = {"zeros": "Constant", "reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}
        value = (0.0,) if mode == "zeros" else ()
        lines.append(_call(f"{kinds[mode]}Pad{ndim}d", _reversed_pads(pairs), *value))
        pads, mode = (0,) * ndim, "zeros"
    options = _named(stride=(layer.strides_for(ndim), 1), padding=(pads, 0), dilation=(layer.dilations_for(ndim), 1))
    groups = layer.groups_for(channels)
    options |= {"groups": groups} if groups > 1 else {}
    options |= {} if layer.bias else {"bias": False}
    options |= {} if mode == "zeros" or not any(pads) else {"padding_mode": f'"{mode}"'}
    out = layer.out_channels_for(channels)
    return [*lines, _call(f"Conv{ndim}d", channels, out, kernel_size=layer.kernel_for(ndim), **options)]


def _torch_transposed(layer: ConvTranspose, channels: int, spatial: Sizes) -> list[str]:
    ndim = len(spatial)
    axes = layer.axes(spatial)
    pads = tuple(min(pair) for pair in _pairs(axes))
    cuts = [(before - pad, after - pad) for (before, after), pad in zip(_pairs(axes), pads, strict=True)]
    sizes = zip(axes, spatial, layer.out_size(spatial), strict=True)
    extra = tuple(out - axis.transposed_size(size) for axis, size, out in sizes)
    options = _named(
        stride=(layer.strides_for(ndim), 1),
        padding=(pads, 0),
        output_padding=(extra, 0),
        dilation=(layer.dilations_for(ndim), 1),
    )
    options |= {"groups": layer.groups} if layer.groups > 1 else {}
    options |= {} if layer.bias else {"bias": False}
    kernel = layer.kernel_for(ndim)
    lines = [_call(f"ConvTranspose{ndim}d", channels, layer.out_channels, kernel_size=kernel, **options)]
    if any(map(any, cuts)):
        lines.append(_call(f"ConstantPad{ndim}d", tuple(-side for side in _reversed_pads(cuts)), 0.0))
    return lines


def _torch_pool(located: _Located, node: Node, layer: Pool, spatial: Sizes) -> list[str]:
    ndim = len(spatial)
    pairs, lines = _pairs(layer.axes(spatial)), []
    kernel = layer.kernel_for(ndim)
    pads = tuple(before for before, _ in pairs)
    uneven = any(before != after for before, after in pairs)
    if uneven or any(2 * pad > size for pad, size in zip(pads, kernel, strict=True)):
        if layer.ceil_mode:
            raise located.refuse(node, "PyTorch", "ceil_mode takes no padding that differs before and after")
        if layer.kind == "avg" and not layer.count_include_pad:
            raise located.refuse(node, "PyTorch", "an average without its padding takes none that differs by side")
        value = 'float("-inf")' if layer.kind == "max" else 0.0
        lines.append(_call(f"ConstantPad{ndim}d", _reversed_pads(pairs), value))
        pads = (0,) * ndim
    options = {"stride": layer.strides_for(ndim)} | _named(padding=(pads, 0), dilation=(layer.dilations_for(ndim), 1))
    options |= {"ceil_mode": True} if layer.ceil_mode else {}
    options |= {} if layer.count_include_pad or layer.kind == "max" else {"count_include_pad": False}
    return [*lines, _call(f"{layer.kind.title()}Pool{ndim}d", kernel, **options)]


# -- Keras -------------------------------------------------------------------------------------------------------------


def _keras(net: Network, shapes: tuple[Sizes, ...]) -> str:
    located = _Located(net, shapes)
    lines: list[str] = []
    for index, node in enumerate(net.nodes):
        sources = [_value(number) for number in node.inputs]
        steps = _keras_node(located, node, shapes[index + 1])
        current = f"[{', '.join(sources)}]" if isinstance(node.layer, Join) else sources[0]
        target = _value(index)
        for step in steps:
            lines.append(f"{target} = {step.replace('@', current)}")
            current = target
    inputs = (*shapes[0][2:], shapes[0][1])
    last = _value(len(net.nodes) - 1)
    body = "\n".join(lines)
    head = f"import keras\nfrom keras import layers\n\n# Keras has the channels last\nx = keras.Input({inputs})\n"
    return f"{head}{body}\nmodel = keras.Model(x, {last})\nmodel.summary()\n"


def _value(index: int) -> str:
    return "x" if index == INPUT else f"x{index}"


def _keras_node(located: _Located, node: Node, out_shape: Sizes) -> list[str]:
    """Expressions in which @ stands for what is read."""
    layer, ndim = node.layer, located.ndim
    channels, spatial = located.read_by(node)
    match layer:
        case Conv():
            return _keras_conv(located, node, layer, channels, spatial)
        case ConvTranspose():
            return _keras_transposed(located, node, layer, spatial, out_shape[2:])
        case Pool():
            return _keras_pool(located, node, layer, spatial)
        case GlobalPool():
            word = {"avg": "Average", "max": "Max"}[layer.kind]
            return [f"layers.Global{word}Pooling{ndim}D(keepdims=True)(@)"]
        case Upsample():
            return [f"layers.UpSampling{ndim}D({_scalar(layer.scales_for(ndim))})(@)"]
        case BatchNorm():
            return [f"layers.BatchNormalization(epsilon={layer.eps})(@)"]
        case Activation():
            return [f"layers.Activation({_KERAS_ACTIVATIONS[layer.name]})(@)"]
        case Join():
            return ["layers.Add()(@)" if layer.kind == "add" else "layers.Concatenate()(@)"]
        case _:
            return ["@"]


def _scalar(values: Sizes) -> object:
    """One axis as a plain number."""
    return values[0] if len(values) == 1 else values


def _keras_padding(layer: Conv | Pool, pairs: list[tuple[int, int]], fill: str) -> tuple[list[str], str]:
    """The padding as a step of its own and the word the layer gets after it."""
    if layer.padding in ("same", "causal") and fill == "zeros":
        return [], f'"{layer.padding}"'
    if not any(map(any, pairs)):
        return [], '"valid"'
    if fill == "zeros":
        return [f"layers.ZeroPadding{len(pairs)}D({_scalar_pairs(pairs)})(@)"], '"valid"'
    amounts = [(0, 0), *pairs, (0, 0)]
    more = 'mode="reflect"' if fill == "reflect" else 'mode="constant", constant_values=float("-inf")'
    return [f"keras.ops.pad(@, {amounts}, {more})"], '"valid"'


def _scalar_pairs(pairs: list[tuple[int, int]]) -> object:
    return pairs[0] if len(pairs) == 1 else tuple(pairs)


def _keras_conv(located: _Located, node: Node, layer: Conv, channels: int, spatial: Sizes) -> list[str]:
    ndim = len(spatial)
    strides, dilations = layer.strides_for(ndim), layer.dilations_for(ndim)
    if layer.padding_mode in ("replicate", "circular"):
        raise located.refuse(node, "Keras", f"no padding by {layer.padding_mode}")
    if max(strides) > 1 and max(dilations) > 1:
        raise located.refuse(node, "Keras", "it takes no stride and dilation together")
    steps, word = _keras_padding(layer, _pairs(layer.axes(spatial)), layer.padding_mode)
    options: dict[str, object] = _named(strides=(strides, 1))
    options |= {} if word == '"valid"' else {"padding": word}
    options |= _named(dilation_rate=(dilations, 1))
    own = layer.depthwise and ndim < 3 and len(set(strides)) == 1 and word != '"causal"'
    groups = layer.groups_for(channels)
    if own:
        options |= {"depth_multiplier": layer.multiplier} if layer.multiplier > 1 else {}
    else:
        options |= {"groups": groups} if groups > 1 else {}
    options |= {"activation": _KERAS_ACTIVATIONS[layer.activation]} if layer.activation else {}
    options |= {} if layer.bias else {"use_bias": False}
    kernel = _scalar(layer.kernel_for(ndim))
    options = {key: _scalar(value) if isinstance(value, tuple) else value for key, value in options.items()}
    if own:
        return [*steps, _call(f"layers.DepthwiseConv{ndim}D", kernel, **options) + "(@)"]
    return [*steps, _call(f"layers.Conv{ndim}D", layer.out_channels_for(channels), kernel, **options) + "(@)"]


def _keras_transposed(located: _Located, node: Node, layer: ConvTranspose, spatial: Sizes, out: Sizes) -> list[str]:
    ndim = len(spatial)
    strides, dilations = layer.strides_for(ndim), layer.dilations_for(ndim)
    if layer.groups > 1:
        raise located.refuse(node, "Keras", "its transposed convolution takes no groups")
    if max(strides) > 1 and max(dilations) > 1:
        raise located.refuse(node, "Keras", "it takes no stride and dilation together")
    options: dict[str, object] = _named(strides=(strides, 1))
    crops: list[tuple[int, int]] = []
    if layer.padding == "same":
        options["padding"] = '"same"'
    else:
        for axis, size, kept in zip(layer.axes(spatial), spatial, out, strict=True):
            whole = Axis(max(axis.span, axis.stride), axis.stride).transposed_size(size)  # what "valid" gives there
            crops.append((axis.before, whole - axis.before - kept))
        if min(map(min, crops)) < 0:
            raise located.refuse(node, "Keras", "it has no outputs beyond the last window to add")
    options |= _named(dilation_rate=(dilations, 1))
    options |= {"activation": _KERAS_ACTIVATIONS[layer.activation]} if layer.activation else {}
    options |= {} if layer.bias else {"use_bias": False}
    options = {key: _scalar(value) if isinstance(value, tuple) else value for key, value in options.items()}
    kernel = _scalar(layer.kernel_for(ndim))
    steps = [_call(f"layers.Conv{ndim}DTranspose", layer.out_channels, kernel, **options) + "(@)"]
    if any(map(any, crops)):
        steps.append(f"layers.Cropping{ndim}D({_scalar_pairs(crops)})(@)")
    return steps


def _keras_pool(located: _Located, node: Node, layer: Pool, spatial: Sizes) -> list[str]:
    ndim = len(spatial)
    if max(layer.dilations_for(ndim)) > 1:
        raise located.refuse(node, "Keras", "its pooling takes no dilation")
    axes = layer.axes(spatial)
    plain = tuple(Axis(a.kernel, a.stride, a.dilation, a.before, a.after) for a in axes)
    if layer.ceil_mode and any(a.out_size(s) != b.out_size(s) for a, b, s in zip(axes, plain, spatial, strict=True)):
        raise located.refuse(node, "Keras", "its pooling does not round sizes up")
    pairs = _pairs(axes)
    padded = any(map(any, pairs))
    if layer.kind == "avg" and padded and not layer.count_include_pad:
        if layer.padding != "same":
            raise located.refuse(node, "Keras", 'averages leave out their padding only where it is "same"')
        steps: list[str] = []
        word = '"same"'
    elif layer.kind == "max" and layer.padding == "same":
        steps, word = [], '"same"'
    elif layer.kind == "avg" and padded:
        steps, word = [f"layers.ZeroPadding{ndim}D({_scalar_pairs(pairs)})(@)"], '"valid"'
    else:
        steps, word = _keras_padding(layer, pairs, "lowest")
    options: dict[str, object] = {"strides": _scalar(layer.strides_for(ndim))}
    options |= {} if word == '"valid"' else {"padding": word}
    name = {"avg": "Average", "max": "Max"}[layer.kind]
    return [*steps, _call(f"layers.{name}Pooling{ndim}D", _scalar(layer.kernel_for(ndim)), **options) + "(@)"]


# -- ONNX --------------------------------------------------------------------------------------------------------------


def _onnx(net: Network, shapes: tuple[Sizes, ...]) -> str:
    located = _Located(net, shapes)
    lines: list[str] = []
    for index, node in enumerate(net.nodes):
        names = [_value(number) for number in node.inputs]
        lines += _onnx_node(located, node, names, _value(index))
    weights = net.parameters(shapes[0][1], located.ndim)
    inputs = {"x": shapes[0], **weights}
    listed = "".join(f'    "{name}": {list(shape)},\n' for name, shape in inputs.items())
    last = _value(len(net.nodes) - 1)
    return (
        "from onnx import TensorProto, checker, helper\n\n"
        f"# the weights are inputs too: give them values, or make them initializers\ninputs = {{\n{listed}}}\n"
        "nodes = [\n" + "".join(f"    {line},\n" for line in lines) + "]\n"
        "values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]\n"
        f'result = helper.make_tensor_value_info("{last}", TensorProto.FLOAT, {list(shapes[-1])})\n'
        'graph = helper.make_graph(nodes, "network", values, [result])\n'
        'model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])\n'
        "checker.check_model(model, full_check=True)\n"
    )


def _make(operator: str, inputs: list[str], output: str, **attributes: object) -> str:
    shown = [f'"{operator}"', _quoted(inputs), _quoted([output])]
    named = [f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in attributes.items()]
    return f"helper.make_node({', '.join(shown + named)})"


def _quoted(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _flat(pairs: list[tuple[int, int]]) -> list[int]:
    """Padding as ONNX has it: all before, then all after."""
    return [*(before for before, _ in pairs), *(after for _, after in pairs)]


def _onnx_node(located: _Located, node: Node, names: list[str], target: str) -> list[str]:
    layer = node.layer
    channels, spatial = located.read_by(node)
    activation = getattr(layer, "activation", None)
    raw = f"{target}_raw" if activation else target
    if isinstance(layer, Activation):
        return _onnx_activation(layer.name, names[0], target)
    lines = _onnx_layer(located, node, layer, names, raw, channels, spatial)
    return [*lines, *_onnx_activation(activation, raw, target)] if activation else lines


def _onnx_layer(
    located: _Located, node: Node, layer: Layer, names: list[str], target: str, channels: int, spatial: Sizes
) -> list[str]:
    ndim = len(spatial)
    weights = [f"{node.name}.{key}" for key in layer.parameters(channels, ndim)]
    match layer:
        case Conv() if layer.padding_mode == "zeros":
            groups = layer.groups_for(channels)
            return [_make("Conv", names + weights, target, **_window(layer, spatial), group=groups)]
        case Conv():
            mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[layer.padding_mode]
            pairs = [(0, 0), (0, 0), *_pairs(layer.axes(spatial))]
            options = {**_window(layer, spatial), "pads": [0] * (2 * ndim), "group": layer.groups_for(channels)}
            return [
                _make("Constant", [], f"{target}_pads", value_ints=_flat(pairs)),
                _make("Pad", [*names, f"{target}_pads"], f"{target}_padded", mode=f'"{mode}"'),
                _make("Conv", [f"{target}_padded", *weights], target, **options),
            ]
        case ConvTranspose():
            axes = layer.axes(spatial)
            sizes = zip(axes, spatial, layer.out_size(spatial), strict=True)
            extra = [out - axis.transposed_size(size) for axis, size, out in sizes]
            options = {**_window(layer, spatial), "output_padding": extra, "group": layer.groups}
            return [_make("ConvTranspose", names + weights, target, **options)]
        case Pool():
            options = _window(layer, spatial) | {"ceil_mode": int(layer.ceil_mode)}
            if layer.kind == "avg":
                options["count_include_pad"] = int(layer.count_include_pad)
            return [_make({"avg": "AveragePool", "max": "MaxPool"}[layer.kind], names, target, **options)]
        case GlobalPool():
            return [_make({"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}[layer.kind], names, target)]
        case Upsample():
            scales = [1.0, 1.0, *map(float, layer.scales_for(ndim))]
            options = {"mode": '"nearest"', "coordinate_transformation_mode": '"asymmetric"', "nearest_mode": '"floor"'}
            return [
                _make("Constant", [], f"{target}_scales", value_floats=scales),
                _make("Resize", [*names, "", f"{target}_scales"], target, **options),
            ]
        case BatchNorm():
            return [_make("BatchNormalization", names + weights, target, epsilon=layer.eps)]
        case Join():
            return [_make("Sum", names, target) if layer.kind == "add" else _make("Concat", names, target, axis=1)]
        case _:
            return [_make("Identity", names, target)]


def _window(layer: Conv | ConvTranspose | Pool, spatial: Sizes) -> dict[str, object]:
    ndim = len(spatial)
    return {
        "kernel_shape": layer.kernel_for(ndim),
        "strides": layer.strides_for(ndim),
        "pads": _flat(_pairs(layer.axes(spatial))),
        "dilations": layer.dilations_for(ndim),
    }


def _onnx_activation(name: str, source: str, target: str) -> list[str]:
    match name:
        case "relu6":
            bounds = [f"{target}_low", f"{target}_high"]
            constants = [
                _make("Constant", [], bound, value_float=v) for bound, v in zip(bounds, (0.0, 6.0), strict=True)
            ]
            return [*constants, _make("Clip", [source, *bounds], target)]
        case "silu":
            gate = f"{target}_gate"
            return [_make("Sigmoid", [source], gate), _make("Mul", [source, gate], target)]
        case "leaky_relu":
            return [_make("LeakyRelu", [source], target, alpha=LEAKY_SLOPE)]
        case _:
            return [_make(_ONNX_ACTIVATIONS[name], [source], target)]
