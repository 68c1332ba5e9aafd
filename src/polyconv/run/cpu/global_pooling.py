"""Pooling over all positions, whatever their number: a vector of channels a time, or a plane a time.

Positions are taken in stretches, each summed by itself and then added: the error of a mean grows with the length of a
stretch and their number, not with all positions. A NaN wins over every number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import inf, prod
from typing import Any, Literal

import numpy as np

from polyconv.reference import global_pool
from polyconv.run.cpu import machine
from polyconv.run.cpu.emit import Kernel, Value, Var
from polyconv.run.cpu.passes import Pass, proven
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Array, Layout

Kind = Literal["max", "avg"]
STRETCH = 64  # positions (channels last) or vectors of them
TOGETHER = 4  # sums at once: an addition takes four cycles


def emit(kind: Kind, layout: Layout, dtype: str, target: Target) -> str:
    """The module: items are vectors of channels of a picture, or planes."""
    k = Kernel("run0", target, dtype)
    x, out, positions, channels, blocks = k.words("x: ptr", "out: ptr", "positions", "channels", "blocks")
    least = k.number(-inf if kind == "max" else 0.0)

    def join(a: Value, b: Value) -> Value:
        return k.maximum(a, b) if kind == "max" else a + b

    def over(length: Value, step: int, load: Callable[[Value], Value]) -> Value:
        """Of vectors at 0, step, 2 step, ... below a length."""
        total = k.var(least)
        with k.loop(0, length, STRETCH * step, carry=[total]) as first:
            sums, stop = [k.var(least) for _ in range(TOGETHER)], k.minimum(first + STRETCH * step, length)
            several = first + (stop - first) // (TOGETHER * step) * (TOGETHER * step)
            with k.loop(first, several, TOGETHER * step, carry=sums) as place:
                for number, one in enumerate(sums):
                    one.value = join(one.value, load(place + number * step))
            with k.loop(several, stop, step, carry=sums[:1]) as place:
                sums[0].value = join(sums[0].value, load(place))
            total.value = join(total.value, _all(sums, join))
        return total.value

    def of(total: Value) -> Value:
        return total if kind == "max" else total / k.convert(positions, "sitofp", k.scalar)

    with k.loop(k.first, k.last) as item:
        if layout == "channels_last":
            channel = item % blocks * k.lanes
            mask, start = k.mask(channels - channel), k.at(x, item // blocks * positions * channels + channel)
            total = over(positions, 1, lambda at: k.load_vector(k.at(start, at * channels), mask=mask))
            scale = total if kind == "max" else total / k.broadcast(k.convert(positions, "sitofp", k.scalar))
            k.store_vector(scale, k.at(out, item // blocks * channels + channel), mask=mask)
        else:
            plane = k.at(x, item * positions)
            whole = positions // k.lanes * k.lanes
            found = k.var(over(whole, k.lanes, lambda at: k.load_vector(k.at(plane, at))))
            with k.when(whole < positions, carry=[found]):
                rest = k.load_vector(k.at(plane, whole), mask=k.mask(positions - whole), other=least)
                found.value = join(found.value, rest)
            value, lanes = found.value, k.lanes
            while lanes > 1:
                lanes //= 2
                value = join(k.shuffle(value, value, range(lanes)), k.shuffle(value, value, range(lanes, 2 * lanes)))
            k.store(of(k.extract(value, 0)), k.at(out, item))
    return k.module()


def _all(sums: Sequence[Var], join: Callable[[Value, Value], Value]) -> Value:
    values = [one.value for one in sums]
    while len(values) > 1:
        values = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def pooled(
    shape: tuple[int, ...], kind: Kind, dtype: np.dtype[Any], layout: Layout, plainly: Callable[..., Array]
) -> Callable[..., Array]:
    """What pools arrays of this shape over all their positions."""
    return _pooled(_function(kind, layout, dtype.name), shape, dtype, layout, plainly)


def _pooled(
    function: machine.Function,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    layout: Layout,
    plainly: Callable[..., Array],
) -> Pass:
    last, target = layout == "channels_last", host()
    channels, positions = (shape[-1], prod(shape[1:-1])) if last else (shape[1], prod(shape[2:]))
    ones = (1,) * (len(shape) - 2)
    out_shape = (shape[0], *ones, channels) if last else (shape[0], channels, *ones)
    blocks = -(-channels // target.lanes(dtype.name)) if last else channels
    words = [positions, channels, blocks]
    moved = prod(shape) * dtype.itemsize
    return Pass(function, 1, out_shape, dtype, shape[0] * blocks, words, moved, plainly, "one pass over memory")


@lru_cache(maxsize=16)
def _function(kind: Kind, layout: Layout, dtype: str) -> machine.Function:
    target, recipe = host(), f"global pool\n{kind}\n{layout}\n{dtype}"
    emitted = partial(emit, kind, layout, dtype, target)
    last = layout == "channels_last"
    shape, axes = ((2, 5, 43, 21), (1, 2)) if last else ((2, 3, 43, 61), (2, 3))  # several stretches, and a rest

    def trial(function: machine.Function) -> Pass:
        return _pooled(function, shape, np.dtype(dtype), layout, lambda x: global_pool(x, kind, axes))

    return proven(recipe, emitted, target, "global pooling", trial, shape, dtype=dtype)
