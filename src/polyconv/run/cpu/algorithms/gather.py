"""The addresses of the pixels that a tile reads: one for each tap and output position, written to scratch.

`Gather.lay` writes, for each position of a tile, where its own pixel lies, its coordinates in the input and where its
output goes. `Gather.point` then writes the list of taps: a row of 16 words for each, pointers first, then how many
channels to run through and the tap's number. Inside the picture neighbouring taps whose pixels follow one another in
memory are one entry (a *run*); on its border every tap is tested, positions on padding point at a row of zeros, and
taps that meet no data are left out. The terms of a sum keep their order either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from operator import sub
from typing import NamedTuple

from polyconv.run.cpu.algorithms.phases import OutputPhases
from polyconv.run.cpu.emit import Kernel, Value, Var

GROUP = 16  # words in a row of the list
LENGTH, NUMBER = 14, 15  # where a row holds its channels (see `Gather.length`) and its tap's number
EVEN = 15  # where the outputs' addresses leave room for: are the pixels of a tile ``apart`` from each other
MOST_POSITIONS = 14
LONGEST_LIST = 8 << 10  # bytes of a tile's list up to which there are two
PHASE_TAPS = ("taps_at", "taps", "runs_at", "runs")  # of a phase; then least and most shift of each axis


class Walk(NamedTuple):
    """One axis that the positions of a tile run over, the last one fastest: all steps are per position."""

    start: Value  # of the tile's first position
    size: Value  # where it carries over
    origin: Value | None  # input coordinate of position 0; None for the batch
    origin_step: Value
    source_step: Value  # bytes
    sink_step: Value  # bytes


class Gather:
    """Writes the code; uses ``rows_at`` words of scratch, then a row for each tap."""

    def __init__(self, k: Kernel, ndim: int, rows: Value, apart: int | None = None) -> None:
        self.k, self.ndim, self._first_rows = k, ndim, rows
        self.apart = apart  # bytes between neighbours of a row, where that is known: then entries say who has them
        self.use(k.integer(0))

    def use(self, offset: Value) -> None:
        """Write to, and read from, the copy of everything that lies this many bytes further in scratch."""
        k = self.k
        self.rows = k.byte_at(self._first_rows, offset)
        self.bases = k.byte_at(k.scratch, offset)
        self.outs = k.word_at(self.bases, GROUP)
        self.origins = [k.word_at(self.bases, GROUP * (2 + axis)) for axis in range(self.ndim)]

    @staticmethod
    def room(ndim: int, taps: int, stage_bytes: int, most: int) -> tuple[int, int, int]:
        """Bytes of scratch for lists of so many taps, and the words ``side`` and ``lag`` of `ahead_of`.

        ``stage_bytes`` stand before the rows. Two copies, so that a tile is laid out before its predecessor is
        multiplied; one where the list is long, since it should still be in the L1 cache when it is read, or where two
        would take more than ``most`` bytes.
        """
        side = (stage_bytes + 8 * (Gather.words(ndim) + GROUP * (taps + 1)) + 127) & -128
        lag = int(side <= LONGEST_LIST and 2 * side <= most)
        return side * (1 + lag), side * lag, lag

    def ahead_of(
        self,
        start: Value,
        stop: Value,
        side: Value,
        lag: Value,
        lay: Callable[[Value], tuple[Value, Value]],
        multiply: Callable[[Value, Value], None],
    ) -> None:
        """For each number from start to stop: ``count, active = lay(number)``, later ``multiply(count, active)``.

        With a lag of 1 each is laid out before its predecessor is multiplied, in the other copy of the lists: its
        addresses are then long known when its turn comes, and the processor, which always guesses wrong where the
        long loop over channels ends, does not wait for them.
        """
        k = self.k
        count, active = k.var(k.integer(0)), k.var(k.integer(0))
        with k.loop(start, stop + lag, carry=[count, active]) as number:
            earlier = count.value, active.value
            with k.when(number < stop, carry=[count, active]):
                self.use((number & 1) * side)
                count.value, active.value = lay(number)
            now = [k.select(lag.ne(0), old, new.value) for old, new in zip(earlier, (count, active), strict=True)]
            with k.when(number >= start + lag):
                self.use(((number - lag) & 1) * side)
                multiply(*now)

    @staticmethod
    def words(ndim: int) -> int:
        """Words of scratch before the rows."""
        return GROUP * (2 + ndim)

    def lay(self, walks: Sequence[Walk], count: Value, source: Value, sink: Value) -> None:
        """Bases, outputs and origins of a tile whose first position the walks start at."""
        k, last = self.k, walks[-1]
        for walk in walks:
            source = k.byte_at(source, walk.start * walk.source_step)
            sink = k.byte_at(sink, walk.start * walk.sink_step)

        def in_one_row() -> None:
            steps = k.indices(GROUP)
            for place, pointer, step in ((self.bases, source, last.source_step), (self.outs, sink, last.sink_step)):
                offsets = steps * k.broadcast(step, GROUP)
                k.store_vector(self.moved(k.broadcast(pointer, GROUP), offsets), place, align=64)
            for place, walk in zip(self.origins, walks[-self.ndim :], strict=True):
                origin = k.broadcast(self.origin(walk, walk.start), GROUP)
                if walk is last:
                    origin = origin + steps * k.broadcast(walk.origin_step, GROUP)
                k.store_vector(origin, place, align=64)
            if self.apart is not None:
                k.store(k.convert(last.source_step.eq(self.apart), "zext", "i64"), k.word_at(self.outs, EVEN))

        k.choose(last.start + count <= last.size, in_one_row, lambda: self.one_by_one(walks, count, source, sink))

    def one_by_one(self, walks: Sequence[Walk], count: Value, source: Value, sink: Value) -> None:
        """The same where the tile leaves its row."""
        k = self.k
        places = [k.var(walk.start) for walk in walks]
        pointers = [k.var(source), k.var(sink)]
        with k.loop(0, count, carry=[*places, *pointers], nonempty=True) as position:
            k.store(pointers[0].value, k.word_at(self.bases, position))
            k.store(pointers[1].value, k.word_at(self.outs, position))
            for store, walk, place in zip(self.origins, walks[-self.ndim :], places[-self.ndim :], strict=True):
                k.store(self.origin(walk, place.value), k.word_at(store, position))
            self.advance(walks, places, pointers)
        if self.apart is not None:
            k.store(k.integer(0), k.word_at(self.outs, EVEN))

    def advance(self, walks: Sequence[Walk], places: list[Var], pointers: list[Var]) -> None:
        """The next position: the last axis first, carrying over."""
        k = self.k
        carry: Value | None = None
        source, sink = k.integer(0), k.integer(0)
        for walk, place in zip(reversed(walks), reversed(places), strict=True):
            following = place.value + (1 if carry is None else k.convert(carry, "zext", "i64"))
            if walk is not walks[0]:
                carry = following.eq(walk.size)
                following = k.select(carry, k.integer(0), following)
            moved = following - place.value
            source, sink = source + moved * walk.source_step, sink + moved * walk.sink_step
            place.value = following
        pointers[0].value = k.byte_at(pointers[0].value, source)
        pointers[1].value = k.byte_at(pointers[1].value, sink)

    def origin(self, walk: Walk, place: Value) -> Value:
        """Input coordinate of a position."""
        return place * walk.origin_step if walk.origin is None else walk.origin + place * walk.origin_step

    def moved(self, pointers: Value, offsets: Value) -> Value:
        """A vector of pointers, each moved by its number of bytes."""
        return self.k.emit(f"getelementptr i8, {pointers!r}, {offsets!r}", pointers.type)

    def point(
        self, phase: dict[str, Value], table: Value, sizes: list[Value], count: Value, channels: Value, zeros: Value
    ) -> Value:
        """Write the list of taps; returns how many entries it has."""
        k = self.k
        active = k.var(k.integer(0))
        present = k.mask(count, GROUP)
        inside = present
        origins = [k.load_vector(place, GROUP, type_="i64", align=64) for place in self.origins]
        for axis, origin in enumerate(origins):
            inside = inside & (origin + phase[f"least{axis}"]).below(sizes[axis])
            inside = inside & (origin + phase[f"most{axis}"]).below(sizes[axis])

        def runs() -> None:
            bases = k.load_vector(self.bases, GROUP, type_="ptr", align=64)
            with k.loop(0, phase["runs"]) as number:
                run = k.word_at(table, phase["runs_at"] + number * 3)
                row = k.word_at(self.rows, number * GROUP)
                offset = k.broadcast(k.load(k.word_at(run, 1), "i64"), GROUP)
                k.store_vector(self.moved(bases, offset), row, align=64)
                k.store(k.load(run, "i64"), k.word_at(row, NUMBER))
                self.put_length(k.load(k.word_at(run, 2), "i64"), row)
            active.value = phase["runs"]

        def taps() -> None:
            self.each_tap(phase, table, sizes, present, origins, channels, zeros, active)

        bits = f"i{GROUP}"
        k.choose(k.bitcast(inside, bits).eq(k.bitcast(present, bits)), runs, taps, carry=[active])
        return active.value

    def put_length(self, channels: Value, row: Value, whole: Value | None = None) -> None:
        """How many channels an entry has, and in the lowest bit whether its pixels are ``apart`` from each other.

        They are in a tile that lies in one row, unless some of its positions are on padding (not ``whole``).
        """
        k, word = self.k, channels
        if self.apart is not None:
            even = k.load(k.word_at(self.outs, EVEN), "i64")
            if whole is not None:
                even = even & k.convert(whole, "zext", "i64")
            word = channels * 2 + even
        k.store(word, k.word_at(row, LENGTH))

    def length(self, row: Value) -> tuple[Value, Value | None]:
        """How many channels an entry has; are its pixels ``apart`` from each other, where that may be."""
        word = self.k.load(self.k.word_at(row, LENGTH), "i64")
        return (word, None) if self.apart is None else (word >> 1, (word & 1).ne(0))

    def each_tap(
        self,
        phase: dict[str, Value],
        table: Value,
        sizes: list[Value],
        present: Value,
        origins: list[Value],
        channels: Value,
        zeros: Value,
        active: Var,
    ) -> None:
        """Every tap by itself, tested against the picture's border."""
        k = self.k
        bases = k.load_vector(self.bases, GROUP, type_="ptr", align=64)
        nothing = k.broadcast(zeros, GROUP)
        with k.loop(0, phase["taps"], carry=[active]) as number:
            tap = k.word_at(table, phase["taps_at"] + number * (2 + self.ndim))
            valid = present
            for axis, origin in enumerate(origins):
                shift = k.load(k.word_at(tap, 2 + axis), "i64")
                valid = valid & (origin + shift).below(sizes[axis])
            offset = k.broadcast(k.load(k.word_at(tap, 1), "i64"), GROUP)
            row = k.word_at(self.rows, active.value * GROUP)
            k.store_vector(k.select(valid, self.moved(bases, offset), nothing), row, align=64)
            k.store(k.load(tap, "i64"), k.word_at(row, NUMBER))
            self.put_length(channels, row, k.bitcast(valid, f"i{GROUP}").eq(k.bitcast(present, f"i{GROUP}")))
            active.value = active.value + k.convert(k.bitcast(valid, f"i{GROUP}").ne(0), "zext", "i64")


