"""Several layers run as one: band by band, each layer's rows just after the rows they are made from.

A *run* of output rows is one work item: a thread goes down it in *bands* of a few rows. For each band it first computes
those rows of the first layer that the band needs and has not got yet, into a buffer of its own, then the second layer's
rows from there, and so on; the last layer writes to the output. So what is between two layers never leaves the
thread's cache. Rows that the next band needs again are moved to the front of the buffer, not computed twice; only where
a run starts, the rows above it that another thread computes as well are computed again.

No kernel knows of this. A band is a smaller problem: the layer's own machine code gets another base pointer, fewer
rows, and padding only where the band touches the picture's border. The bands are written down as a *program*, a table
of kernel calls and moves in which equal bands are a loop, and `driver` writes the function that carries out an item's
part of it. Sums are those of the layers run one by one, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from math import prod
from typing import Any, NamedTuple

from polyconv.geometry import Axis
from polyconv.run.cpu.algorithms.record import FIXED_WORDS, Algorithm, Schedule, Sizes, Table, ceil_div, table_of, words
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Pads, Problem

NAMES = (*FIXED_WORDS, "program: ptr", "loops: ptr", "starts: ptr", "runs", "x_batch", "out_batch")
STEP = 16  # words of a step of the program; a call's words are copied in groups of as many
KERNEL, ITEMS, WORDS, COUNT, PACKED, ROOM, SCRATCH = range(7)
FROM, FROM_AT, FROM_BY, TO, TO_AT, TO_BY = range(7, 13)  # where from and to: an offset, and more of it at each repeat
PLANES, LENGTH, PITCH = ITEMS, WORDS, COUNT  # of a move, whose KERNEL is 0
INPUT, OUTPUT, OWN = range(3)  # what FROM and TO start from: the input, the output, the thread's scratch
LINE = 128


@dataclass(frozen=True, eq=False)
class Link:
    """One layer of a chain: what it is, its sizes for the whole picture, and what computes it."""

    problem: Problem
    in_size: tuple[int, ...]
    padding: Pads
    out_size: tuple[int, ...]
    algorithm: Algorithm
    tile: Any

    @cached_property
    def reach(self) -> Callable[[int, int], tuple[int, int]]:
        """The input rows that a range of output rows reads, padding included."""
        problem = self.problem
        axis = Axis(problem.kernel_size[0], problem.stride[0], problem.dilation[0], *self.padding[0])
        return axis.sources if problem.op == "conv_transpose" else axis.reads

    def window(self, first: int, last: int) -> tuple[int, int]:
        """The input rows that output rows ``first`` to ``last - 1`` read: one at least."""
        low, high = self.reach(first, last)
        size = self.in_size[0]
        low = 0 if low < 0 else low if low < size else size - 1
        return low, high if low < high <= size else max(min(high, size), low + 1)

    def padding_of(self, first: int, start: int, stop: int) -> Pads:
        """The padding of a band from output row ``first`` on whose input is rows ``start`` to ``stop - 1``."""
        (before, after), stride = self.padding[0], self.problem.stride[0]
        moved = first - start * stride if self.problem.op == "conv_transpose" else start - first * stride
        return ((before + moved, after if stop == self.in_size[0] else 0), *self.padding[1:])

    def grain(self, target: Target) -> int:
        """Output rows that must be computed together."""
        return self.algorithm.grain(self.problem, self.tile, target)


class _Part(NamedTuple):
    """What a band takes of one layer: output rows to compute, and where the buffer that they are read from starts."""

    first: int
    last: int
    start: int  # the input's first row that is read
    stop: int
    base: int  # the first row of the buffer; of the first layer, which has none: start
    kept: int  # rows of the buffer that were there before the band; they are moved to its front
    moved: int  # by so many rows


class _Band(NamedTuple):
    """Parts of all layers; and that ``times`` bands like it follow one another, each so many rows further down."""

    parts: tuple[_Part, ...]
    times: int
    steps: tuple[int, ...]  # rows of each layer's output from one to the next


def bands_of(links: Sequence[Link], grains: Sequence[int], first: int, last: int, rows: int) -> list[_Band]:
    """The bands of one run of the last layer's rows; the time it takes does not grow with their number."""
    held: list[tuple[int, int]] = [(0, 0)] * len(links)  # rows in the buffer before each layer
    bands: list[_Band] = []
    low = first
    while low < last:
        parts = _parts(links, grains, held, low, min(low + rows, last))
        low += rows
        steps = tuple(
            new.first - old.first for new, old in zip(parts, bands[-1].parts if bands else parts, strict=True)
        )
        if not bands or bands[-1].times > 1 or not _alike(links, bands[-1].parts, parts, steps):
            bands.append(_Band(parts, 1, steps))
            continue
        more = min((last - low) // rows, *(_room(*given) for given in zip(links, grains, parts, steps, strict=True)))
        bands.append(_Band(parts, 1 + max(more, 0), steps))
        if more > 0:
            low += more * rows
            moved = (0, *(steps[place] * more for place in range(len(links) - 1)))
            held = [(base + by, end + by) for (base, end), by in zip(held, moved, strict=True)]
    return bands


def _parts(
    links: Sequence[Link], grains: Sequence[int], held: list[tuple[int, int]], a: int, b: int
) -> tuple[_Part, ...]:
    """What output rows a to b - 1 take of each layer; ``held`` is brought up to date."""
    band: list[_Part] = []
    for place in reversed(range(len(links))):
        base, end = held[place]
        start, stop = links[place].window(a, b) if a < b else (base, base + 1)
        if not place:
            band.append(_Part(a, b, start, stop, start, 0, 0))
            break
        grain = grains[place - 1]
        if start >= end:  # nothing of it is there
            base = end = start // grain * grain
            kept = moved = 0
        else:
            keep = max(start, base)
            kept, moved, base = end - keep, keep - base, keep
        wanted = min(ceil_div(stop, grain) * grain, links[place - 1].out_size[0])
        band.append(_Part(a, b, start, stop, base, kept, moved))
        a, b = end, max(end, wanted)
        held[place] = (base, b)
    return tuple(reversed(band))


def _alike(links: Sequence[Link], old: Sequence[_Part], new: Sequence[_Part], steps: Sequence[int]) -> bool:
    """Is one band the other, moved down: every layer by its own number of rows."""
    inputs = (None, *steps)
    for link, one, two, by, of_input in zip(links, old, new, steps, inputs, strict=False):
        same = (two.last - two.first, two.stop - two.start, two.start - two.base, two.kept, two.moved)
        if same != (one.last - one.first, one.stop - one.start, one.start - one.base, one.kept, one.moved):
            return False
        if of_input is not None and (two.start - one.start != of_input or two.base - one.base != of_input):
            return False
        if link.padding_of(one.first, one.start, one.stop) != link.padding_of(two.first, two.start, two.stop):
            return False
        if by <= 0:
            return False
    return True


def _room(link: Link, grain: int, part: _Part, step: int) -> int:
    """How many bands like this one follow before the layer meets the picture's end, for sure."""
    again = link.problem.stride[0] if link.problem.op != "conv_transpose" else 1
    inner = (link.in_size[0] - 1 - part.stop) // max(step * again, 1)
    return min((link.out_size[0] - grain - part.last) // step, inner)


@dataclass
class Program:
    """The calls and moves of every run, and the memory they need."""

    words: Sequence[int]
    scratch_bytes: int
    runs: int
    rows: int
    buffer_bytes: int  # of one thread
    computed: float  # rows computed of all layers but the last, over their rows
    tables: list[Table | Array] = field(default_factory=list)


class _Writer:
    """Writes the program of one shape."""

    def __init__(
        self, links: Sequence[Link], target: Target, x_strides: Sequence[int], bands: list[list[_Band]]
    ) -> None:
        self.links, self.target, self.x_strides = links, target, x_strides
        self.item = links[0].problem.numpy_dtype().itemsize
        self.known: dict[tuple[int, Sizes], tuple[Schedule, Table]] = {}
        self.last = links[0].problem.layout == "channels_last"
        flat = [band.parts for run in bands for band in run]
        self.capacity = [
            max((band[place - 1].last - band[place].base for band in flat), default=1) if place else 0
            for place in range(len(links))
        ]
        self.pitches = [0] + [
            _apart(self.capacity[place] * self.row(link), self.item) for place, link in list(enumerate(links))[1:]
        ]

    def row(self, link: Link) -> int:
        """Elements between rows of a layer's input in a buffer."""
        return prod(link.in_size[1:]) * (link.problem.in_channels if self.last else 1)

    def buffer_bytes(self, place: int) -> int:
        """Of the buffer before a layer, with room for a vector more."""
        link = self.links[place]
        size = self.capacity[place] * self.row(link) if self.last else self.pitches[place] * link.problem.in_channels
        return -(-(size * self.item + LINE) // LINE) * LINE

    def strides(self, place: int) -> tuple[int, ...]:
        """Of a layer's input."""
        if not place:
            return tuple(self.x_strides)
        link = self.links[place]
        inner = [1 if not self.last else link.problem.in_channels]
        for size in reversed(link.in_size[1:]):
            inner.insert(0, inner[0] * size)
        if self.last:
            return (inner[0] * self.capacity[place], *inner, 1)
        return (self.pitches[place] * link.problem.in_channels, self.pitches[place], *inner)

    def plane(self, place: int) -> int:
        """Elements between the output planes of a layer (channels first)."""
        if self.last:
            return 0
        following = place + 1
        return prod(self.links[place].out_size) if following == len(self.links) else self.pitches[following]

    def schedule(self, place: int, part: _Part) -> tuple[Schedule, Table]:
        """A layer's schedule for a part, kept for parts of the same sizes; and its words, filled up to whole steps."""
        link = self.links[place]
        padding = link.padding_of(part.first, part.start, part.stop)
        sizes = Sizes(
            1, (part.stop - part.start, *link.in_size[1:]), padding,
            (part.last - part.first, *link.out_size[1:]), self.strides(place), self.plane(place),
        )  # fmt: skip
        found = self.known.get((place, sizes))
        if found is None:
            plan = link.algorithm.schedule(link.problem, link.tile, self.target, sizes, 1)
            rest = -len(plan.words) % STEP
            found = self.known[place, sizes] = (plan, table_of([*plan.words, *(0,) * rest]))
        return found


def _apart(elements: int, item: int) -> int:
    """Elements between planes of a buffer: an odd number of cache lines, so that planes do not meet in the caches."""
    return (ceil_div(elements * item, 64) | 1) * 64 // item


def write_program(
    links: Sequence[Link],
    target: Target,
    x_strides: Sequence[int],
    rows: int,
    runs: int,
    packed: Sequence[Array],
    addresses: Any,
) -> Program:
    """The program of one shape.

    Args:
        links: the layers.
        target: the machine.
        x_strides: of the input, in elements.
        rows: of the last layer's output in a band.
        runs: of bands, for each picture.
        packed: each layer's packed weights.
        addresses: ``addresses(place, phases)`` gives the address of each phase's function.
    """
    grains = [link.grain(target) for link in links]
    rows = ceil_div(rows, grains[-1]) * grains[-1]
    bands = [bands_of(links, grains, *run, rows) for run in runs_of(links[-1].out_size[0], rows, runs)]
    writer, item, count = _Writer(links, target, x_strides, bands), links[0].problem.numpy_dtype().itemsize, len(links)
    parts = {pair for run in bands for band in run for pair in enumerate(band.parts) if pair[1].first < pair[1].last}
    plans = {pair: writer.schedule(*pair) for pair in parts}
    at = -(-8 * max(len(filled) for _, filled in plans.values()) // LINE) * LINE
    buffers = [0]
    for place in range(1, count):
        buffers.append(at)
        at += writer.buffer_bytes(place)
    room = at
    own = room + max(-(-plan.workspace_bytes // LINE) * LINE for plan, _ in plans.values())
    scratch = own + max(plan.scratch_bytes for plan, _ in plans.values())
    x_row = x_strides[1 if writer.last else 2]
    steps: list[list[int]] = []
    loops: list[tuple[int, int, int]] = []
    starts = [0]
    for run in bands:
        for band in run:
            before = len(steps)
            for place, part in enumerate(band.parts):
                link, following = links[place], band.parts[place + 1] if place + 1 < count else None
                if following is not None and following.moved and following.kept:
                    steps.append(_move(writer, place + 1, following, buffers[place + 1]))
                if part.first >= part.last:
                    continue
                plan, filled = plans[place, part]
                row = prod(link.out_size[1:]) * (link.problem.out_channels if writer.last else 1)
                for phase, address in zip(plan.phases, addresses(place, plan.phases), strict=True):
                    step = [0] * STEP
                    step[KERNEL], step[ITEMS], step[WORDS] = address, phase.items, filled.buffer_info()[0]
                    step[COUNT], step[PACKED] = len(filled), packed[place].ctypes.data
                    step[FROM], step[FROM_AT] = INPUT, part.start * x_row * item
                    step[TO], step[TO_AT] = OUTPUT, part.first * row * item
                    if place:
                        at = (part.start - part.base) * writer.row(link) * item
                        step[FROM], step[FROM_AT] = OWN, buffers[place] + at
                    else:
                        moved = 1 if band.times == 1 else _input_step(link, band.steps[0])
                        step[FROM_BY] = moved * x_row * item
                    if following is not None:
                        at = (part.first - following.base) * row * item
                        step[TO], step[TO_AT] = OWN, buffers[place + 1] + at
                    else:
                        step[TO_BY] = band.steps[place] * row * item
                    step[ROOM], step[SCRATCH] = room, own
                    steps.append(step)
            loops.append((before, len(steps), band.times))
        starts.append(len(loops))
    program, repeats, table = table_of(chain(*steps)), table_of(chain(*loops)), table_of(starts)
    arguments = words(
        program, repeats, table, len(bands), x_strides[0] * item,
        prod(links[-1].out_size) * links[-1].problem.out_channels * item,
    )  # fmt: skip
    computed = sum((p.last - p.first) * band.times for run in bands for band in run for p in band.parts[:-1])
    tables = [program, repeats, table, *(array for plan, filled in plans.values() for array in (filled, *plan.tables))]
    return Program(
        arguments, scratch, len(bands), rows, room - buffers[1],
        computed / sum(link.out_size[0] for link in links[:-1]), [*tables, *packed],
    )  # fmt: skip


def _input_step(link: Link, rows: int) -> int:
    """Input rows between the windows of output rows that lie so many apart."""
    stride = link.problem.stride[0]
    return rows // stride if link.problem.op == "conv_transpose" else rows * stride


def _move(writer: _Writer, place: int, part: _Part, buffer: int) -> list[int]:
    """Bring the rows that are kept to the front of the buffer before a layer."""
    link, item, step = writer.links[place], writer.item, [0] * STEP
    row = writer.row(link)
    step[PLANES] = 1 if writer.last else link.problem.in_channels
    step[LENGTH] = part.kept * row * item // 4
    step[PITCH] = writer.pitches[place] * item
    step[FROM], step[FROM_AT] = OWN, buffer + part.moved * row * item
    step[TO], step[TO_AT] = OWN, buffer
    return step


# ---- the function that carries a program out -----------------------------------------------------------------------
def driver(target: Target) -> str:
    """The module: ``run0`` over items (picture, run)."""
    k = Kernel("run0", target, "float32")
    w = {name.removesuffix(": ptr"): value for name, value in zip(NAMES, k.words(*NAMES), strict=True)}
    with k.loop(k.first, k.last) as item:
        run = item % w["runs"]
        x = k.byte_at(w["x"], (item // w["runs"]) * w["x_batch"])
        out = k.byte_at(w["out"], (item // w["runs"]) * w["out_batch"])
        starts = [k.load(k.word_at(w["starts"], run + more), "i64") for more in (0, 1)]
        with k.loop(starts[0], starts[1]) as number:
            low, high, times = (k.load(k.word_at(w["loops"], number * 3 + field), "i64") for field in range(3))
            with k.loop(0, times, nonempty=True) as time, k.loop(low, high, nonempty=True) as place:
                _carry_out(_Step(k, k.word_at(w["program"], place * STEP), time), x, out)
    return k.module()


def _carry_out(step: _Step, x: Value, out: Value) -> None:
    """One step: a call, or a move."""
    k, kernel = step.k, step.word(KERNEL, "ptr")
    source, sink = step.place(FROM, x, out), step.place(TO, x, out)
    is_call = k.emit(f"icmp ne ptr {kernel.code}, null", "i1")
    k.choose(is_call, lambda: _call(step, kernel, source, sink), lambda: _carry(step, source, sink))


class _Step:
    """One step of the program, at one of its repeats."""

    def __init__(self, k: Kernel, at: Value, time: Value) -> None:
        self.k, self.at, self.time = k, at, time

    def word(self, number: int, type_: str = "i64") -> Value:
        """One of its words."""
        return self.k.load(self.k.word_at(self.at, number), type_)

    def place(self, kind: int, x: Value, out: Value) -> Value:
        """The address that a kind and the offset after it give."""
        k, start = self.k, self.word(kind)
        base = k.select(start.eq(INPUT), x, k.select(start.eq(OUTPUT), out, k.scratch))
        return k.byte_at(base, self.word(kind + 1) + self.time * self.word(kind + 2))


def _call(step: _Step, kernel: Value, source: Value, sink: Value) -> None:
    """Copy the words of a call to scratch, fill in the pointers, and call."""
    k = step.k
    given = step.word(WORDS, "ptr")
    with k.loop(0, step.word(COUNT), 8, nonempty=True) as at:
        k.store_vector(k.load_vector(k.word_at(given, at), 8, type_="i64"), k.word_at(k.scratch, at))
    for place, pointer in enumerate((source, step.word(PACKED, "ptr"), sink, k.byte_at(k.scratch, step.word(ROOM)))):
        k.store(pointer, k.word_at(k.scratch, place))
    own = k.byte_at(k.scratch, step.word(SCRATCH))
    k.do(f"call void {kernel.code}(ptr {k.scratch.code}, i64 0, i64 {step.word(ITEMS).code}, ptr {own.code})")


def _carry(step: _Step, source: Value, sink: Value) -> None:
    """Move the same stretch of each plane to a lower address; the two may overlap."""
    k, length = step.k, step.word(LENGTH)
    with k.loop(0, step.word(PLANES), nonempty=True) as plane:
        at = plane * step.word(PITCH)
        old, new = k.byte_at(source, at), k.byte_at(sink, at)
        whole = length // k.lanes * k.lanes
        with k.loop(0, whole, k.lanes) as place:
            k.store_vector(k.load_vector(k.at(old, place)), k.at(new, place))
        with k.when(whole < length):
            mask = k.mask(length - whole)
            k.store_vector(k.load_vector(k.at(old, whole), mask=mask), k.at(new, whole), mask=mask)


def runs_of(height: int, rows: int, runs: int) -> list[tuple[int, int]]:
    """(first, last) row of up to ``runs`` runs of nearly as many bands of so many rows."""
    bands = ceil_div(height, rows)
    runs = min(runs, bands)
    edges = [min(bands * run // runs * rows, height) for run in range(runs + 1)]
    return list(pairwise(edges))
