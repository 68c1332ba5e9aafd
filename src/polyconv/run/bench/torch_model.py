"""A case in PyTorch: eager functional calls under inference mode, weights already in the layout of the data."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from polyconv.network import INPUT
from polyconv.run.bench.case import Case, Step, Weights
from polyconv.run.problem import Array

Tensor = Any


def build(torch: Any, case: Case, x: Array, weights: list[Weights], *, channels_last: bool) -> Callable[[], Tensor]:
    """A call that runs the case. channels_last lifts a 1-D case to 2-D, where that memory format exists."""
    if channels_last:
        case = case.lifted()
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    memory = formats[2 + case.ndim] if channels_last else torch.contiguous_format

    def tensor(array: Array | None, shape: tuple[int, ...] | None) -> Tensor:
        if array is None:
            return None
        made = torch.from_numpy(array).reshape(shape)
        return made.contiguous(memory_format=memory) if made.ndim > 2 else made

    data = tensor(x, case.shape)
    pairs = zip(case.steps, weights, strict=True)
    layers = [
        _layer(torch, step, tensor(weight, step.weight_shape()), tensor(bias, (step.out_channels,)))
        for step, (weight, bias) in pairs
    ]
    guard = torch.inference_mode
    program = list(zip(layers, (step.inputs for step in case.steps), case.last_uses(), strict=True))

    def chain() -> Tensor:
        with guard():
            y = data
            for layer in layers:
                y = layer(y)
        return y

    def branched() -> Tensor:
        with guard():
            values = {INPUT: data}
            for number, (layer, inputs, done) in enumerate(program):
                values[number] = layer(*[values[source] for source in inputs])
                for source in done:
                    del values[source]
        return values[number]

    return chain if case.is_chain else branched


def _layer(torch: Any, step: Step, weight: Tensor, bias: Tensor) -> Callable[..., Tensor]:
    if step.op == "activate":
        return _activation(torch, step.activation or "", inplace=False)
    run = _between(torch, step, weight, bias) or _operator(torch, step, weight, bias)
    if step.activation is None:
        return run
    activate = _activation(torch, step.activation)
    return lambda *x: activate(run(*x))


def _between(torch: Any, step: Step, weight: Tensor, bias: Tensor) -> Callable[..., Tensor] | None:
    """What is neither a convolution nor pools a window."""
    axes = tuple(range(2, 2 + len(step.kernel)))
    if step.op == "add":
        return lambda *xs: reduce(torch.add, xs)
    if step.op == "concat":
        return lambda *xs: torch.cat(xs, 1)
    if step.op == "upsample":
        scale, enlarge = tuple(map(float, step.stride)), torch.nn.functional.interpolate
        return lambda x: enlarge(x, scale_factor=scale, mode="nearest")
    if step.op == "affine":
        shape = (-1, *(1,) * len(axes))
        factor, offset = weight.reshape(shape), bias.reshape(shape)
        return lambda x: torch.addcmul(offset, x, factor)
    if step.whole:
        pool = torch.amax if step.op == "max_pool" else torch.mean
        return lambda x: pool(x, axes, keepdim=True)
    return None


def _operator(torch: Any, step: Step, weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    functional, ndim = torch.nn.functional, len(step.kernel)
    pad = [before for before, _ in step.padding]
    if step.op == "conv_transpose":
        return _transposed(torch, step, weight, bias)
    if not step.symmetric or (step.is_pool and any(2 * p > k for p, k in zip(pad, step.kernel, strict=True))):
        return _padded(torch, step, weight, bias)
    if step.op == "conv":
        conv = getattr(torch, f"conv{ndim}d")
        return lambda x: conv(x, weight, bias, step.stride, pad, step.dilation, step.groups)
    if step.op == "max_pool":
        pool = getattr(functional, f"max_pool{ndim}d")
        return lambda x: pool(x, step.kernel, step.stride, pad, step.dilation)
    average = getattr(functional, f"avg_pool{ndim}d")
    return lambda x: average(x, step.kernel, step.stride, pad, False, step.count_include_pad)


def _padded(torch: Any, step: Step, weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """Padding that the operator itself does not take: by a call of its own before it."""
    if step.op == "avg_pool" and not step.count_include_pad:
        raise NotImplementedError("PyTorch's average pool takes no asymmetric padding that is left out of the count")
    from dataclasses import replace

    inner = _operator(torch, replace(step, padding=((0, 0),) * len(step.kernel)), weight, bias)
    amounts = [amount for pair in reversed(step.padding) for amount in pair]
    value = float("-inf") if step.op == "max_pool" else 0.0
    pad = torch.nn.functional.pad
    return lambda x: inner(pad(x, amounts, value=value))


def _transposed(torch: Any, step: Step, weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """A transposed convolution: what it cannot crop by its symmetric padding is cut from its output."""
    conv = getattr(torch, f"conv_transpose{len(step.kernel)}d")
    pad = [max(0, min(pair)) for pair in step.padding]
    extra = step.output_padding or (0,) * len(step.kernel)
    cuts = [(before - p, after - p) for (before, after), p in zip(step.padding, pad, strict=True)]
    if any(min(cut) < 0 for cut in cuts):
        raise NotImplementedError("PyTorch's transposed convolution takes no negative padding")
    if not any(map(any, cuts)):
        return lambda x: conv(x, weight, bias, step.stride, pad, extra, step.groups, step.dilation)
    window = (..., *(slice(before, -after or None) for before, after in cuts))
    return lambda x: conv(x, weight, bias, step.stride, pad, extra, step.groups, step.dilation)[window]


def _activation(torch: Any, name: str, *, inplace: bool = True) -> Callable[[Tensor], Tensor]:
    """By default over its input, which nobody else reads."""
    functional = torch.nn.functional
    known: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": torch.relu_ if inplace else torch.relu,
        "relu6": lambda x: functional.relu6(x, inplace=inplace),
        "leaky_relu": lambda x: functional.leaky_relu(x, 0.01, inplace=inplace),
        "silu": lambda x: functional.silu(x, inplace=inplace),
        "gelu": functional.gelu,
        "sigmoid": torch.sigmoid_ if inplace else torch.sigmoid,
        "tanh": torch.tanh_ if inplace else torch.tanh,
        "hardswish": lambda x: functional.hardswish(x, inplace=inplace),
    }
    if name not in known:
        raise NotImplementedError(f"activation {name!r} has no counterpart here; there are {', '.join(known)}")
    return known[name]
