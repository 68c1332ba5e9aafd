"""The referee: what layers give, in float64 NumPy, sharing no code with any player (polyconv included).

A convolution is a sum over taps: for every tap, the inputs it sees (a strided slice of the padded input) times its
weights. A transposed convolution runs the same sum backwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array


def reference(case: Case, x: Array, weights: Sequence[Weights]) -> Array:
    """The case's answer in float64, as (batch, channels, *spatial)."""
    values = {-1: x.astype(np.float64)}
    for number, (step, (weight, bias)) in enumerate(zip(case.steps, weights, strict=True)):
        y = _plain(step, [values[source] for source in step.inputs], weight)
        if bias is not None:
            y = y + bias.astype(np.float64).reshape(-1, *(1,) * len(step.kernel))
        values[number] = y if step.activation is None else ACTIVATIONS[step.activation](y)
    return values[len(case.steps) - 1]


def _plain(step: Step, inputs: list[Array], weight: Array | None) -> Array:
    """A step without its bias and activation."""
    x = inputs[0]
    match step.op:
        case "max_pool" | "avg_pool":
            return _pool(step, x)
        case "conv" | "conv_transpose" if weight is not None:
            return (_conv if step.op == "conv" else _transposed)(step, x, weight.astype(np.float64))
        case "affine" if weight is not None:
            return x * weight.astype(np.float64).reshape(-1, *(1,) * len(step.kernel))
        case "add":
            return np.add.reduce(inputs)
        case "concat":
            return np.concatenate(inputs, axis=1)
        case "upsample":
            return np.kron(x, np.ones((1, 1, *step.stride)))
    return x


_erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: np.clip(y, 0, 6),
    "leaky_relu": lambda y: np.where(y < 0, 0.01 * y, y),
    "silu": lambda y: y / (1 + np.exp(-y)),
    "gelu": lambda y: y * (1 + _erf(y / 2**0.5)) / 2,
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "tanh": np.tanh,
    "hardswish": lambda y: y * np.clip(y + 3, 0, 6) / 6,
}


def _conv(step: Step, x: Array, weight: Array) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), *step.padding))
    size = _positions(step, padded.shape[2:])
    batch, groups = len(x), step.groups
    y = np.zeros((batch, step.out_channels, *size))
    for tap in product(*map(range, step.kernel)):
        seen = padded[(..., *_window(step, tap, size))]
        y += _mix(weight[(..., *tap)].reshape(groups, -1, weight.shape[1]), seen, y.shape)
    return y


def _transposed(step: Step, x: Array, weight: Array) -> Array:
    size, extra = x.shape[2:], step.output_padding or (0,) * len(step.kernel)
    axes = list(zip(size, step.kernel, step.stride, step.dilation, step.padding, extra, strict=True))
    whole = [(n - 1) * s + 1 + (k - 1) * d + e for n, k, s, d, _, e in axes]
    y = np.zeros((len(x), step.out_channels, *whole))
    by_group = weight.reshape(step.groups, -1, *weight.shape[1:])
    for tap in product(*map(range, step.kernel)):
        y[(..., *_window(step, tap, size))] += _mix(
            by_group[(..., *tap)].swapaxes(1, 2), x, (len(x), step.out_channels, *size)
        )
    return y[(..., *(slice(b, n - a) for n, (*_, (b, a), _) in zip(whole, axes, strict=True)))]


def _mix(matrices: Array, x: Array, shape: tuple[int, ...]) -> Array:
    """Each group's (out, in) matrix applied to its channels of x."""
    groups, _outputs, inputs = matrices.shape
    columns = np.ascontiguousarray(x).reshape(len(x), groups, inputs, -1)
    if inputs == 1:  # an outer product: broadcasting is quicker than many tiny matrix products
        return (matrices * columns).reshape(shape)
    return (matrices @ columns).reshape(shape)


def _pool(step: Step, x: Array) -> Array:
    largest = step.op == "max_pool"
    widths = ((0, 0), (0, 0), *step.padding)
    padded = np.pad(x, widths, constant_values=-np.inf if largest else 0.0)
    size = _positions(step, padded.shape[2:])
    taps = [padded[(..., *_window(step, tap, size))] for tap in product(*map(range, step.kernel))]
    if largest:
        return np.maximum.reduce(taps)
    if step.count_include_pad:
        return sum(taps) / len(taps)
    real = np.pad(np.ones(x.shape[2:]), step.padding)
    return sum(taps) / sum(real[_window(step, tap, size)] for tap in product(*map(range, step.kernel)))


def _positions(step: Step, padded: Sequence[int]) -> tuple[int, ...]:
    axes = zip(padded, step.kernel, step.stride, step.dilation, strict=True)
    return tuple((n - (k - 1) * d - 1) // s + 1 for n, k, s, d in axes)


def _window(step: Step, tap: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The inputs that one tap sees, over all ``size`` positions of each axis."""
    axes = zip(tap, size, step.stride, step.dilation, strict=True)
    return tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for t, n, s, d in axes)
