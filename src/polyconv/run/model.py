"""A network with its weights: packed once, called many times with any batch and spatial size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from polyconv._checks import choice, whole
from polyconv.layers import (
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    GlobalPool,
    Identity,
    Layer,
    Sizes,
    Upsample,
)
from polyconv.network import INPUT, Join, Node, axis_names, flow
from polyconv.run.arrays import as_array, as_kind_of, conversion
from polyconv.run.between import Expression, joining, pooling, repeating, step_for
from polyconv.run.engines import engine_for, fusing
from polyconv.run.lower import WINDOWED, Request, channels_of, lowered, problem_of, requested, shaped, spatial_of
from polyconv.run.problem import Array, Layout, Pads, Prepared
from polyconv.run.weights import checked_weights

if TYPE_CHECKING:
    from polyconv.network import Network
    from polyconv.run.cpu.passes import Pass
    from polyconv.run.fuse import CompiledChain

LAYOUTS = ("channels_first", "channels_last")
MAX_SHAPES = 256  # shapes whose plans a model remembers
# What runs faster inside if all of it is channels last: measured over 22 networks, 2 to 34 % of the time; turning them
# takes up to twice what is counted for it.
SAVED = 0.13  # of a network's time, as `Model._about` counts it
LEAST_LAYERS = 3  # with weights
FLOPS, BYTES, TURNED_BYTES, CALL_SECONDS = 400e9, 50e9, 45e9, 2e-6  # a second: about, to weigh one against the other

FAR_BYTES = 32 << 20  # weights of a network: of more, no cache is counted on to hold a layer's until its next call

Step = Callable[..., Array]  # takes the outputs of the nodes it reads
Attempt = Callable[[Any], Array | None]  # the same for anything, which is None where that is not what it is for


@dataclass(frozen=True)
class _Fused:
    """A node as it will run: batch norms folded into its weights, a following activation taken on."""

    node: Node
    layer: Layer
    weight: Array | None = None
    bias: Array | None = None
    note: str = ""
    done_before: bool = False  # an earlier step does this one's work
    activation: str | None = None  # that a join has taken on
    over: int | None = None  # which of its inputs nothing reads after it: its result may be written there

    @property
    def expression(self) -> Expression | None:
        """What it computes, where that is one number for one of each input."""
        if isinstance(self.layer, Join) and self.layer.kind == "add":
            return Expression(len(self.node.inputs), activation=self.activation)
        if isinstance(self.layer, BatchNorm):
            return Expression(scaled=True, activation=self.activation)
        return Expression(activation=self.layer.name) if isinstance(self.layer, Activation) else None


@dataclass(frozen=True)
class Stage:
    """A stage that an engine runs, and what it is given; see `polyconv.run.problem.Prepared`."""

    name: str
    prepared: Prepared
    in_shape: Sizes
    padding: Pads
    out_size: Sizes


class Model:
    """What ``Network.bind`` returns.

    Example:
        >>> import numpy as np, polyconv as pc
        >>> net = pc.network("conv 3x3 8 same relu | maxpool 2x2")
        >>> model = net.bind(net.weights(in_channels=3))
        >>> model(np.zeros((1, 3, 32, 48), np.float32)).shape
        (1, 8, 16, 24)
    """

    def __init__(
        self,
        network: Network,
        weights: Mapping[str, Any],
        *,
        layout: Literal["channels_first", "channels_last"] = "channels_first",
    ) -> None:
        choice(layout, LAYOUTS, "layout")
        arrays, self.in_channels = checked_weights(network, weights)
        self.network = network
        self.layout: Layout = layout
        self.dtype = next((array.dtype for array in arrays.values()), None)
        self._fused = _fuse(network, arrays)
        self._last_use = _last_uses(self._fused)
        self._far = sum(fused.weight.nbytes for fused in self._fused if fused.weight is not None) > FAR_BYTES
        self._fusing = fusing()
        self._sequences = [] if self._fusing == "off" else _sequences(self._fused)
        self._is_chain = all(fused.node.inputs == (index - 1,) for index, fused in enumerate(self._fused))
        self._prepared: dict[tuple[int, int, np.dtype[Any], int], Prepared] = {}
        self._plans: dict[tuple[Sizes, np.dtype[Any]], tuple[Step, ...]] = {}
        self._insides: dict[tuple[Sizes, np.dtype[Any]], _Inside | None] = {}
        self._last = self._channels_last()
        self._runs: dict[tuple[Sizes, np.dtype[Any]], tuple[Step, Attempt | None]] = {}  # the network as one step
        self._latest: Attempt = _no_attempt  # of the shape that was last called

    def __repr__(self) -> str:
        """Its network, layout and dtype."""
        dtype = self.dtype or "any dtype"
        return f"<Model of {str(self.network)!r}, {self.layout}, {dtype}>"

    def __call__(self, x: Any) -> Any:
        """The network's output for x of shape (batch, channels, *spatial), or (batch, *spatial, channels).

        Raises:
            ValueError: a shape that does not fit.
            TypeError: a dtype other than the weights'.
        """
        y = self._latest(x)
        if y is not None:
            return y
        array = self._input(x)
        run, self._latest = self._whole(array)
        return as_kind_of(x, run(array))

    def profile(self, x: Any, *, repeats: int = 3) -> tuple[Any, dict[str, float]]:
        """The output for x, and the seconds that each stage took: the least of ``repeats`` runs after a first one.

        What a stage before has done along with its own work (a folded batch norm, an activation) takes next to none.

        Example:
            >>> import numpy as np, polyconv as pc
            >>> net = pc.network("conv 3x3 8 same | relu")
            >>> y, seconds = net.bind(net.weights(in_channels=3)).profile(np.ones((1, 3, 32, 48), np.float32))
            >>> list(seconds)
            ['0', '1']
        """
        whole(repeats, "repeats")
        array = self._input(x)
        for _ in range(2):  # the second time, steps are settled
            result = self._whole(array)[0](array)
        least = [float("inf")] * len(self._fused)
        for _ in range(repeats):
            times = [perf_counter()]
            self._stamped(array, partial(_stamp, times))
            least = [min(old, end - start) for old, start, end in zip(least, times, times[1:], strict=False)]
        seconds = {fused.node.name: time for fused, time in zip(self._fused, least, strict=True)}
        return as_kind_of(x, result), seconds

    def _input(self, x: Any) -> Array:
        """X as an array of the weights' dtype."""
        if type(x) is np.ndarray and x.dtype is self.dtype:
            return x
        array = as_array(x, "x")
        if self.dtype is not None and array.dtype != self.dtype:
            raise TypeError(
                f"x has dtype {array.dtype}, the weights have {self.dtype}. Convert x: {conversion(x, 'x', self.dtype)}"
            )
        return array

    def _whole(self, x: Array) -> tuple[Step, Attempt]:
        """The network for inputs like this one, as one step; and as an attempt, for whatever comes next."""
        key = (x.shape, x.dtype)
        run, attempt = self._runs.get(key, (None, None))
        if run is None or attempt is None:
            if len(self._runs) >= MAX_SHAPES:
                self._runs.clear()
            run, attempt = self._as_one(x, again=run is not None)
            self._runs[key] = run, attempt
        return run, attempt or _no_attempt

    def _as_one(self, x: Array, *, again: bool) -> tuple[Step, Attempt | None]:
        """As ``_whole``; None for an attempt the first time, when no step is settled: that is for what comes again."""
        inside = self._inside(x.shape, x.dtype)
        if inside is not None:
            return inside.run, _no_attempt
        steps = self._steps(x)
        if again:
            from polyconv.run.cpu import entry

            steps = self._plans[x.shape, x.dtype] = tuple(map(entry.settled, steps))
        if not self._is_chain:
            return self._program(steps), _no_attempt if again else None
        first, *others = [step for step in steps if step is not _same] or [_same]
        run = _in_turn([first, *others]) if others else first
        return run, _attempted(entry.attempt(first), others) if again else None

    def _program(self, steps: Sequence[Step]) -> Step:
        """The steps of a network with branches as one; those that hand on what they get are left out."""
        origin = {INPUT: INPUT}  # whose array each value is
        last: dict[int, int] = {}  # what uses a value last
        lines: list[tuple[Step, tuple[int, ...], int]] = []
        for index, step in enumerate(steps):
            inputs = tuple(origin[number] for number in self._inputs(index))
            origin[index] = inputs[0] if step is _same else index
            if step is not _same:
                last |= dict.fromkeys(inputs, index)
                lines.append((step, inputs, index))
        result = origin[len(steps) - 1]
        ends = {
            index: tuple(n for n, when in last.items() if when == index and n not in (INPUT, result))
            for _, _, index in lines
        }
        program = [(step, inputs, index, ends[index]) for step, inputs, index in lines]
        places = len(steps) + 1  # the last one is the input's, whose number is -1

        def run(x: Array) -> Array:
            values: list[Any] = [None] * places
            values[INPUT] = x
            for step, inputs, index, done in program:
                if len(inputs) == 1:
                    values[index] = step(values[inputs[0]])
                else:
                    values[index] = step(*[values[number] for number in inputs])
                for number in done:
                    values[number] = None
            y: Array = values[result]
            return y

        return run

    def _stamped(self, array: Array, after_step: Callable[[], None]) -> Array:
        """The result, step by step, with a call after each."""
        inside = self._inside(array.shape, array.dtype)
        if inside is not None:
            return inside.back(inside.model._stamped(inside.there(array), after_step))
        steps = self._steps(array)
        values: list[Any] = [None] * len(steps)
        for index, step in enumerate(steps):
            values[index] = step(*(array if number == INPUT else values[number] for number in self._inputs(index)))
            for done in self._last_use[index]:
                values[done] = None
            after_step()
        result: Array = values[-1]
        return result

    def _inside(self, shape: Sizes, dtype: np.dtype[Any]) -> _Inside | None:
        """How an input of this shape runs channels last inside; None where it runs in the layout it has."""
        key = (shape, dtype)
        if key not in self._insides:
            if len(self._insides) >= MAX_SHAPES:
                self._insides.clear()
            self._insides[key] = self._inside_for(shape, dtype)
        return self._insides[key]

    def _inside_for(self, shape: Sizes, dtype: np.dtype[Any]) -> _Inside | None:
        if self._last is None or dtype.name not in ("float32", "float64"):
            return None
        flowing, asked = self._flow(shape)
        out_shape = (shape[0], *flowing[len(self._fused) - 1])
        moved = 2 * sum(prod(flat) for flat in (shape, out_shape)) * dtype.itemsize
        if not moved or SAVED * self._about(shape, flowing, asked, dtype) < moved / TURNED_BYTES + 2 * CALL_SECONDS:
            return None
        from polyconv.run.cpu.support import why_not

        if why_not():
            return None
        from polyconv.run.cpu.turning import turned

        try:
            there = turned(shape, dtype, "channels_last")
            back = turned((shape[0], *out_shape[2:], out_shape[1]), dtype, "channels_first")
        except (RuntimeError, OSError, MemoryError):  # no machine code for it: layers say so, if they have none either
            return None
        return _Inside(self._last, there, back)

    def _channels_last(self) -> Model | None:
        """The same network in the other layout, where it may be worth running that inside."""
        layers = sum(step.weight is not None and isinstance(step.layer, WINDOWED) for step in self._fused)
        if self.layout == "channels_last" or self._fusing == "off" or layers < LEAST_LAYERS:
            return None
        last = copy(self)
        last.layout, last._last = "channels_last", None
        last._prepared, last._plans, last._runs, last._insides = {}, {}, {}, {}
        last._latest = _no_attempt
        return last

    def _about(
        self, shape: Sizes, flowing: Mapping[int, Sizes], asked: Mapping[int, Request], dtype: np.dtype[Any]
    ) -> float:
        """Seconds of the layers with a window, about; those that Winograd's methods are for take half."""
        total = 0.0
        for index, request in asked.items():
            fused, source = self._fused[index], flowing[self._inputs(index)[0]]
            layer, out = lowered(fused.layer)[0], flowing[index]
            total += shape[0] * (prod(source) + prod(out)) * dtype.itemsize / BYTES
            if fused.weight is not None:
                positions = prod(source[1:] if isinstance(layer, ConvTranspose) else out[1:])
                ndim = len(request.out_size)
                half = (
                    isinstance(layer, Conv)
                    and layer.kernel_for(ndim).count(3) > 1
                    and prod(layer.strides_for(ndim)) == 1
                )
                total += (1 if half else 2) * shape[0] * positions * fused.weight.size * dtype.itemsize / 4 / FLOPS
        return total

    def _inputs(self, index: int) -> tuple[int, ...]:
        return self._fused[index].node.inputs

    def _steps(self, x: Array) -> tuple[Step, ...]:
        key = (x.shape, x.dtype)
        steps = self._plans.get(key)
        if steps is None:
            steps = self._plan(x.shape, x.dtype)
            if len(self._plans) >= MAX_SHAPES:
                self._plans.clear()
            self._plans[key] = steps
        return steps

    def _flow(self, shape: Sizes) -> tuple[dict[int, Sizes], dict[int, Request]]:
        """(channels, *spatial) of the input and of every node's output; of those an engine runs, what it is asked."""
        ndim = self.network.ndim
        if len(shape) < 3 or (ndim is not None and len(shape) != ndim + 2):
            axes = axis_names(ndim)
            wanted = f"channels, {axes}" if self.layout == "channels_first" else f"{axes}, channels"
            raise ValueError(f"x must be (batch, {wanted}) with layout={self.layout!r}, got shape {shape}")
        channels, spatial = channels_of(shape, self.layout), spatial_of(shape, self.layout)
        if self.in_channels is not None and channels != self.in_channels:
            raise ValueError(
                f"x of shape {shape} has {channels} channels with layout={self.layout!r}, "
                f"the weights expect {self.in_channels}"
            )
        flowing: dict[int, Sizes] = {INPUT: (channels, *spatial)}
        asked: dict[int, Request] = {}
        try:
            for index, fused in enumerate(self._fused):
                layer, inputs = fused.layer, fused.node.inputs
                if isinstance(layer, WINDOWED):
                    source = flowing[inputs[0]]
                    asked[index] = request = requested(layer, shape[0], source[0], source[1:], self.layout)
                    flowing[index] = (layer.out_channels_for(source[0]), *request.out_size)
                else:
                    flowing[index] = flow(layer, [flowing[number] for number in inputs])
        except ValueError:
            self.network.shapes((shape[0], channels, *spatial))  # says which stage it is
            raise
        return flowing, asked

    def _plan(self, shape: Sizes, dtype: np.dtype[Any]) -> tuple[Step, ...]:
        flowing, asked = self._flow(shape)
        done: dict[int, Step] = {}
        if self._sequences:
            for numbers, chain in self._fused_chains(flowing, asked, dtype):
                done |= {numbers[0]: chain.run} | dict.fromkeys(numbers[1:], _same)
        steps = []
        for index, fused in enumerate(self._fused):
            step = done.get(index)
            if step is None:
                in_shapes, request = [flowing[number] for number in fused.node.inputs], asked.get(index)
                if request is None:
                    step = self._plain(fused, shape[0], in_shapes, dtype)
                else:
                    step = request.step(self._prepare(index, fused, fused.layer, in_shapes[0], dtype))
            steps.append(step)
        return tuple(steps)

    def _fused_chains(
        self, flowing: Mapping[int, Sizes], asked: Mapping[int, Request], dtype: np.dtype[Any]
    ) -> Iterator[tuple[list[int], CompiledChain]]:
        """Layers that run as one, by their numbers, for the shapes that flow between the nodes."""
        from polyconv.run import fuse
        from polyconv.run.cpu.machine import Unusable
        from polyconv.run.plan import CompiledLayer

        for sequence in self._sequences:
            members: list[fuse.Member | None] = []
            for index in sequence:
                fused = self._fused[index]
                inner = flowing[fused.node.inputs[0]]
                prepared = self._prepare(index, fused, fused.layer, inner, dtype)
                member = None
                if isinstance(prepared, CompiledLayer) and not prepared.gave_up:
                    member = fuse.Member(prepared, *asked[index][:3])
                members.append(member)
            for start, part in _without_gaps(members):
                for first, last, bands in fuse.chains(part, self._fusing):
                    numbers = list(sequence[start + first : start + last])
                    try:
                        made = fuse.CompiledChain if self._fusing == "on" else fuse.compiled
                        chain = made(part[first:last], bands)
                    except Unusable:  # one by one, each layer finds another algorithm
                        continue
                    if chain is not None:
                        yield numbers, chain

    def _prepare(self, index: int, fused: _Fused, layer: Any, in_shape: Sizes, dtype: np.dtype[Any]) -> Prepared:
        key = (index, in_shape[0], dtype, len(in_shape))
        found = self._prepared.get(key)
        if found is None:
            plain, weight = lowered(layer, fused.weight)
            problem = problem_of(plain, in_shape[0], len(in_shape) - 1, dtype.name, self.layout)
            engine = engine_for(problem)
            found = self._prepared[key] = engine.prepare(problem, weight, fused.bias, far=self._far)
        return found

    def _plain(self, fused: _Fused, batch: int, in_shapes: Sequence[Sizes], dtype: np.dtype[Any]) -> Step:
        """A layer without a window, for inputs of (channels, *spatial)."""
        layer, ndim = fused.layer, len(in_shapes[0]) - 1
        shapes = [shaped(batch, channels, tuple(spatial), self.layout) for channels, *spatial in in_shapes]
        if fused.expression is not None:
            beside = (fused.weight, fused.bias) if fused.expression.scaled else (None, None)
            return step_for(fused.expression, shapes[0], dtype, self.layout, *beside, fused.over)
        if isinstance(layer, Upsample):
            return repeating(shapes[0], layer.scales_for(ndim), dtype, self.layout)
        if isinstance(layer, Join):
            return joining(shapes, dtype, self.layout)
        if isinstance(layer, GlobalPool):
            return pooling(shapes[0], layer.kind, dtype, self.layout)
        return (lambda x: x.copy()) if fused.node.inputs == (INPUT,) else _same

    def stages(self, in_shape: Sizes, dtype: np.dtype[Any]) -> list[Stage]:
        """The stages that an engine runs, each with what it is given for an input of this shape (in this layout).

        Where the network runs channels last inside, they are given that.
        """
        inside = self._inside(in_shape, dtype)
        if inside is not None:
            return inside.model.stages(inside.shape_there(in_shape), dtype)
        flowing, asked = self._flow(in_shape)
        found = []
        for index, request in asked.items():
            fused = self._fused[index]
            prepared = self._prepare(index, fused, fused.layer, flowing[fused.node.inputs[0]], dtype)
            found.append(Stage(fused.node.name, prepared, *request[:3]))
        return found

    def explain(self, in_shape: Sizes) -> str:
        """Which kernel runs each stage for an input of this shape (in the model's layout), and why."""
        dtype = self.dtype or np.dtype("float32")
        shape = tuple(in_shape)
        inside = self._inside(shape, dtype)
        if inside is not None:
            return inside.explain(shape)
        flowing, asked = self._flow(shape)
        lines = []
        names = [fused.node.name for fused in self._fused]
        chained: dict[int, str] = {}
        for numbers, chain in self._fused_chains(flowing, asked, dtype):
            said = chain.explain([names[number] for number in numbers])
            chained |= {n: f"{line}{self._fused[n].note}" for n, line in zip(numbers, said, strict=True)}
        for index, fused in enumerate(self._fused):
            if index in chained:
                lines.append(chained[index])
                continue
            in_shapes = [flowing[number] for number in fused.node.inputs]
            text = self._explained(index, fused, shape[0], in_shapes, asked.get(index), dtype)
            lines.append(f"{fused.node.name} {text}{fused.note}")
        return "\n".join(lines)

    def _explained(
        self,
        index: int,
        fused: _Fused,
        batch: int,
        in_shapes: Sequence[Sizes],
        asked: Request | None,
        dtype: np.dtype[Any],
    ) -> str:
        layer = fused.layer
        if asked is None:
            what = layer.kind if isinstance(layer, Join) else type(layer).__name__.lower()
            if isinstance(layer, Identity):
                return f"{what}: nothing to do"
            return f"{what}: {self._plain(fused, batch, in_shapes, dtype)}"
        prepared = self._prepare(index, fused, layer, in_shapes[0], dtype)
        return asked.explain(prepared, dtype)


