"""The answer of a case by definition: ``polyconv.reference`` in float64, whatever engine is timed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from polyconv import reference
from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array


def by_definition(case: Case, x: Array, weights: Sequence[Weights]) -> Array:
    """The case's answer in float64, as (batch, channels, *spatial)."""

    def apply(number: int, step: Step, inputs: list[Array]) -> Array:
        weight, bias = weights[number]
        y = _plain(step, inputs, weight)
        if bias is not None:
            y = y + _per_channel(bias, step)
        return y if step.activation is None else reference.ACTIVATIONS[step.activation](y)

    y: Array = case.evaluate(x.astype(np.float64), apply)
    return y


def _per_channel(array: Array, step: Step) -> Array:
    return array.astype(np.float64).reshape(-1, *(1,) * len(step.kernel))


def _plain(step: Step, inputs: list[Array], weight: Array | None) -> Array:
    """A step without its bias and activation."""
    x = inputs[0]
    if step.is_conv or step.is_pool:
        return _windowed(step, x, weight)
    if step.op == "add":
        return reduce(np.add, inputs)
    if step.op == "concat":
        return np.concatenate(inputs, 1)
    if step.op == "upsample":
        return reference.upsample(x, step.stride)
    return x if weight is None else x * _per_channel(weight, step)


def _windowed(step: Step, x: Array, weight: Array | None) -> Array:
    window: dict[str, Any] = {"stride": step.stride, "padding": step.padding, "out_size": step.out_size}
    if step.op == "avg_pool":
        return reference.avg_pool(x, step.kernel, **window, count_include_pad=step.count_include_pad)
    window["dilation"] = step.dilation
    if weight is None:
        return reference.max_pool(x, step.kernel, **window)
    run = reference.conv_transpose if step.op == "conv_transpose" else reference.conv
    return run(x, weight.astype(np.float64), groups=step.groups, **window)
