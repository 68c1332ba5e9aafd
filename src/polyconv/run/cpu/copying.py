"""Stages that only move numbers: channels of several arrays side by side, and pixels repeated.

Both write contiguous results in the layout's own order, on all threads, a row at a time. A row is what lies in one
piece: of a pixel (channels last) or of a picture (channels first) for what is put side by side, of a picture's last
axis for what is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from polyconv.run.cpu import machine
from polyconv.run.cpu.elementwise import along
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.passes import BLOCK, Pass, proven
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Array, Layout


def emit_concat(count: int, dtype: str, target: Target) -> str:
    """The module: items are ``each`` rows, or with ``parts`` that many parts of every array's row."""
    k = Kernel("run0", target, dtype)
    names = [*(f"x{n}: ptr" for n in range(count)), "out: ptr", *(f"length{n}" for n in range(count))]
    found = k.words(*names, "rows", "each", "parts")
    sources, out, lengths, (rows, each, parts) = found[:count], found[count], found[count + 1 : -3], found[-3:]
    whole = k.integer(0)
    for length in lengths:
        whole = whole + length
    with k.loop(k.first, k.last) as item:
        part, first = item % parts, item // parts * each
        with k.loop(first, k.minimum(first + each, rows)) as row:
            to = k.at(out, row * whole)
            for source, length in zip(sources, lengths, strict=True):
                low, high = length * part // parts, length * (part + 1) // parts
                _copy(k, k.at(source, row * length + low), [k.at(to, low)], high - low)
                to = k.at(to, length)
    return k.module()


def emit_repeat(scales: tuple[int, int, int], layout: Layout, dtype: str, target: Target) -> str:
    """The module: items are rows of the last of three axes; every element, row and plane is repeated."""
    k = Kernel("run0", target, dtype)
    x, out, height, width, channels = k.words("x: ptr", "out: ptr", "height", "width", "channels")
    last = layout == "channels_last"
    length = width * channels if last else width
    with k.loop(k.first, k.last) as row:
        line, plane = row % height, row // height
        source = k.at(x, row * length)
        with k.loop(0, scales[0]) as i, k.loop(0, scales[1]) as j:
            number = ((plane * scales[0] + i) * height + line) * scales[1] + j
            sink = k.at(out, number * (length * scales[2]))
            if last:
                with k.loop(0, width) as pixel:
                    to = k.at(sink, pixel * channels * scales[2])
                    _copy(
                        k, k.at(source, pixel * channels), [k.at(to, channels * n) for n in range(scales[2])], channels
                    )
            else:
                _repeat(k, source, sink, width, scales[2])
    return k.module()


def _copy(k: Kernel, source: Value, sinks: Sequence[Value], length: Value) -> None:
    """Elements to one place or several."""

    def step(place: Value, mask: Value | None) -> None:
        value = k.load_vector(k.at(source, place), mask=mask)
        for sink in sinks:
            k.store_vector(value, k.at(sink, place), mask=mask)

    along(k, length, step)


def _repeat(k: Kernel, source: Value, sink: Value, length: Value, times: int) -> None:
    """Each element several times."""

    def step(place: Value, mask: Value | None) -> None:
        value = k.load_vector(k.at(source, place), mask=mask)
        for n in range(times):
            spread = k.shuffle(value, value, [(n * k.lanes + lane) // times for lane in range(k.lanes)])
            rest = None if mask is None else k.mask((length - place) * times - n * k.lanes)
            k.store_vector(spread, k.at(sink, place * times + n * k.lanes), mask=rest)

    along(k, length, step)


def concat(
    shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], layout: Layout, plainly: Callable[..., Array]
) -> Callable[..., Array]:
    """What puts the channels of arrays of these shapes side by side."""
    return _concat(_concat_function(len(shapes), dtype.name), shapes, dtype, layout, plainly)


def _concat(
    function: machine.Function,
    shapes: Sequence[tuple[int, ...]],
    dtype: np.dtype[Any],
    layout: Layout,
    plainly: Callable[..., Array],
) -> Pass:
    first, last = shapes[0], layout == "channels_last"
    total = sum(shape[-1 if last else 1] for shape in shapes)
    shape = (*first[:-1], total) if last else (first[0], total, *first[2:])
    rows = prod(first[:-1]) if last else first[0]
    lengths = [shape[-1] if last else prod(shape[1:]) for shape in shapes]
    each = max(1, BLOCK // max(sum(lengths), 1))
    parts = max(1, sum(lengths) // BLOCK)
    items = -(-rows // each) * parts
    words, moved = [*lengths, rows, each, parts], 2 * prod(shape) * dtype.itemsize
    return Pass(function, len(shapes), shape, dtype, items, words, moved, plainly, "one copy")


def repeat(
    shape: tuple[int, ...], scales: tuple[int, ...], dtype: np.dtype[Any], layout: Layout, plainly: Callable[..., Array]
) -> Callable[..., Array]:
    """What repeats the pixels of an array of this shape along up to three axes."""
    function = _repeat_function((*(1,) * (3 - len(scales)), *scales), layout, dtype.name)
    return _repeated(function, shape, scales, dtype, layout, plainly)


def _repeated(
    function: machine.Function,
    shape: tuple[int, ...],
    scales: tuple[int, ...],
    dtype: np.dtype[Any],
    layout: Layout,
    plainly: Callable[..., Array],
) -> Pass:
    last = layout == "channels_last"
    spatial, channels = (shape[1:-1], shape[-1]) if last else (shape[2:], shape[1])
    larger = tuple(size * scale for size, scale in zip(spatial, scales, strict=True))
    out_shape = (shape[0], *larger, channels) if last else (shape[0], channels, *larger)
    fill = (1,) * (3 - len(scales))
    depth, height, width = (*fill, *spatial)
    items = shape[0] * (1 if last else channels) * depth * height
    moved = (prod(shape) + prod(out_shape)) * dtype.itemsize
    return Pass(function, 1, out_shape, dtype, items, [height, width, channels], moved, plainly, "one copy")


@lru_cache(maxsize=64)
def _concat_function(count: int, dtype: str) -> machine.Function:
    target, recipe = host(), f"concat\n{count}\n{dtype}"
    shapes = [(3, 2, 5 + 30 * (count - number)) for number in range(count)]

    def trial(function: machine.Function) -> Pass:
        return _concat(
            function, shapes, np.dtype(dtype), "channels_last", lambda *arrays: np.concatenate(arrays, axis=-1)
        )

    emitted = partial(emit_concat, count, dtype, target)
    return proven(recipe, emitted, target, "concat", trial, *shapes, dtype=dtype)


@lru_cache(maxsize=64)
def _repeat_function(scales: tuple[int, int, int], layout: Layout, dtype: str) -> machine.Function:
    target, recipe = host(), f"repeat\n{scales}\n{layout}\n{dtype}"
    last, shape = layout == "channels_last", (2, 2, 3, 5, 37)

    def trial(function: machine.Function) -> Pass:
        axes = range(1, 4) if last else range(2, 5)

        def by_axis(x: Array) -> Array:
            for axis, scale in zip(axes, scales, strict=True):
                x = x.repeat(scale, axis)
            return x

        return _repeated(function, shape, scales, np.dtype(dtype), layout, by_axis)

    emitted = partial(emit_repeat, scales, layout, dtype, target)
    return proven(recipe, emitted, target, "upsample", trial, shape, dtype=dtype)
