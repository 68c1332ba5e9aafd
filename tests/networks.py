"""Drawn networks: as a tree, as a line of notation, and what the tree means in terms of the oracle.

The meaning is worked out from the tree and not from the text, so the package's parser is not believed either.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import oracle

EPSILON = 1e-5  # of batchnorm


@dataclass(frozen=True)
class Layer:
    """One stage which is not made of stages."""

    kind: str
    kernel: tuple[int, ...] = ()
    channels: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()  # nobias, an activation

    @property
    def activation(self) -> str | None:
        return next((flag for flag in self.flags if flag in oracle.ACTIVATIONS), None)

    @property
    def bias(self) -> bool:
        return "nobias" not in self.flags


@dataclass(frozen=True)
class Join:
    """concat(...) or add(...)."""

    kind: str
    paths: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Repeat:
    """N * (...)."""

    times: int
    stages: tuple[Any, ...]


Node = Layer | Join | Repeat
Stages = Sequence[Node]


# -- text ------------------------------------------------------------------------------------------------------------


def axes(value: Any) -> str:
    """A number, one per axis, or (before, after) per axis."""
    if isinstance(value, (int, str)):
        return str(value)
    return "x".join(axes(v) if isinstance(v, int) else f"{v[0]}:{v[1]}" for v in value)


def write(node: Node, order: random.Random) -> str:
    """The notation of a node; the words after the operator in any order."""
    if isinstance(node, Join):
        return f"{node.kind}({', '.join(line(path, order) for path in node.paths)})"
    if isinstance(node, Repeat):
        return f"{node.times} * ({line(node.stages, order)})"
    words = [w for w in (axes(node.kernel) if node.kernel else "", axes(node.channels or "")) if w]
    rest = [*node.flags]
    for name, value in node.options.items():
        rest.append(value if name == "padding" and isinstance(value, str) else f"{name} {axes(value)}")
    order.shuffle(rest)
    return " ".join([node.kind, *words, *rest])


def line(stages: Stages, order: random.Random | None = None) -> str:
    """The notation of a sequence of stages."""
    order = order or random.Random(0)
    return " | ".join(write(node, order) for node in stages)


# -- meaning ---------------------------------------------------------------------------------------------------------


def evaluate(stages: Stages, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    """Run the stages on x, channels first; ``take`` gives the next array of weights, in the order of the stages."""
    for node in stages:
        x = _evaluate(node, x, take)
    return x


def evaluate_with(stages: Stages, x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The same with a dictionary of weights, all of which must be used, in its order."""
    values: Iterator[np.ndarray] = iter(weights.values())
    y = evaluate(stages, x, lambda: next(values))
    assert next(values, None) is None, "weights are left over"
    return y


