"""The compiled engine: which algorithm and tile run a problem at these sizes, on how many threads, and why.

Algorithms are compared by their own models of time (`Algorithm.cost`), unless this layer and shape were measured by
``polyconv tune``; what was chosen for a layer's first shape is remembered for later processes. What depends on the
problem alone (machine code, packed weights) is kept for good; what depends on the sizes (argument words, tables) is
kept for the most recent shapes; `polyconv.run.cpu.entry` makes of it what a repeated call runs.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

import numpy as np

from polyconv.run import choices
from polyconv.run.choices import Choice
from polyconv.run.cpu import algorithms, buffers, entry, machine, pool
from polyconv.run.cpu.algorithms.record import (
    Algorithm,
    Schedule,
    Sizes,
    activating,
    allowance,
    from_memory,
    in_words,
    keeps_to_memory,
    least_seconds,
)
from polyconv.run.cpu.target import Target, host
from polyconv.run.problem import Array, Pads, Prepared, Problem

MAX_SHAPES = 256  # shapes a layer remembers; the oldest are forgotten
ONE_THREAD_SECONDS = 3.5e-6  # work below this stays on the caller's thread: a fork and join takes 0.5 us, waking 2
APART_SECONDS = 2e-6  # and below this, where threads write lines of memory of their own
HOLD_GIL_SECONDS = 4e-6  # work below this keeps the interpreter lock: handing it over costs more
KEEP_TILE = 1.15  # a tile whose code is at hand is kept unless another saves more than this
PACKING_COUNTS = 2.0  # times: one thread packs while others, which share the rest of the work, wait
ITS_THREADS = 2  # with so many an algorithm must keep to its memory: which one runs never depends on the machine
GRABS = 4  # each thread takes its share of a phase in about this many pieces


class CompiledEngine:
    """Runs problems with machine code made for them.

    Args:
        algorithm: the name of the algorithm to use, instead of the fastest by the models.
        tile: one of that algorithm's variants, instead of the fastest.
        target: the machine to make code for; the host if not given.
        threads: how many threads a call may use; by default what the process may use.

    Raises:
        ValueError: no algorithm has that name.
    """

    name = "compiled"

    def __init__(
        self,
        *,
        algorithm: str | None = None,
        tile: Hashable = None,
        target: Target | None = None,
        threads: int | None = None,
    ) -> None:
        names = (*algorithms.NAMES, *algorithms.RESERVE)
        if algorithm is not None and algorithm not in names:
            raise ValueError(f"algorithm {algorithm!r} is not known; choose one of {', '.join(names)}, or none.")
        self.names = algorithms.NAMES if algorithm is None else (algorithm,)
        self.tile, self.target, self.threads = tile, target, threads
        self._is_free = algorithm is None and tile is None

    def why_not(self, problem: Problem) -> str | None:
        """Why no algorithm computes this problem, or None if one does."""
        target = self._target()
        for choice in self._recall(problem).values():
            if choice.algorithm in self.names and algorithms.algorithm(choice.algorithm).fits(problem, target) is None:
                return None
        for name in algorithms.worth_loading(problem, self.names):
            if algorithms.algorithm(name).fits(problem, target) is None:
                return None
        return "; ".join(f"{name}: {algorithms.algorithm(name).fits(problem, target)}" for name in self.names)

    def prepare(
        self, problem: Problem, weight: Array | None, bias: Array | None, *, far: bool = False
    ) -> CompiledLayer:
        """A layer ready to run; its weights are copied, and packed when the first call has chosen an algorithm.

        With ``far`` the algorithm is chosen for weights that come from memory at each call.

        Raises:
            ValueError: no algorithm computes this problem.
        """
        obstacle = self.why_not(problem)
        if obstacle is not None:
            raise ValueError(f"no algorithm computes {problem}: {obstacle}.")
        ending = choices.FAR if far else ""
        known = choices.for_calls(self._recall(problem), ending) if self._is_free else None
        threads = self.threads or pool.threads()
        return CompiledLayer(problem, self.candidates, self._target(), threads, weight, bias, known, far=far)

    def prepare_once(self, problem: Problem) -> OneCallLayer:
        """The problem for calls that each bring their weights.

        Raises:
            ValueError: no algorithm computes this problem.
        """
        obstacle = self.why_not(problem)
        if obstacle is not None:
            raise ValueError(f"no algorithm computes {problem}: {obstacle}.")
        known = choices.for_calls(self._recall(problem), choices.ONCE) if self._is_free else None
        threads = self.threads or pool.threads()
        return OneCallLayer(problem, self.candidates, self._target(), threads, None, None, known)

    def candidates(self, problem: Problem) -> list[tuple[Algorithm, Hashable]]:
        """Every algorithm that computes a problem, with each of its tiles."""
        target = self._target()
        return [
            (found, tile)
            for found in map(algorithms.algorithm, algorithms.worth_loading(problem, self.names))
            if found.fits(problem, target) is None
            for tile in (found.variants(problem, target) if self.tile is None else [self.tile])
        ]

    def _recall(self, problem: Problem) -> dict[str, Choice]:
        return choices.recall(problem, self._target()) if self._is_free else {}

    def _target(self) -> Target:
        return self.target or host()


class _Plan(NamedTuple):
    """How one shape is run."""

    algorithm: Algorithm
    tile: Hashable
    sizes: Sizes
    schedule: Schedule | None  # None where the output is empty
    call: pool.Call | None
    out_shape: tuple[int, ...]
    allocate: Callable[[], Array]
    copies: bool  # the input is copied first, for its strides
    threads: int
    seconds: float
    measured: bool = False
    instead: Prepared | None = None  # runs in place of machine code


class Chosen(NamedTuple):
    """What runs a shape: ``seconds`` are those of one thread's work."""

    algorithm: Algorithm
    tile: Hashable
    threads: int
    seconds: float
    measured: bool = False
    schedule: Schedule | None = None  # for the sizes as `CompiledLayer.readable` gives them, where it was needed


