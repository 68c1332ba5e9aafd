"""A case as a LiteRT (TensorFlow Lite) model, converted by TensorFlow; LiteRT runs it through XNNPACK."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np

from polyconv.geometry import Axis, padding_for
from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array

FILE = "model.tflite"
_LOWEST = np.finfo(np.float32).min


def refuses(case: Case) -> str | None:
    """Why LiteRT has no XNNPACK kernel for this case, or None."""
    if case.ndim > 2:
        return "XNNPACK has no 3-D operators"
    for step in case.steps:
        if step.op == "conv_transpose" and (step.groups > 1 or set(step.dilation) != {1}):
            return "LiteRT's transposed convolution has no groups or dilation"
        if any(min(pair) < 0 for pair in step.padding):
            return "LiteRT takes no negative padding"
        if step.is_pool and set(step.dilation) != {1}:
            return "LiteRT's pooling has no dilation"
        if step.op == "avg_pool" and not step.count_include_pad and any(map(any, step.padding)):
            return "LiteRT's average pool with padding left out of the count is not converted"
    return None


def convert(case: Case, weights: list[Weights]) -> bytes:
    """The model file of a case: channels last, 1-D as 2-D of height 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = import_module("tensorflow")
    case = case.lifted()
    batch, channels, height, width = case.shape

    def forward(x: Any) -> Any:
        def apply(number: int, step: Step, inputs: list[Any]) -> Any:
            weight, bias = weights[number]
            y = _plain(tf, step, inputs, None if weight is None else weight.reshape(step.weight_shape() or ()))
            y = y if bias is None else tf.nn.bias_add(y, bias)
            return y if step.activation is None else _activation(tf, step.activation)(y)

        return case.evaluate(x, apply)

    traced = tf.function(forward, input_signature=[tf.TensorSpec((batch, height, width, channels), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    return bytes(converter.convert())


def _plain(tf: Any, step: Step, inputs: list[Any], weight: Array | None) -> Any:
    """A step without its bias and activation."""
    x = inputs[0]
    if step.whole:
        return (tf.reduce_max if step.op == "max_pool" else tf.reduce_mean)(x, (1, 2), keepdims=True)
    if step.is_conv or step.is_pool:
        return _operator(tf, step, x, weight)
    if step.op == "add":
        return reduce(tf.add, inputs)
    if step.op == "concat":
        return tf.concat(inputs, -1)
    if step.op == "upsample":
        return tf.image.resize(x, step.out_size, "nearest")
    return x * weight if step.op == "affine" else x


def _operator(tf: Any, step: Step, x: Any, weight: Array | None) -> Any:
    if step.op == "conv_transpose" and weight is not None:
        return _transposed(tf, step, x, weight)
    named = _named(step, tuple(x.shape[1:3]))
    if named is None:
        fill = _LOWEST if step.op == "max_pool" else 0.0
        x = tf.pad(x, [[0, 0], *map(list, step.padding), [0, 0]], constant_values=fill)
        named = "VALID"
    if weight is None:
        pool = tf.nn.max_pool2d if step.op == "max_pool" else tf.nn.avg_pool2d
        return pool(x, step.kernel, step.stride, named)
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))
    if not step.is_depthwise:
        return tf.nn.conv2d(x, kernel, step.stride, named, dilations=step.dilation)
    multiplier = step.out_channels // step.in_channels
    kernel = kernel.reshape(*step.kernel, step.in_channels, multiplier)
    strides, dilations = [1, *step.stride, 1], [1, *step.dilation, 1]
    return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, strides=strides, padding=named, dilations=dilations)


def _transposed(tf: Any, step: Step, x: Any, weight: Array) -> Any:
    """By the padding word that crops alike where there is one, else whole and then cut."""
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))  # (kh, kw, out, in)
    shape = [x.shape[0], *step.out_size, step.out_channels]
    if _same(step, step.out_size) and all(
        -(-out // stride) == size for out, stride, size in zip(step.out_size, step.stride, x.shape[1:3], strict=True)
    ):
        return tf.nn.conv2d_transpose(x, kernel, shape, list(step.stride), "SAME")
    axes = zip(x.shape[1:3], step.kernel, step.stride, step.padding, step.out_size, strict=True)
    whole = [max(Axis(k, s).transposed_size(size), pad[0] + out) for size, k, s, pad, out in axes]
    y = tf.nn.conv2d_transpose(x, kernel, [x.shape[0], *whole, step.out_channels], list(step.stride), "VALID")
    return y[:, *(slice(pad[0], pad[0] + out) for pad, out in zip(step.padding, step.out_size, strict=True))]


def _named(step: Step, size: tuple[int, ...]) -> str | None:
    """The padding word that TensorFlow has for a step's padding at this input size, or None."""
    if not any(map(any, step.padding)):
        return "VALID"
    if step.op == "avg_pool":  # TensorFlow leaves padding out of the count
        return None
    return "SAME" if _same(step, size) else None


def _same(step: Step, size: tuple[int, ...]) -> bool:
    """Whether the step pads (a transposed one: crops) as "same" does for a convolution over ``size``."""
    axes = zip(size, step.kernel, step.stride, step.dilation, strict=True)
    return tuple(padding_for("same", *axis) for axis in axes) == step.padding


def _activation(tf: Any, name: str) -> Callable[[Any], Any]:
    known: dict[str, Callable[[Any], Any]] = {
        "relu": tf.nn.relu,
        "relu6": tf.nn.relu6,
        "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.01),
        "silu": tf.nn.silu,
        "gelu": tf.nn.gelu,
        "sigmoid": tf.nn.sigmoid,
        "tanh": tf.nn.tanh,
        "hardswish": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
    }
    if name not in known:
        raise NotImplementedError(f"activation {name!r} has no counterpart here; there are {', '.join(known)}")
    return known[name]