def _evaluate(node: Node, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    if isinstance(node, Repeat):
        for _ in range(node.times):
            x = evaluate(node.stages, x, take)
        return x
    if isinstance(node, Join):
        ys = [evaluate(path, x, take) for path in node.paths]
        if node.kind == "concat":
            return np.concatenate(ys, axis=1)
        assert len({y.shape for y in ys}) == 1
        return sum(ys[1:], ys[0])
    y = _LAYERS[node.kind](node, x, take) if node.kind in _LAYERS else x
    if node.kind in oracle.ACTIVATIONS:
        return oracle.activate(x, node.kind)
    return oracle.activate(y, node.activation) if node.activation else y


def _weights(node: Layer, take: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    weight = take()
    return weight, take() if node.bias else None


def _conv(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    return oracle.conv(x, *_weights(node, take), **node.options).y


def _transposed(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    return oracle.conv_transpose(x, *_weights(node, take), **node.options).y


def _depthwise(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    options = {name: value for name, value in node.options.items() if name != "multiplier"}
    return oracle.conv(x, *_weights(node, take), groups=x.shape[1], **options).y


def _separable(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    return oracle.conv(_depthwise(node, x, take), *_weights(node, take)).y


def _spatial(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    for axis in range(len(node.kernel)):
        options: dict[str, Any] = {}
        for name, none in (("stride", 1), ("dilation", 1), ("padding", 0)):
            value = node.options.get(name, none)
            if isinstance(value, str):
                options[name] = value
            else:
                own = value if isinstance(value, int) else value[axis]
                options[name] = tuple(own if a == axis else none for a in range(len(node.kernel)))
        x = oracle.conv(x, *_weights(node, take), **options).y
    return x


def _pool(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    run = oracle.max_pool if node.kind == "maxpool" else oracle.avg_pool
    return run(x, node.kernel, **node.options).y


def _globalpool(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    spatial = tuple(range(2, x.ndim))
    return x.mean(axis=spatial, keepdims=True)


def _upsample(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    for axis in range(2, x.ndim):
        x = x.repeat(node.channels, axis=axis)
    return x


def _batchnorm(node: Layer, x: np.ndarray, take: Callable[[], np.ndarray]) -> np.ndarray:
    weight, bias, mean, variance = (take().reshape(-1, *[1] * (x.ndim - 2)) for _ in range(4))
    return (x - mean) / np.sqrt(variance + EPSILON) * weight + bias


_LAYERS: dict[str, Callable[[Layer, np.ndarray, Callable[[], np.ndarray]], np.ndarray]] = {
    "conv": _conv,
    "pointwise": _conv,
    "depthwise": _depthwise,
    "separable": _separable,
    "spatial": _spatial,
    "transposed": _transposed,
    "maxpool": _pool,
    "avgpool": _pool,
    "globalpool": _globalpool,
    "upsample": _upsample,
    "batchnorm": _batchnorm,
}


def growth(stages: Stages) -> int:
    """At most how many times longer an axis gets: repeated upsampling grows beyond what loops can compute."""
    times = 1
    for node in stages:
        if isinstance(node, Repeat):
            times *= growth(node.stages) ** node.times
        elif isinstance(node, Join):
            times *= max(growth(path) for path in node.paths)
        elif node.kind == "upsample":
            times *= node.channels or 1
        elif node.kind == "transposed":
            times *= max(oracle.per_axis(node.options.get("stride", 1), len(node.kernel)))
    return times


# -- drawing ---------------------------------------------------------------------------------------------------------


@st.composite
def layers(draw: st.DrawFn, ndim: int, keep_size: bool = False) -> Layer:
    """One layer; with keep_size, one whose output is as large as its input."""

    def per_axis(low: int, high: int) -> Any:
        return draw(st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * ndim)))

    plain = ["conv", "pointwise", "depthwise", "separable", "spatial"]
    kinds = [*plain, "maxpool", "avgpool", "batchnorm", "identity", *oracle.ACTIVATIONS]
    if not keep_size:
        kinds += [*plain, "transposed", "transposed", "upsample", "globalpool"]
    kind = draw(st.sampled_from(kinds))
    if kind in ("globalpool", "batchnorm", "identity", *oracle.ACTIVATIONS):
        return Layer(kind)
    if kind == "upsample":
        return Layer(kind, channels=draw(st.integers(1, 3)))
    kernel = () if kind == "pointwise" else tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    options: dict[str, Any] = {}
    if keep_size:
        options["padding"] = "same"
    elif kind != "pointwise":
        form = draw(st.sampled_from(["none", "word", "number", "pairs"]))
        if form == "word":
            options["padding"] = draw(st.sampled_from(["same", "valid", "full", *(["causal"] if ndim == 1 else [])]))
        elif form == "number":
            options["padding"] = per_axis(0, 1) if "pool" not in kind else min(1, min(kernel) // 2)
        elif form == "pairs" and "pool" not in kind:
            options["padding"] = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(ndim))
    if kind in ("maxpool", "avgpool"):
        if keep_size or draw(st.booleans()):
            options["stride"] = 1 if keep_size else per_axis(1, 3)
        return Layer(kind, kernel, None, options)
    if not keep_size and draw(st.booleans()):
        options["stride"] = per_axis(1, 3)
    if kind not in ("pointwise",) and draw(st.booleans()):
        options["dilation"] = per_axis(1, 2)
    if kind == "depthwise":
        channels = None
        if draw(st.booleans()):
            options["multiplier"] = draw(st.integers(1, 2))
    else:
        channels = draw(st.sampled_from([2, 4]))
    if kind in ("conv", "pointwise", "transposed") and draw(st.integers(0, 3)) == 0:
        options["groups"] = 2
    if kind == "transposed" and "stride" in options and not isinstance(options.get("padding"), str):
        least = min(oracle.per_axis(options["stride"], ndim)) - 1
        if least and draw(st.booleans()):
            options["output_padding"] = least
    flags = [*(["nobias"] if draw(st.booleans()) else [])]
    if draw(st.booleans()):
        flags.append(draw(st.sampled_from(list(oracle.ACTIVATIONS))))
    return Layer(kind, kernel, channels, options, tuple(flags))


@st.composite
def stages(draw: st.DrawFn, ndim: int, depth: int = 2, keep_size: bool = False, longest: int = 3) -> tuple[Node, ...]:
    """A sequence of stages with branches and repeats inside."""
    nodes: list[Node] = []
    for _ in range(draw(st.integers(1, longest))):
        form = draw(st.sampled_from(["layer", "layer", "layer", "concat", "add", "repeat"])) if depth else "layer"
        if form == "layer":
            nodes.append(draw(layers(ndim, keep_size)))
        elif form == "repeat":
            nodes.append(Repeat(draw(st.integers(1, 3)), draw(stages(ndim, depth - 1, keep_size, 2))))
        else:
            paths = [draw(stages(ndim, depth - 1, True, 2)) for _ in range(draw(st.integers(1, 3)))]
            if form == "add":  # all paths end with the same number of channels
                paths = [(*path, Layer("pointwise", (), 2, {}, ())) for path in paths]
            nodes.append(Join(form, tuple(paths)))
    return tuple(nodes)