class CompiledLayer:
    """A problem with its weights; see `polyconv.run.problem.Prepared`."""

    max_shapes = MAX_SHAPES
    packs_once = True  # and not at every call
    ending = ""  # of the names that choices are remembered under
    filled: tuple[int, ...] = (0, 2)  # words of ``args`` that a call fills in: x and out

    def __init__(
        self,
        problem: Problem,
        candidates: Callable[[Problem], Sequence[tuple[Algorithm, Hashable]]],
        target: Target,
        threads: int,
        weight: Array | None,
        bias: Array | None,
        known: dict[str, Choice] | None = None,
        *,
        far: bool = False,
    ) -> None:
        self.problem, self.target, self.threads, self.far = problem, target, threads, far
        if far:
            self.ending = choices.FAR
        self._dtype = problem.numpy_dtype()
        self._candidates = candidates
        self._known = known  # remembered choices; None where the choice is forced, and nothing is remembered
        self._weight = None if weight is None else np.array(weight, order="C")
        self._bias = None if bias is None else np.array(bias, order="C")
        self._functions: dict[tuple[Hashable, ...], dict[str, machine.Function]] = {}
        self._packed: dict[tuple[str, Hashable], Array] = {}
        self._at_hand: dict[tuple[str, Hashable], tuple[dict[str, machine.Function], Array, int]] = {}
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self._lock = threading.Lock()
        self._latest: tuple[Sizes, Chosen] | None = None
        self._left_out: dict[str, str] = {}  # algorithms that cannot be used here -> what was found

    def __call__(self, x: Array, padding: Pads, out_size: tuple[int, ...]) -> Array:
        """Run the layer."""
        flags = x.flags
        plan = self._plan(x.shape, None if flags.c_contiguous else x.strides, flags.aligned, padding, out_size)
        if plan.instead is not None:
            return plan.instead(x, padding, out_size)
        out = plan.allocate()
        if plan.call is not None:
            plan.call(np.array(x, order="C", subok=False) if plan.copies else x, out)
        return out

    def at(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> Callable[[Array], Array]:
        """The layer for inputs of one shape: for a contiguous one, nothing is looked up."""
        plan = self._plan(in_shape, None, True, padding, out_size)
        if plan.instead is not None:
            return plan.instead.at(in_shape, padding, out_size)
        if plan.call is None:
            allocate = plan.allocate
            return lambda _: allocate()
        run = functools.partial(self, padding=padding, out_size=out_size)
        return entry.IntoNew(plan.call, in_shape, plan.out_shape, self._dtype, plan.allocate, run)

    def explain(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> str:
        """Algorithm, tile, threads, memory, expected time and the reason."""
        plan = self._plan(in_shape, None, True, padding, out_size)
        if plan.instead is not None:
            return plan.instead.explain(in_shape, padding, out_size)
        if plan.schedule is None:
            return "nothing to compute: the output is empty"
        memory = in_words(plan.schedule.memory(plan.threads))
        reason = plan.schedule.reason if isinstance(plan.schedule.reason, str) else plan.schedule.reason()
        how = "measured" if plan.measured else "expected"
        reason += "; its weights come from memory" if self.far and self.problem.weight_shape() else ""
        return (
            f"{plan.algorithm.name} {plan.tile}, {plan.threads} thread(s), {memory} of workspace, "
            f"{how} {plan.seconds * 1e6:.0f} us: {reason}"
            f"{''.join(f'; {finding}' for finding in self._findings())} (compiled for this machine)"
        )

    def _findings(self) -> list[str]:
        """Which algorithms are left out, and why."""
        return [
            f"{why}, so not used: {', '.join(sorted(name for name, its in self._left_out.items() if its == why))}"
            for why in sorted(set(self._left_out.values()))
        ]

    def _plan(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        is_aligned: bool,
        padding: Pads,
        out_size: tuple[int, ...],
    ) -> _Plan:
        """How this shape is run; ``strides`` in bytes, or None for a contiguous array."""
        key = (shape, strides, is_aligned, padding, out_size)
        plan = self._plans.get(key)
        if plan is None:
            try:
                plan = None if self._left_out else self._make_plan(shape, strides, is_aligned, padding, out_size)
            except machine.Unusable as found:
                self._leave_out(found)
            if plan is None:
                plan = self._sound_plan(shape, strides, is_aligned, padding, out_size)
            with self._lock:
                while len(self._plans) >= self.max_shapes:
                    self._plans.pop(next(iter(self._plans)))
                self._plans[key] = plan
        return plan

    def _sound_plan(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        is_aligned: bool,
        padding: Pads,
        out_size: tuple[int, ...],
    ) -> _Plan:
        """A plan by an algorithm that can be used on this machine; by NumPy where there is none."""
        while self.choices:
            try:
                return self._make_plan(shape, strides, is_aligned, padding, out_size)
            except machine.Unusable as found:
                self._leave_out(found)
        from polyconv.run.numpy_engine import NumpyEngine

        out_shape, dtype = self.problem.out_shape(shape[0], out_size), self._dtype
        algorithm, tile = self._candidates(self.problem)[0]
        sizes = self.sizes(shape, padding, out_size)
        engine = NumpyEngine(f"no compiled algorithm is left: {'; '.join(self._findings())}")
        instead = engine.prepare(self.problem, self._weight, self._bias)
        allocate = buffers.allocator(out_shape, dtype)
        return _Plan(algorithm, tile, sizes, None, None, out_shape, allocate, False, 1, 0.0, instead=instead)

    @property
    def gave_up(self) -> bool:
        """Is there no algorithm left that can be used here."""
        return bool(self._left_out) and not self.choices

    def _leave_out(self, found: machine.Unusable) -> None:
        """Plan without an algorithm from now on; raises what was found where the algorithm was asked for by name."""
        if self._known is None:
            raise found
        warnings.warn(str(found), RuntimeWarning, stacklevel=3)
        name = found.algorithm
        with self._lock:
            self._left_out[name], self._latest = found.finding, None
            self.choices = [pair for pair in self.choices if pair[0].name != name]
            self._known = {shape: one for shape, one in self._known.items() if one.algorithm != name}

    def _make_plan(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        is_aligned: bool,
        padding: Pads,
        out_size: tuple[int, ...],
    ) -> _Plan:
        problem, item = self.problem, self._dtype.itemsize
        in_size = shape[1:-1] if problem.layout == "channels_last" else shape[2:]
        if problem.layout == "channels_first" and set(in_size) == {1} == set(out_size) and self._as_pixels is not None:
            in_last, strides_last = (shape[0], *in_size, shape[1]), strides and (strides[0], *strides[2:], strides[1])
            plan = self._as_pixels._plan(in_last, strides_last, is_aligned, padding, out_size)
            if plan.instead is None:
                out_shape = problem.out_shape(shape[0], out_size)
                return plan._replace(out_shape=out_shape, allocate=buffers.allocator(out_shape, self._dtype))
        elements = _dense_strides(shape)
        if strides:  # where an axis has one element, any stride says the same
            pairs = zip(shape, strides, elements, strict=True)
            elements = tuple([stride // item if length > 1 else dense for length, stride, dense in pairs])
        given = Sizes(shape[0], in_size, padding, out_size, elements, far=self.far)
        algorithm, tile, threads, seconds, measured, schedule = self.choose(given)
        if threads > 1:
            pool.rouse(threads)  # while the rest is planned
        fits = is_aligned  # a contiguous array is read by every kernel
        if strides and is_aligned:
            fits = not any(stride % item for stride in strides) and algorithm.reads(problem, given)
        sizes = given if fits else _contiguous(given, shape)
        out_shape = problem.out_shape(shape[0], out_size)
        allocate = buffers.allocator(out_shape, self._dtype)
        if 0 in out_shape:
            return _Plan(algorithm, tile, sizes, None, None, out_shape, allocate, False, 1, 0.0)
        if schedule is None or (strides and sizes != self.readable(algorithm, given)):
            schedule = algorithm.schedule(problem, tile, self.target, sizes, threads)
        call = self._call(algorithm, tile, schedule, threads, seconds)
        return _Plan(
            algorithm, tile, sizes, schedule, call, out_shape, allocate, not fits, threads, seconds / threads, measured
        )

    @functools.cached_property
    def _as_pixels(self) -> CompiledLayer | None:
        """The layer for pictures of one pixel, which lie in memory as those of channels_last do (a batch is rows)."""
        if self._known is None:  # the algorithm was asked for by name
            return None
        problem = replace(self.problem, layout="channels_last")
        known = choices.for_calls(choices.recall(problem, self.target), self.ending)
        layer = CompiledLayer(problem, self._candidates, self.target, self.threads, None, None, known, far=self.far)
        layer._weight, layer._bias = self._weight, self._bias
        return layer

    def sizes(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> Sizes:
        """The run-time facts of a contiguous input."""
        in_size = in_shape[1:-1] if self.problem.layout == "channels_last" else in_shape[2:]
        return Sizes(in_shape[0], in_size, padding, out_size, _dense_strides(in_shape), far=self.far)

    def shape_key(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> str:
        """What a choice for this shape is remembered under."""
        return choices.shape_key(*self.sizes(in_shape, padding, out_size)[:4], self.threads) + self.ending

    def threads_for(self, seconds: float) -> int:
        """Threads for work that takes so long on one."""
        return 1 if seconds < self._alone_below else self.threads

    @functools.cached_property
    def _alone_below(self) -> float:
        """Seconds of work: less where threads have rows of pixels or planes of their own, not parts of every plane."""
        apart = self.problem.layout == "channels_last" or self.problem.groups == self.problem.in_channels
        return APART_SECONDS if apart else ONE_THREAD_SECONDS

    def choose(self, sizes: Sizes) -> Chosen:
        """What runs this shape: what was remembered, or the fastest by the models that keeps to its memory."""
        if self._latest is not None and self._latest[0] == sizes:
            return self._latest[1]
        shape = choices.shape_key(*sizes[:4], self.threads) + self.ending
        choice = self._known.get(shape) if self._known else None
        known = None if choice is None else self._find(choice)
        if choice is not None and known is not None:
            seconds = choice.seconds * choice.threads if choice.measured else choice.seconds
            return Chosen(*known, choice.threads, seconds, choice.measured)
        found = self.fastest(sizes)
        if self._known is not None:
            self._latest = sizes, found
            if not self._known:  # the first shape of a layer not seen before
                made = Choice(found.algorithm.name, str(found.tile), found.threads, found.seconds)
                choices.remember(self.problem, self.target, shape, made)
                self._known[shape] = made
        return found

    def fastest(self, sizes: Sizes) -> Chosen:
        """By the models; what needs no memory joins in where the fastest does not keep to its own."""
        ways = self.choices
        costs = self._costs(ways, sizes, bounds=True)
        best, least = None, inf  # the fastest of those with memory for one thread alone, and its time on ITS_THREADS
        while (lowest := min(costs)) < least:
            place = costs.index(lowest)
            algorithm, tile = ways[place]
            most = KEEP_TILE * lowest
            for number, (other, its) in enumerate(ways):  # a tile at hand, where that costs little: the same bits
                at_hand = other is algorithm and costs[number] < most and (other.name, its) in self._packed
                if at_hand and (number == place or other.rounding(its) == other.rounding(tile)):
                    place, tile = number, its
                    break
            seconds = costs[place] if self.packs_once else costs[place] - self.packing(algorithm, tile)
            found, shared = self._within_memory(algorithm, tile, sizes, seconds)
            if found is not None and shared:
                return found
            if found is not None:
                best, least = found, ITS_THREADS * costs[place]
            costs[place] = inf
            if ways is self.choices:
                reserve = algorithms.reserve(self.problem, self.target)
                ways = [*ways, *(pair for pair in reserve if pair[0].name not in self._left_out)]
                costs = self._costs(ways, sizes)
                costs[place] = inf
        if best is None and self._left_out:  # what is right goes before what is small
            costs = self._costs(self.choices, sizes)
            algorithm, tile = self.choices[costs.index(min(costs))]
            return Chosen(algorithm, tile, self.threads_for(min(costs)), min(costs))
        if best is None:
            raise ValueError(f"no algorithm computes {self.problem} in {allowance(self.problem, sizes)} bytes.")
        return best

    def _costs(self, ways: Sequence[tuple[Algorithm, Hashable]], sizes: Sizes, *, bounds: bool = False) -> list[float]:
        """Seconds of each on one thread; with ``bounds``, for direct ones a lower bound where that is too slow."""
        problem, target, least, costs = self.problem, self.target, inf, [inf] * len(ways)
        same = activating(problem, target, sizes)
        for direct in (False, True):
            fetching = same + (from_memory(problem) if direct and sizes.far else 0.0)
            bound = least_seconds(problem, target, sizes) + fetching if bounds and least < inf else 0.0
            for number, (asked, tile) in enumerate(ways):
                if asked.direct is not direct:
                    continue
                if bound > least:
                    costs[number] = bound
                    continue
                cost = asked.cost(problem, tile, target, sizes, 1) + fetching
                costs[number] = cost = cost if self.packs_once else cost + self.packing(asked, tile)
                if not direct and cost < least:
                    least = cost
        return costs

    def keeps_to_memory(self, algorithm: Algorithm, tile: Hashable, sizes: Sizes, threads: int) -> bool:
        """Does an algorithm run this shape on so many threads within the memory that it may take."""
        schedule = algorithm.schedule(self.problem, tile, self.target, sizes, threads)
        return keeps_to_memory(algorithm, self.problem, self.target, sizes, schedule, threads)

    def _within_memory(
        self, algorithm: Algorithm, tile: Hashable, sizes: Sizes, seconds: float
    ) -> tuple[Chosen | None, bool]:
        """How an algorithm runs this shape within the memory that it may take, if it can.

        Returns:
            How, on as many threads as there are memory and work for; None where there is no way. And if there is
            memory for `ITS_THREADS` (or for one, where the work is too little to share): the same whatever the number
            of threads is, so that the algorithm does not depend on that.
        """
        threads = self.threads_for(seconds)
        if self._known is None or not sizes.positions:
            return Chosen(algorithm, tile, threads, seconds), True
        problem, target, wanted = self.problem, self.target, 1 if seconds < self._alone_below else ITS_THREADS
        sizes = self.readable(algorithm, sizes)
        schedule = algorithm.schedule(problem, tile, target, sizes, threads)
        keeps = keeps_to_memory(algorithm, problem, target, sizes, schedule, threads)
        while not keeps and threads > 1:
            threads = max(threads // 2, min(wanted, threads - 1))
            schedule = algorithm.schedule(problem, tile, target, sizes, threads)
            keeps = keeps_to_memory(algorithm, problem, target, sizes, schedule, threads)
        if not keeps:
            return None, False
        shared = threads >= wanted or keeps_to_memory(algorithm, problem, target, sizes, schedule, wanted)
        if not shared and self.threads < wanted:
            two = algorithm.schedule(problem, tile, target, sizes, wanted)
            shared = keeps_to_memory(algorithm, problem, target, sizes, two, wanted)
        return Chosen(algorithm, tile, threads, seconds, False, schedule), shared

    def readable(self, algorithm: Algorithm, sizes: Sizes) -> Sizes:
        """The sizes as they are, or those of a contiguous copy where the algorithm does not read these strides."""
        if algorithm.reads(self.problem, sizes):
            return sizes
        last = self.problem.layout == "channels_last"
        inner = (*sizes.in_size, self.problem.in_channels) if last else (self.problem.in_channels, *sizes.in_size)
        return _contiguous(sizes, (sizes.batch, *inner))

    def packing(self, algorithm: Algorithm, tile: Hashable) -> float:
        """Seconds that packing adds to every call: none, where weights are packed once."""
        return 0.0

    @functools.cached_property
    def choices(self) -> Sequence[tuple[Algorithm, Hashable]]:
        """What could run this problem: algorithms with their tiles."""
        return self._candidates(self.problem)

    def _find(self, choice: Choice) -> tuple[Algorithm, Hashable] | None:
        """The algorithm and tile of a remembered choice, or None where there is no such thing."""
        if choice.algorithm not in (*algorithms.NAMES, *algorithms.RESERVE) or choice.threads > self.threads:
            return None
        algorithm = algorithms.algorithm(choice.algorithm)
        if algorithm.fits(self.problem, self.target) is not None:
            return None
        tiles = algorithm.variants(self.problem, self.target)
        return next(((algorithm, tile) for tile in tiles if str(tile) == choice.tile), None)

    def _call(
        self, algorithm: Algorithm, tile: Hashable, schedule: Schedule, threads: int, seconds: float
    ) -> pool.Call:
        key = (algorithm.name, tile)
        found = self._at_hand.get(key)
        if found is None:
            functions, packed = self.load(algorithm, tile), self.pack(algorithm, tile)
            found = self._at_hand[key] = functions, packed, pool.address(packed)
        functions, packed, at = found
        phases = []
        for symbol, items in schedule.phases:
            phases.append((functions[symbol].address, items, items // (threads * GRABS), threads))
        return pool.Call(
            phases,
            [0, at, 0, 0, *schedule.words[4:]],
            keep=(packed, schedule.tables),
            arrays=self.filled,
            scratch_bytes=schedule.scratch_bytes,
            workspace_bytes=schedule.workspace_bytes,
            workspace_word=3,
            hold_gil=seconds < HOLD_GIL_SECONDS,
        )

    def load(self, algorithm: Algorithm, tile: Hashable) -> dict[str, machine.Function]:
        """The machine code of an algorithm and tile: all its functions, since another size may need others.

        Raises:
            machine.Unusable: it could not be made, or gives wrong results here.
        """
        key = (algorithm.name, tile)
        functions = self._functions.get(key)
        if functions is not None:
            return functions
        try:
            functions = machine.load_recipe(
                f"{algorithm.name}\n{tile}\n{self.problem}",
                lambda: self._emit(algorithm, tile),
                algorithm.symbols,
                self.target,
                f"algorithm {algorithm.name}",
                lambda link: self._try(algorithm, tile, link),
            )
        except machine.Unusable:
            raise
        except (RuntimeError, OSError, MemoryError) as error:
            message = f"{self.problem}: machine code could not be made and is not used: {error}"
            raise machine.NoCode(algorithm.name, message) from error
        self._functions[key] = functions
        return functions

    def _emit(self, algorithm: Algorithm, tile: Hashable) -> str:
        from polyconv.run import trial

        trial.refuse_known(algorithm, self.problem, self.target)
        try:
            return algorithm.emit(self.problem, tile, self.target)
        except Exception as error:
            raise RuntimeError(f"algorithm {algorithm.name} failed to write its code: {error!r}") from error

    def _try(self, algorithm: Algorithm, tile: Hashable, link: Any) -> None:
        from polyconv.run import trial

        trial.check(algorithm, tile, self.problem, self.target, link)

    def pack(self, algorithm: Algorithm, tile: Hashable) -> Array:
        """The weights as this algorithm and tile read them, packed once."""
        with self._lock:
            key = (algorithm.name, tile)
            if key not in self._packed:
                self._packed[key] = algorithm.pack(self.problem, tile, self.target, self._weight, self._bias)
            return self._packed[key]


class OneCallLayer(CompiledLayer):
    """A problem whose weights come with each call and are packed for it: only what depends on sizes is kept.

    So nothing can be stale. The algorithm may be another than for weights that stay: the time to pack counts.
    """

    max_shapes = 8  # there are many such layers, and all are kept
    packs_once = False
    ending = choices.ONCE
    filled = (0, 1, 2)
    _as_pixels = None

    def run(
        self, x: Array, padding: Pads, out_size: tuple[int, ...], weight: Array | None, bias: Array | None
    ) -> Array:
        """Run the layer with these weights."""
        plan = self._plan(x.shape, x.strides, x.flags.aligned, padding, out_size)
        if plan.instead is not None:
            from polyconv.run.numpy_engine import NumpyEngine

            return NumpyEngine().prepare(self.problem, weight, bias)(x, padding, out_size)
        out = plan.allocate()
        if plan.call is not None:
            kernel, added = (None if one is None else np.ascontiguousarray(one) for one in (weight, bias))
            packed = plan.algorithm.pack(self.problem, plan.tile, self.target, kernel, added)
            plan.call(np.array(x, order="C", subok=False) if plan.copies else x, packed, out)
        return out

    def pack(self, algorithm: Algorithm, tile: Hashable) -> Array:
        """Nothing yet: the code is at hand, the weights are not."""
        return self._packed.setdefault((algorithm.name, tile), np.empty(0, self.problem.dtype))

    def packing(self, algorithm: Algorithm, tile: Hashable) -> float:
        """What packing adds to a call. It does not depend on the number of threads, so that the bits do not."""
        return algorithm.packing(self.problem, tile, self.target) * PACKING_COUNTS


def _contiguous(sizes: Sizes, shape: tuple[int, ...]) -> Sizes:
    """The same sizes for a contiguous copy of the input."""
    return sizes._replace(x_strides=_dense_strides(shape), plane=0)


def _dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a contiguous array."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))
