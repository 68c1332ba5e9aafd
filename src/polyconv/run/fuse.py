"""Which neighbouring layers run as one, band by band (`polyconv.run.cpu.chain`), in what bands, and why.

What is between two layers is written and read through the outer caches when they run one after the other, and each
layer is a call of its own. Run as one they save that, and pay with rows computed twice where one thread's part of the
picture meets another's, with a call of each kernel for each band, and with weights read again for each band where they
do not stay in the cache. `best_bands` adds these up; a chain is fused where the sum is smaller. The same algorithms
run either way, so the result is the same, bit by bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import gcd, lcm, prod

import numpy as np

from polyconv.run.cpu import buffers, chain, entry, machine, pool
from polyconv.run.cpu.algorithms.record import Phase, Sizes, ceil_div, in_words, most_memory
from polyconv.run.plan import HOLD_GIL_SECONDS, CompiledLayer
from polyconv.run.problem import Array, Pads

MOST_LAYERS = 4  # of a chain
CALL_SECONDS = 2e-6  # one more layer that is called by itself: the call, a result's memory, a fork and join
BAND_SECONDS = 0.4e-6  # one more call of a kernel from a program
BYTES_PER_SECOND = 35e9  # what lies between two layers, written and read again by all threads, outside their caches
WEIGHTS_PER_SECOND = 40e9  # what of the weights does not stay in the L2, read again for a band, by each thread
SHARE_OF_L2 = 0.5  # for a band's part of the input, of all buffers and of the output
UNEVEN = 0.03  # of an item's time: what is lost where threads do not run at the same speed
WORTH = 0.97  # a chain is fused where it takes less than this part of the time


@dataclass(frozen=True)
class Member:
    """A layer of a chain at one shape of its input."""

    layer: CompiledLayer
    in_shape: tuple[int, ...]
    padding: Pads
    out_size: tuple[int, ...]

    @cached_property
    def sizes(self) -> Sizes:
        """Of the whole picture."""
        return self.layer.sizes(self.in_shape, self.padding, self.out_size)

    @cached_property
    def chosen(self) -> tuple[float, chain.Link, bool, int]:
        """Seconds on one thread, the link (the algorithm that runs it by itself too), if measured, threads alone."""
        algorithm, tile, threads, seconds, measured, _ = self.layer.choose(self.sizes)
        problem = self.layer.problem
        return (
            seconds,
            chain.Link(problem, self.sizes.in_size, self.padding, self.out_size, algorithm, tile),
            measured,
            threads,
        )

    @property
    def allowance(self) -> int:
        """Bytes that the layer may take besides its arrays when it runs by itself on one thread."""
        return most_memory(self.link.algorithm, self.layer.problem, self.layer.target, self.sizes)

    @cached_property
    def link(self) -> chain.Link:
        """What the chain knows of it."""
        return self.chosen[1]

    @cached_property
    def grain(self) -> int:
        """Output rows that must be computed together; 0 where all are."""
        return self.link.grain(self.layer.target)

    @cached_property
    def in_row_bytes(self) -> float:
        """Of one row of one picture's input."""
        return prod(self.in_shape[1:]) * self.layer.problem.numpy_dtype().itemsize / self.link.in_size[0]

    @cached_property
    def out_row_bytes(self) -> float:
        """Of one row of one picture's output."""
        return self.out_bytes / self.in_shape[0] / self.out_size[0]

    @cached_property
    def out_bytes(self) -> int:
        """Of the whole output."""
        problem = self.layer.problem
        return prod(problem.out_shape(self.in_shape[0], self.out_size)) * problem.numpy_dtype().itemsize

    @cached_property
    def weight_bytes(self) -> int:
        """Of the weights, unpacked."""
        problem = self.layer.problem
        return prod(problem.weight_shape() or (0,)) * problem.numpy_dtype().itemsize

    @cached_property
    def takes_bands(self) -> bool:
        """Does the algorithm compute some rows by themselves, and read them out of a larger array."""
        sizes, link = self.sizes, self.link
        if not self.grain:
            return False
        strides = list(sizes.x_strides)
        if link.problem.layout == "channels_first":
            strides[:2] = [strides[0] * 2, strides[1] + strides[2]]
        apart = Sizes(sizes.batch, sizes.in_size, sizes.padding, sizes.out_size, tuple(strides))
        return link.algorithm.reads(link.problem, apart)


@dataclass(frozen=True)
class Bands:
    """How a chain runs: rows of the last layer's output in a band, and runs of bands for each picture."""

    rows: int
    runs: int
    threads: int
    seconds: float
    apart: float  # seconds of the layers one by one


def possible(members: Sequence[Member]) -> bool:
    """Can these layers run as one: there is something to compute, and every kernel reads bands."""
    return all(0 not in member.in_shape and 0 not in member.out_size and member.takes_bands for member in members)


