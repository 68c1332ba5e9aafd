"""The answer of a case by definition: ``polyconv.reference`` in float64, whatever engine is timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyconv import reference
from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array


def by_definition(case: Case, x: Array, weights: Sequence[Weights]) -> Array:
    """The case's answer in float64, as (batch, channels, *spatial)."""
    y = x.astype(np.float64)
    for step, (weight, bias) in zip(case.steps, weights, strict=True):
        y = _apply(step, y, weight)
        if bias is not None:
            y = y + bias.astype(np.float64).reshape(-1, *(1,) * len(step.kernel))
        if step.activation is not None:
            y = reference.ACTIVATIONS[step.activation](y)
    return y


def _apply(step: Step, x: Array, weight: Array | None) -> Array:
    window: dict[str, Any] = {"stride": step.stride, "padding": step.padding, "out_size": step.out_size}
    if step.op == "avg_pool":
        return reference.avg_pool(x, step.kernel, **window, count_include_pad=step.count_include_pad)
    window["dilation"] = step.dilation
    if weight is None:
        return reference.max_pool(x, step.kernel, **window)
    run = reference.conv_transpose if step.op == "conv_transpose" else reference.conv
    return run(x, weight.astype(np.float64), groups=step.groups, **window)
