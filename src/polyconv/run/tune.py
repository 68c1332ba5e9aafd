"""Measured tuning: every way the planner considers for a layer, timed on this machine; the fastest is remembered.

The planner compares algorithms by models of time, which are right within some tens of per cent. ``tune`` runs what
they consider possible, checks each answer against that of the planner's own choice, and keeps the fastest beside the
code cache (`polyconv.run.choices`), where models bound later find it: ``explain()`` then says "measured".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polyconv._checks import choice
from polyconv.network import Network
from polyconv.notation import network as read
from polyconv.run import choices, engines
from polyconv.run.bench.timing import time_calls
from polyconv.run.choices import Choice
from polyconv.run.cpu.algorithms.record import Algorithm
from polyconv.run.cpu.machine import Unusable
from polyconv.run.model import FAR_BYTES, Model, Stage
from polyconv.run.plan import CompiledEngine, CompiledLayer
from polyconv.run.problem import Array, Layout

NEAR = 4.0  # ways expected to take longer than this many times the best are not tried
KEEP = 1.3  # after a first look those this much slower than the fastest are dropped
GAIN = 0.97  # the planner's choice stays unless another takes less than this part of its time
SHORT_SECONDS = 100e-6  # work below this is also tried on one thread
FIRST_LOOK = 0.2  # of the time for one way, spent before the slow ones are dropped


@dataclass(frozen=True, slots=True)
class Tuned:
    """One stage: what the planner chose, what was fastest, and how long both take a call, in seconds."""

    stage: str
    layout: Layout
    planned: str
    planned_seconds: float
    fastest: str
    seconds: float
    tried: int
    kept: bool  # False where the code cache cannot be written


@dataclass(slots=True)
class _Way:
    """One way to run a stage, and its times so far."""

    algorithm: str
    tile: Hashable
    threads: int
    run: Callable[[Array], Array]
    seconds: float = float("inf")

    def __str__(self) -> str:
        return f"{self.algorithm} {self.tile}, {self.threads} thread(s)"

    def time(self, x: Array, budget: float, others: Array | None) -> None:
        """Time it for so many seconds; the 20th percentile counts. ``others`` pass through the caches before a call."""

        def pass_by() -> None:
            if others is not None:
                others.sum()
                x.sum()  # the layer before has just written it

        before = None if others is None else pass_by
        samples = time_calls(lambda: self.run(x), budget_s=budget, min_samples=5, before=before)
        self.seconds = min(self.seconds, float(np.percentile(samples, 20)))


def tune(
    network: str | Network,
    in_shape: Sequence[int],
    *,
    layout: Literal["both", "channels_first", "channels_last"] = "both",
    dtype: Literal["float32", "float64"] = "float32",
    seconds: float = 0.1,
) -> list[Tuned]:
    """Time every way to run each convolution and pooling of a network on this machine, and remember the fastest.

    A choice holds for the same layer (with what is fused into it), input shape, layout, dtype, number of threads,
    machine and version of polyconv. Another algorithm may sum in another order: results then differ in the last bits.

    Args:
        network: a network or its text.
        in_shape: (batch, channels, *spatial).
        layout: which layout of the arrays to tune for. A network that runs channels last inside is tuned for that.
        dtype: of input and weights.
        seconds: to spend on timing each way.

    Returns:
        What was found for each stage that machine code runs, in order; nothing where there is no machine code.

    Raises:
        ValueError: the network does not fit the input, or an argument is out of its range.

    Example:
        >>> import polyconv as pc
        >>> found = pc.tune("conv 3x3 8 same relu", (1, 3, 9, 11), layout="channels_last", seconds=0.001)
        >>> [one.stage for one in found]
        ['0']
    """
    choice(layout, ("both", "channels_first", "channels_last"), "layout")
    if not 0 < seconds <= 60:
        raise ValueError(f"seconds={seconds!r} is no time for one way; give more than 0 and at most 60.")
    net = read(network) if isinstance(network, str) else network
    shape = tuple(in_shape)
    net.shapes(shape)
    weights = net.weights(shape[1], ndim=len(shape) - 2, dtype=dtype)
    layouts: tuple[Layout, ...] = ("channels_first", "channels_last") if layout == "both" else (layout,)
    found: list[Tuned] = []
    seen: set[Any] = set()
    for one in layouts:
        model = Model(net, weights, layout=one)
        given = shape if one == "channels_first" else (shape[0], *shape[2:], shape[1])
        for stage in model.stages(given, np.dtype(dtype)):
            layer = stage.prepared
            if isinstance(layer, CompiledLayer):
                key = (layer.problem, stage.in_shape, stage.padding)  # weights are near or far for all alike
                layer.explain(stage.in_shape, stage.padding, stage.out_size)  # leaves out what is wrong on this machine
                if key not in seen and not layer.gave_up:
                    seen.add(key)
                    found.append(_tune(stage, layer, layer.problem.layout, seconds))
    engines.forget()
    return found


def _tune(stage: Stage, layer: CompiledLayer, layout: Layout, seconds: float) -> Tuned:
    """One stage."""
    problem = layer.problem
    shape = problem.weight_shape()
    rng = np.random.default_rng(0)
    x = rng.standard_normal(stage.in_shape).astype(problem.dtype)
    weight = None if shape is None else rng.standard_normal(shape).astype(problem.dtype)
    bias = rng.standard_normal(problem.out_channels).astype(problem.dtype) if problem.bias else None
    ways, planned = _ways(stage, layer, weight, bias)
    right = planned.run(x)
    sound = [way for way in ways if way is planned or _close(way.run(x), right, problem.dtype)]
    others = np.ones(2 * FAR_BYTES, np.uint8).view(np.float32) if layer.far else None
    for way in sound:
        way.time(x, seconds * FIRST_LOOK, others)
    least = min(way.seconds for way in sound)
    for way in sound:
        if way.seconds <= KEEP * least or way is planned:
            way.time(x, seconds * (1 - FIRST_LOOK), others)
    best = min(sound, key=lambda way: way.seconds)
    if best.seconds > GAIN * planned.seconds:
        best = planned
    kept = choices.remember(
        problem, layer.target, layer.shape_key(stage.in_shape, stage.padding, stage.out_size),
        Choice(best.algorithm, str(best.tile), best.threads, best.seconds, measured=True),
    )  # fmt: skip
    return Tuned(stage.name, layout, str(planned), planned.seconds, str(best), best.seconds, len(sound), kept)


def _ways(stage: Stage, layer: CompiledLayer, weight: Array | None, bias: Array | None) -> tuple[list[_Way], _Way]:
    """What is worth trying, and among it the planner's own choice."""
    problem, target = layer.problem, layer.target
    sizes = layer.sizes(stage.in_shape, stage.padding, stage.out_size)

    def way(algorithm: Algorithm, tile: Hashable, threads: int) -> _Way:
        engine = CompiledEngine(algorithm=algorithm.name, tile=tile, target=target, threads=threads)
        run = engine.prepare(problem, weight, bias).at(stage.in_shape, stage.padding, stage.out_size)
        return _Way(algorithm.name, tile, threads, run)

    costs = [algorithm.cost(problem, tile, target, sizes, 1) for algorithm, tile in layer.choices]
    found = layer.fastest(sizes)
    planned = way(found.algorithm, found.tile, found.threads)
    ways = [planned]
    for (algorithm, tile), cost in zip(layer.choices, costs, strict=True):
        numbers = {layer.threads, 1} if cost < SHORT_SECONDS else {layer.threads}
        for threads in sorted(numbers):
            same = (algorithm.name, tile, threads) == (planned.algorithm, planned.tile, planned.threads)
            is_near = cost <= NEAR * found.seconds and not same
            if is_near and layer.keeps_to_memory(algorithm, tile, sizes, threads):
                with contextlib.suppress(Unusable):
                    ways.append(way(algorithm, tile, threads))
    return ways, planned


def _close(one: Array, other: Array, dtype: str) -> bool:
    """Do two answers agree, as answers of different algorithms do? What does not is never chosen."""
    scale = float(np.abs(other).max(initial=1.0))
    return bool(np.abs(one - other).max(initial=0.0) <= scale * (1e-3 if dtype == "float32" else 1e-9))