def best_bands(members: Sequence[Member], threads: int | None = None) -> Bands:
    """The bands with the least expected time, and that time; on as many threads as the work is worth if not given."""
    layer, links = members[0].layer, [member.link for member in members]
    seconds = [member.chosen[0] for member in members]
    between = sum(member.out_bytes for member in members[:-1])
    apart = sum(member.chosen[0] / member.chosen[3] for member in members)
    apart += (len(members) - 1) * CALL_SECONDS + 2 * between / BYTES_PER_SECOND
    threads = threads or min(member.layer.threads_for(sum(seconds)) for member in members)
    batch, height, grain = members[0].in_shape[0], links[-1].out_size[0], _grain(members)
    most = _rows(members, grain)
    far = 2 * between / BYTES_PER_SECOND * threads * _beyond_cache(members, most)
    weights = sum(member.weight_bytes for member in members)
    again = max(weights - layer.target.l2_bytes, 0) / WEIGHTS_PER_SECOND
    found = []
    for share in (1, 2) if threads > 1 else (1,):
        wanted = min(ceil_div(share * threads, batch), height)
        rows = ceil_div(ceil_div(height, wanted * ceil_div(height, wanted * most)), grain) * grain
        runs = chain.runs_of(height, rows, wanted)
        items = batch * len(runs)
        work = _work(members, runs) + far
        bands = ceil_div(height, rows) * batch
        calls = bands * len(links) * BAND_SECONDS + (bands - items) * again
        busiest = _busiest(runs, batch, threads) + UNEVEN / items * (threads > 1)
        found.append(((work + calls) * busiest, rows, len(runs)))
    expected, rows, count = min(found)
    return Bands(rows, count, threads, expected, apart)