def phase_fields(ndim: int) -> list[str]:
    """Names of the words of a phase's record that `Gather.point` reads."""
    return [*PHASE_TAPS, *(f"{name}{axis}" for axis in range(ndim) for name in ("least", "most"))]


def tap_tables(
    phases: OutputPhases, offsets: Sequence[int], at: int, channels: int, follows: int | None
) -> tuple[dict[str, Sequence[int]], list[int]]:
    """Taps and runs of all phases for a table that they follow at word ``at``.

    Args:
        phases: the taps.
        offsets: (taps,) distance of each tap's pixel from its position's base, in bytes.
        at: where in the table these words start.
        channels: channels of one tap.
        follows: distance between pixels whose channels follow one another, in bytes; None: never make runs.

    Returns:
        The fields of ``phase_fields`` (phases,), and the words.
    """
    numbers, starts, count, width = phases.numbers, phases.starts, len(phases.numbers), 2 + len(phases.shifts)
    taps = [0] * (count * width)
    taps[::width], taps[1::width] = numbers, offsets
    for axis, shifts in enumerate(phases.shifts):
        taps[2 + axis :: width] = shifts
    first, before = list(range(count)), list(starts)
    if follows is not None and count > 1:
        steps = map(sub, offsets[1:], offsets)
        joined = [False, *(on and step == follows for on, step in zip(phases.goes_on[1:], steps, strict=True))]
        first = [number for number, is_joined in enumerate(joined) if not is_joined]
        opened = list(accumulate((not is_joined for is_joined in joined), initial=0))
        before = [opened[start] for start in starts]
    runs = [0] * (3 * len(first))
    runs[::3], runs[1::3] = [numbers[tap] for tap in first], [offsets[tap] for tap in first]
    runs[2::3] = [(end - tap) * channels for tap, end in zip(first, [*first[1:], count], strict=True)]
    fields: dict[str, Sequence[int]] = {
        "taps_at": [at + start * width for start in starts[:-1]],
        "taps": phases.counts,
        "runs_at": [at + len(taps) + run * 3 for run in before[:-1]],
        "runs": [high - low for low, high in pairwise(before)],
    }
    for axis, (least, most) in enumerate(zip(phases.least, phases.most, strict=True)):
        fields[f"least{axis}"], fields[f"most{axis}"] = least, most
    return fields, [*taps, *runs]


def records_of(names: Sequence[str], fields: Mapping[str, Sequence[int]]) -> list[int]:
    """The records of all phases, one after another, from their fields by name."""
    return list(chain.from_iterable(zip(*(fields[name] for name in names), strict=True)))