@dataclass(frozen=True)
class _Inside:
    """A network that runs channels last, and what turns its input there and its result back."""

    model: Model
    there: Pass
    back: Pass

    def run(self, x: Array) -> Array:
        """The network's result."""
        y: Array = self.back(self.model(self.there(x)))
        return y

    def shape_there(self, shape: Sizes) -> Sizes:
        """The shape of an input, channels last."""
        return (shape[0], *shape[2:], shape[1])

    def explain(self, shape: Sizes) -> str:
        """What `Model.explain` says."""
        stages = self.model.explain(self.shape_there(shape))
        return f"input {self.there}; all stages run so\n{stages}\noutput {self.back}"


def _in_turn(steps: Sequence[Step]) -> Step:
    """Several steps as one."""

    def run(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return x

    return run


def _attempted(first: Attempt | None, others: Sequence[Step]) -> Attempt:
    """Several steps as one attempt."""
    if first is None or not others:
        return first or _no_attempt

    def run(x: Any) -> Array | None:
        y = first(x)
        if y is not None:
            for step in others:
                y = step(y)
        return y

    return run


def _no_attempt(x: Any) -> None:
    """An attempt that is none."""


def _same(x: Array) -> Array:
    """The step of a layer that has nothing to do, or whose work is done with an earlier one's."""
    return x


def _without_gaps(members: list[Any]) -> Iterator[tuple[int, list[Any]]]:
    """The stretches of a list without None, each with where it starts."""
    for there, stretch in groupby(enumerate(members), key=lambda pair: pair[1] is not None):
        if there:
            pairs = list(stretch)
            yield pairs[0][0], [member for _, member in pairs]


def _stamp(times: list[float]) -> None:
    times.append(perf_counter())


def _fuse(network: Network, arrays: dict[str, Array]) -> tuple[_Fused, ...]:
    """Fold batch norms and activations into the convolution before them where nothing else reads it."""
    readers = [0] * len(network.nodes)
    for node in network.nodes:
        for number in node.inputs:
            readers[number] += number != INPUT
    done: list[_Fused] = []
    owner: dict[int, int] = {}  # a node that was taken on -> the node that does its work
    for index, node in enumerate(network.nodes):
        own = {key: arrays.get(f"{node.name}.{key}") for key in ("weight", "bias", "running_mean", "running_var")}
        note = "" if lowered(node.layer)[0] is node.layer else ", as a convolution of the flipped kernel"
        fused = _Fused(node, node.layer, own["weight"], own["bias"], note)
        if isinstance(node.layer, BatchNorm):
            fused = replace(fused, **_scale_and_shift(own))
        before = node.inputs[0]
        if before != INPUT and readers[before] == 1:
            before = owner.get(before, before)
            merged = _merged(done[before], fused)
            if merged is not None:
                done[before] = merged
                owner[index] = before
                fused = _Fused(node, Identity(), done_before=True, note=f", done by stage {done[before].node.name}")
        done.append(fused)
    return tuple(replace(fused, over=over) for fused, over in zip(done, _overwritable(done), strict=True))


def _overwritable(steps: Sequence[_Fused]) -> Iterator[int | None]:
    """For each step, which of its inputs is an array of the model's own that nothing reads after it."""
    made_by: dict[int, int] = {INPUT: INPUT}  # a step -> the step whose array its result is
    for index, step in enumerate(steps):
        made_by[index] = made_by[step.node.inputs[0]] if isinstance(step.layer, Identity) else index
    last = {made_by[number]: index for index, step in enumerate(steps) for number in step.node.inputs}
    last[made_by[len(steps) - 1]] = len(steps)  # what the caller gets
    for index, step in enumerate(steps):
        sources = [made_by[number] for number in step.node.inputs]
        own = [n for n, source in enumerate(sources) if source != INPUT and last[source] == index]
        fresh = [n for n in own if isinstance(steps[sources[n]].layer, WINDOWED) or steps[sources[n]].expression]
        yield fresh[0] if fresh else None


def _scale_and_shift(own: dict[str, Array | None]) -> dict[str, Any]:
    """Batch normalisation at inference as x * weight + bias, computed in float64."""
    weight, bias, mean, variance = (np.asarray(own[key], np.float64) for key in own)
    dtype = own["weight"].dtype if own["weight"] is not None else np.dtype("float32")
    scale = weight / np.sqrt(variance + BatchNorm.eps)
    return {"weight": scale.astype(dtype), "bias": (bias - mean * scale).astype(dtype)}


def _merged(first: _Fused, second: _Fused) -> _Fused | None:
    """One fused step for a convolution and what follows it, or None."""
    layer = first.layer
    if first.expression is not None and isinstance(second.layer, Activation) and not isinstance(layer, Activation):
        if first.activation is not None:
            return None
        return replace(first, activation=second.layer.name, note=f"{first.note}, with {second.layer.name}")
    if not isinstance(layer, Conv | ConvTranspose) or layer.activation is not None or first.weight is None:
        return None
    if isinstance(second.layer, Activation):
        return replace(
            first, layer=replace(layer, activation=second.layer.name), note=f"{first.note}, with {second.layer.name}"
        )
    if not isinstance(second.layer, BatchNorm) or second.weight is None or second.bias is None:
        return None
    scale, dtype = second.weight.astype(np.float64), first.weight.dtype
    if isinstance(layer, Conv):
        weight = first.weight * scale.reshape(-1, *(1,) * (first.weight.ndim - 1))
    else:
        grouped = first.weight.reshape(layer.groups, -1, *first.weight.shape[1:])
        weight = (grouped * scale.reshape(layer.groups, 1, -1, *(1,) * (grouped.ndim - 3))).reshape(first.weight.shape)
    bias = second.bias + (0 if first.bias is None else first.bias * scale)
    return replace(
        first,
        layer=replace(layer, bias=True),
        weight=weight.astype(dtype),
        bias=bias.astype(dtype),
        note=f"{first.note}, batch norm folded in",
    )


def _sequences(fused: tuple[_Fused, ...]) -> list[list[int]]:
    """Windowed layers each of which alone reads what the one before makes: the numbers of two or more in a row."""
    readers = Counter(number for step in fused for number in step.node.inputs)
    found: dict[int, list[int]] = {}  # by the number of the last node: what ends there
    for index, step in enumerate(fused):
        before = step.node.inputs[0]
        alone = before != INPUT and readers[before] == 1
        if step.done_before and alone and before in found:
            found[index] = found.pop(before)
        elif isinstance(step.layer, WINDOWED):
            if isinstance(step.layer, Conv) and step.layer.padding_mode != "zeros":
                continue
            found[index] = [*(found.pop(before, []) if alone else []), index]
    return [numbers for numbers in found.values() if len(numbers) > 1]


def _last_uses(fused: tuple[_Fused, ...]) -> tuple[tuple[int, ...], ...]:
    """For each step, the values that nothing reads after it."""
    last = {number: index for index, step in enumerate(fused) for number in step.node.inputs if number != INPUT}
    return tuple(tuple(number for number, when in last.items() if when == index) for index in range(len(fused)))