def _busiest(runs: Sequence[tuple[int, int]], batch: int, threads: int) -> float:
    """The part of all rows that one thread has, where each has its range of the runs."""
    edges = [0, *itertools.accumulate([high - low for low, high in runs])]
    rows, count = edges[-1], len(runs)
    most = last = 0
    for part in range(1, threads + 1):
        picture, run = divmod(batch * count * part // threads, count)
        before = picture * rows + edges[run]
        most, last = before - last if before - last > most else most, before
    return most / (batch * rows) if batch * rows else 0.0


def _grain(members: Sequence[Member]) -> int:
    """Rows of a band such that every layer gets on by whole grains of its own."""
    found, up, down = 1, 1, 1  # up / down rows of a layer for one of the last
    for member in reversed(members):
        grain, problem = member.grain, member.layer.problem
        found = lcm(found, grain * down // gcd(grain * down, up))
        if problem.op == "conv_transpose":
            down *= problem.stride[0]
        else:
            up *= problem.stride[0]
    return found


def _rows(members: Sequence[Member], grain: int) -> int:
    """Rows of a band such that all it touches stays in the cache, if any do."""
    height = members[-1].out_size[0]
    most = members[0].layer.target.l2_bytes * SHARE_OF_L2
    rows = max(1, int(most / _touched(members, height) * height) // grain) * grain
    while rows > grain and _touched(members, rows) > most:
        rows = max(1, rows * 7 // 8 // grain) * grain
    return min(rows, ceil_div(height, grain) * grain)


def _touched(members: Sequence[Member], rows: int) -> float:
    """Bytes of a band in the middle of the picture: of the input, the buffers and the output."""
    height = members[-1].out_size[0]
    a = max(0, (height - rows) // 2)
    b, total = min(a + rows, height), 0.0
    for member in reversed(members):
        total += member.out_row_bytes * (b - a)
        a, b = member.link.window(a, b)
    return total + member.in_row_bytes * (b - a)


def _beyond_cache(members: Sequence[Member], rows: int) -> float:
    """Which part of what is between the layers does not stay in the L2; a guess between all and nothing.

    Algorithms whose rows go together keep something of their own there, about half of it.
    """
    l2 = members[0].layer.target.l2_bytes
    own = SHARE_OF_L2 * l2 if any(member.grain > 1 for member in members) else 0.0
    return min(max((_touched(members, rows) + own - l2) / (0.75 * l2), 0.0), 1.0)


def _work(members: Sequence[Member], runs: Sequence[tuple[int, int]]) -> float:
    """Seconds on one thread, with the rows that are computed twice."""
    rows = [0] * len(members)
    for a, b in runs:
        for place in reversed(range(len(members))):
            link, grain = members[place].link, members[place].grain
            if grain > 1:
                a, b = a // grain * grain, min(ceil_div(b, grain) * grain, link.out_size[0])
            rows[place] += b - a
            a, b = link.window(a, b)
    return sum(member.chosen[0] * count / member.out_size[0] for member, count in zip(members, rows, strict=True))


def most_together(members: Sequence[Member]) -> int:
    """Bytes that a chain may take on all its threads: what is between its layers, and what each of them may take.

    So layers that run as one never take more memory than those that run one by one, whose results between them are
    arrays.
    """
    return sum(member.out_bytes for member in members[:-1]) + sum(member.allowance for member in members)


def _run_any(call: pool.Call, allocate: Callable[[], Array], x: Array) -> Array:
    """A chain on an array with any strides."""
    if not (x.flags.c_contiguous and x.flags.aligned):
        x = np.array(x, order="C", subok=False)
    out = allocate()
    call(x, out)
    return out


def compiled(members: Sequence[Member], bands: Bands) -> CompiledChain | None:
    """A chain that keeps to its memory: with these bands, or on one thread; None where neither does, or none pays."""
    most = most_together(members)
    made = CompiledChain(members, bands)
    if made.memory <= most:
        return made
    alone = best_bands(members, 1)
    if bands.threads == 1 or alone.seconds > WORTH * alone.apart:
        return None
    made = CompiledChain(members, alone)
    return made if made.memory <= most else None


class CompiledChain:
    """Layers that run as one, for inputs of one shape.

    Args:
        members: the layers, each reading what the one before makes.
        bands: how; ``best_bands`` of them if not given.
    """

    def __init__(self, members: Sequence[Member], bands: Bands | None = None) -> None:
        self.members, self.bands = tuple(members), bands or best_bands(members)
        first, final = members[0], members[-1]
        target, links = first.layer.target, [member.link for member in members]
        batch, problem = first.in_shape[0], final.layer.problem
        self.dtype, self.out_shape = problem.numpy_dtype(), problem.out_shape(batch, final.out_size)
        allocate = buffers.allocator(self.out_shape, self.dtype)
        self.program = chain.write_program(
            links, target, first.sizes.x_strides, self.bands.rows, self.bands.runs,
            [member.layer.pack(member.link.algorithm, member.link.tile) for member in members], self._addresses,
        )  # fmt: skip
        code = machine.load_recipe("chain", lambda: chain.driver(target), ["run0"], target, "a chain of layers")
        items = batch * self.program.runs
        self._call = pool.Call(
            [pool.Phase(code["run0"].address, items, max(1, items // (8 * self.bands.threads)), self.bands.threads)],
            self.program.words,
            arrays=(0, 2),
            keep=self.program.tables,
            scratch_bytes=self.program.scratch_bytes,
            hold_gil=self.bands.seconds < HOLD_GIL_SECONDS,
        )
        other = partial(_run_any, self._call, allocate)
        self.run = entry.IntoNew(self._call, first.in_shape, self.out_shape, self.dtype, allocate, other)

    def _addresses(self, place: int, phases: Sequence[Phase]) -> list[int]:
        member = self.members[place]
        found = member.layer.load(member.link.algorithm, member.link.tile)
        return [found[phase.symbol].address for phase in phases]

    def __call__(self, x: Array) -> Array:
        """Run the chain."""
        return self.run(x)

    @property
    def memory(self) -> int:
        """Bytes that a call takes besides its arrays, on all its threads."""
        return self.bands.threads * pool.rounded(self.program.scratch_bytes)

    def explain(self, names: Sequence[str]) -> list[str]:
        """A line for each layer; ``names`` of the stages."""
        program, bands = self.program, self.bands
        axis = "positions" if len(self.members[0].out_size) == 1 else "rows"
        memory = in_words(self.memory)
        again = max(0.0, 100 * (program.computed - 1))
        lines = []
        for number, (name, member) in enumerate(zip(names, self.members, strict=True)):
            measured = " (measured)" if member.chosen[2] else ""
            how = f"{name} {member.link.algorithm.name} {member.link.tile}{measured}, "
            if number:
                lines.append(f"{how}fused with stage {names[0]} (compiled for this machine)")
                continue
            lines.append(
                f"{how}fused with the next layer{'s' if len(names) > 2 else ''} ({', '.join(names[1:])}): bands of "
                f"{program.rows} {axis}, {program.runs} run(s) a picture, {bands.threads} thread(s), "
                f"{memory} of workspace, expected {bands.seconds * 1e6:.0f} us instead of "
                f"{bands.apart * 1e6:.0f}: what is between the layers stays in a buffer of "
                f"{program.buffer_bytes / 1024:.0f} KiB, {again:.0f} % of it computed twice "
                f"(compiled for this machine)"
            )
        return lines


def chains(members: Sequence[Member], wish: str = "auto") -> list[tuple[int, int, Bands]]:
    """Which neighbours of a sequence of layers run as one: (first, last, bands) of each chain, in order.

    Args:
        members: layers each of which alone reads what the one before makes.
        wish: ``auto`` (where it pays), ``on`` (wherever it is possible) or ``off``; see ``engines.fusing``.
    """
    if wish == "off" or len(members) < 2:
        return []
    best: list[tuple[float, list[tuple[int, int, Bands]]]] = [(0.0, [])]  # seconds saved, for the layers before each
    for stop in range(1, len(members) + 1):
        saved, found = best[-1]
        for start in range(max(0, stop - MOST_LAYERS), stop - 1):
            part = members[start:stop]
            if not possible(part):
                continue
            bands = best_bands(part)
            gain = bands.apart - bands.seconds
            if wish == "auto" and bands.seconds > WORTH * bands.apart:
                continue
            gain = stop - start - 1 if wish == "on" else gain
            if best[start][0] + gain > saved:
                saved, found = best[start][0] + gain, [*best[start][1], (start, stop, bands)]
        best.append((saved, found))
    return best[-1][1]
