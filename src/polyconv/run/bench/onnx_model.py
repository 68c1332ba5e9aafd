"""A case as an ONNX model, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array

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

    def constant(array: Array, name: str) -> str:
        initializers.append(numpy_helper.from_array(array, name))
        return name

    def said(index: int, step: Step, inputs: list[str]) -> str:
        pair = zip(("weight", "bias"), weights[index], strict=True)
        beside = [constant(array, f"{kind}{index}") for kind, array in pair if array is not None]
        name = f"step{index}"
        if step.op == "activate":
            name = inputs[0]
        elif step.is_conv or step.is_pool:
            nodes.append(_operator(helper, step, [*inputs, *beside], name))
        else:
            nodes.append(_between(helper, step, [*inputs, *beside], name, constant))
        if step.activation is None:
            return name
        nodes.extend(_activation(helper, step.activation, name, f"active{index}", initializers, onnx))
        return f"active{index}"

    name = case.evaluate("x", said)
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


def _between(helper: Any, step: Step, inputs: list[str], output: str, constant: Callable[[Array, str], str]) -> Any:
    """What is neither a convolution nor pools a window."""
    if step.op == "add":
        return helper.make_node("Add" if len(inputs) == 2 else "Sum", inputs, [output])
    if step.op == "concat":
        return helper.make_node("Concat", inputs, [output], axis=1)
    if step.op == "upsample":
        scales = constant(np.array((1, 1, *step.stride), np.float32), f"{output}-scales")
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return helper.make_node("Resize", [*inputs, "", scales], [output], **how)
    zeros = np.zeros(step.out_channels, np.float32)
    moments = [constant(zeros, f"{output}-mean"), constant(zeros + 1, f"{output}-variance")]
    return helper.make_node("BatchNormalization", [*inputs, *moments], [output], epsilon=0.0)


def _operator(helper: Any, step: Step, inputs: list[str], output: str) -> Any:
    if step.whole:
        return helper.make_node("GlobalMaxPool" if step.op == "max_pool" else "GlobalAveragePool", inputs, [output])
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
