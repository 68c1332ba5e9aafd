"""A case in JAX: one jitted function on device arrays, in either layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from polyconv.geometry import Axis
from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array
from polyconv.run.weights import adjoint


def build(jax: Any, case: Case, x: Array, weights: list[Weights], *, channels_last: bool) -> Callable[[], Any]:
    """A call that runs the case and waits for its answer."""
    jax.config.update("jax_platforms", "cpu")
    data = jax.device_put(np.ascontiguousarray(np.moveaxis(x, 1, -1)) if channels_last else x)
    arrays = []
    for step, (weight, bias) in zip(case.steps, weights, strict=True):
        kernel = None if weight is None else jax.device_put(_kernel(step, weight, case.ndim, channels_last))
        offset = None if bias is None else jax.device_put(_per_channel(bias, case.ndim, channels_last))
        arrays.append((kernel, offset))

    def forward(y: Any, pairs: Any) -> Any:
        def apply(number: int, step: Step, inputs: list[Any]) -> Any:
            kernel, offset = pairs[number]
            y = _plain(jax, step, inputs, kernel, channels_last)
            y = y if offset is None else y + offset
            return y if step.activation is None else _activation(jax, step.activation)(y)

        return case.evaluate(y, apply)

    run = jax.jit(forward).lower(data, arrays).compile()
    return lambda: run(data, arrays).block_until_ready()


def _kernel(step: Step, weight: Array, ndim: int, channels_last: bool) -> Array:
    """The weights as (out, in / groups, *kernel) of an ordinary convolution, moved to (*kernel, in, out) if asked."""
    if step.op == "affine":
        return _per_channel(weight, ndim, channels_last)
    if step.op == "conv_transpose":
        weight = adjoint(weight, step.groups)
    if channels_last:
        weight = np.moveaxis(weight, (0, 1), (-1, -2))
    return np.ascontiguousarray(weight)


def _per_channel(bias: Array, ndim: int, channels_last: bool) -> Array:
    return bias if channels_last else bias.reshape(-1, *(1,) * ndim)


def _plain(jax: Any, step: Step, inputs: list[Any], kernel: Any, channels_last: bool) -> Any:
    """A step without its bias and activation."""
    (x, *_), last = inputs, channels_last
    if step.is_conv:
        return _conv(jax, step, x, kernel, last)
    axes = tuple(range(1 if last else 2, x.ndim - 1 if last else x.ndim))
    if step.whole:
        pool = jax.numpy.max if step.op == "max_pool" else jax.numpy.mean
        return pool(x, axes, keepdims=True)
    if step.is_pool:
        return _pool(jax, step, x, last)
    if step.op == "add":
        return reduce(jax.numpy.add, inputs)
    if step.op == "concat":
        return jax.numpy.concatenate(inputs, -1 if last else 1)
    if step.op == "upsample":
        return reduce(lambda y, pair: jax.numpy.repeat(y, *pair), zip(step.stride, axes, strict=True), x)
    return x * kernel if step.op == "affine" else x


def _conv(jax: Any, step: Step, x: Any, kernel: Any, channels_last: bool) -> Any:
    spatial = "DHW"[3 - len(step.kernel) :]
    names = (f"N{spatial}C", f"{spatial}IO") if channels_last else (f"NC{spatial}", f"OI{spatial}")
    stride, padding, expand = step.stride, step.padding, (1,) * len(step.kernel)
    if step.op == "conv_transpose":
        spans = [Axis(*window).span for window in zip(step.kernel, step.stride, step.dilation, strict=True)]
        extra = step.output_padding or (0,) * len(step.kernel)
        pads = zip(spans, step.padding, extra, strict=True)
        padding = tuple((span - 1 - before, span - 1 - after + more) for span, (before, after), more in pads)
        stride, expand = expand, stride
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        lhs_dilation=expand,
        rhs_dilation=step.dilation,
        dimension_numbers=(names[0], names[1], names[0]),
        feature_group_count=step.groups,
    )


def _pool(jax: Any, step: Step, x: Any, channels_last: bool) -> Any:
    def everywhere(values: Any, neutral: Any) -> tuple[Any, ...]:
        return (neutral, *values, neutral) if channels_last else (neutral, neutral, *values)

    window = {
        "window_dimensions": everywhere(step.kernel, 1),
        "window_strides": everywhere(step.stride, 1),
        "padding": everywhere(step.padding, (0, 0)),
        "window_dilation": everywhere(step.dilation, 1),
    }
    if step.op == "max_pool":
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, **window)
    total = jax.lax.reduce_window(x, np.float32(0), jax.lax.add, **window)
    if step.count_include_pad:
        return total / np.float32(prod(step.kernel))
    return total / jax.lax.reduce_window(jax.numpy.ones_like(x), np.float32(0), jax.lax.add, **window)


def _activation(jax: Any, name: str) -> Callable[[Any], Any]:
    nn = jax.nn
    known: dict[str, Callable[[Any], Any]] = {
        "relu": nn.relu,
        "relu6": nn.relu6,
        "leaky_relu": nn.leaky_relu,
        "silu": nn.silu,
        "gelu": lambda x: nn.gelu(x, approximate=False),
        "sigmoid": nn.sigmoid,
        "tanh": nn.tanh,
        "hardswish": nn.hard_swish,
    }
    if name not in known:
        raise NotImplementedError(f"activation {name!r} has no counterpart here; there are {', '.join(known)}")
    return known[name]
