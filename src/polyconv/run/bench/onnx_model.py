"""A case as an ONNX model, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from polyconv.run.bench.case import Case, Step, Weights

_OPSET = 20
_ACTIVATIONS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "gelu": "Gelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hardswish": "HardSwish",
}


def refuses(case: Case) -> str | None:
    """Why ONNX cannot say this case in one operator a step, or None."""
    if any(min(pair) < 0 for step in case.steps for pair in step.padding):
        return "ONNX operators take no negative padding"
    return None


def build(case: Case, weights: list[Weights]) -> bytes:
    """The serialised model: input ``x``, output ``y``, static shapes, weights as initialisers."""
    onnx = import_module("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes: list[Any] = []
    initializers: list[Any] = []
    name = "x"
    for index, (step, pair) in enumerate(zip(case.steps, weights, strict=True)):
        inputs = [name]
        for kind, array in zip(("weight", "bias"), pair, strict=True):
            if array is not None:
                initializers.append(numpy_helper.from_array(array, f"{kind}{index}"))
                inputs.append(f"{kind}{index}")
        name = f"step{index}"
        nodes.append(_operator(helper, step, inputs, name))
        if step.activation is not None:
            nodes += _activation(helper, step.activation, name, f"active{index}", initializers, onnx)
            name = f"active{index}"
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    number = onnx.TensorProto.FLOAT
    ends = [
        [helper.make_tensor_value_info("x", number, case.shape)],
        [helper.make_tensor_value_info("y", number, [None] * len(case.shape))],
    ]
    graph = helper.make_graph(nodes, "case", *ends, initializer=initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def _operator(helper: Any, step: Step, inputs: list[str], output: str) -> Any:
    attributes: dict[str, Any] = {
        "kernel_shape": step.kernel,
        "strides": step.stride,
        "pads": [*(before for before, _ in step.padding), *(after for _, after in step.padding)],
        "dilations": step.dilation,
    }
    if step.op == "avg_pool":
        attributes["count_include_pad"] = int(step.count_include_pad)
    if not step.is_pool:
        attributes["group"] = step.groups
    if step.output_padding:
        attributes["output_padding"] = step.output_padding
    operator = {"conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool", "avg_pool": "AveragePool"}
    return helper.make_node(operator[step.op], inputs, [output], **attributes)


def _activation(helper: Any, name: str, source: str, target: str, initializers: list[Any], onnx: Any) -> list[Any]:
    if name == "relu6":
        bounds = [f"{target}-low", f"{target}-high"]
        for bound, value in zip(bounds, (0.0, 6.0), strict=True):
            initializers.append(helper.make_tensor(bound, onnx.TensorProto.FLOAT, [], [value]))
        return [helper.make_node("Clip", [source, *bounds], [target])]
    if name == "silu":
        gate = f"{target}-gate"
        return [
            helper.make_node("Sigmoid", [source], [gate]),
            helper.make_node("Mul", [source, gate], [target]),
        ]
    if name not in _ACTIVATIONS:
        raise NotImplementedError(f"activation {name!r} has no ONNX operator here")
    return [helper.make_node(_ACTIVATIONS[name], [source], [target])]
