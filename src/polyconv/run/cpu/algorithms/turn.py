"""Turning channels-first data around: between planes of channels and pixels whose channels lie side by side.

Only ever for a box of a block of channels, from or to a thread's scratch: a few shuffles for each vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from polyconv.run.cpu.emit import Kernel, Value, lanes_of

Writer = Callable[[Value, Value, Value, Value], None]


class Turn(NamedTuple):
    """Between planes of channels and pixels of ``lanes`` channels, for a box of positions."""

    k: Kernel
    box: Sequence[tuple[Value, Value]]
    lanes: int
    channels: int

    def pitches(self) -> list[Value]:
        """Strides of the turned box, in elements."""
        k = self.k
        found = [k.integer(self.lanes)]
        for low, high in reversed(self.box[1:]):
            found.insert(0, found[0] * (high - low))
        return found

    def offset(self, strides: Sequence[Value]) -> Value:
        """Of the box's first position."""
        total = self.k.integer(0)
        for (low, _), stride in zip(self.box, strides, strict=True):
            total = total + low * stride
        return total

    def read(self, plane: Value, turned: Value, channel: Value, strides: list[Value], sizes: list[Value]) -> None:
        """Planes to pixels."""
        self.over_runs(plane, turned, channel, strides, sizes, self.block_in)

    def gather(self, source: Value, turned: Value, strides: list[Value], pitch: int) -> None:
        """Pixels of many channels to pixels of ``lanes``, next to each other."""
        k, ndim = self.k, len(self.box)
        lengths = [high - low for low, high in self.box]
        at = k.at(source, self.offset(strides))
        planes, rows = lengths[0] if ndim > 2 else k.integer(1), lengths[-2] if ndim > 1 else k.integer(1)
        with k.loop(0, planes) as deep, k.loop(0, rows) as row:
            line = at if ndim < 2 else k.at(at, row * strides[-2])
            line = line if ndim < 3 else k.at(line, deep * strides[0])
            sink = k.at(turned, (deep * rows + row) * lengths[-1] * self.lanes)
            with k.loop(0, lengths[-1]) as pixel:
                for first in range(0, self.channels, k.lanes):
                    count = min(k.lanes, self.channels - first)
                    value = k.load_vector(k.at(line, pixel * pitch + first), count=count)
                    k.store_vector(value, k.at(sink, pixel * self.lanes + first))

    def write(self, plane: Value, turned: Value, channel: Value, strides: list[Value], sizes: list[Value]) -> None:
        """Pixels to planes."""
        self.over_runs(plane, turned, channel, strides, sizes, self.block_out)

    def over_runs(
        self, plane: Value, turned: Value, channel: Value, strides: list[Value], sizes: list[Value], write: Writer
    ) -> None:
        """Loop over contiguous runs of positions: rows, or several rows where they are whole."""
        k, ndim = self.k, len(self.box)
        lengths = [high - low for low, high in self.box]
        runs, length = k.integer(1), lengths[-1]
        plane = k.at(plane, self.offset(strides))
        if ndim > 1:
            whole = lengths[-1].eq(sizes[-1]) & strides[-2].eq(sizes[-1])
            length = k.select(whole, lengths[-2] * lengths[-1], lengths[-1])
            runs = k.select(whole, k.integer(1), lengths[-2])
        planes = k.integer(1) if ndim < 3 else lengths[0]
        with k.loop(0, planes) as deep, k.loop(0, runs) as row:
            at = plane if ndim < 2 else k.at(plane, row * strides[-2])
            at = at if ndim < 3 else k.at(at, deep * strides[0])
            done = (deep * runs + row) * length
            with k.loop(0, length, k.lanes) as start:
                count = k.minimum(length - start, k.lanes)
                write(k.at(at, start), k.at(turned, (done + start) * self.lanes), channel, count)

    def block_in(self, plane: Value, turned: Value, channel: Value, count: Value) -> None:
        """Turn a vector of positions of each channel."""
        k, width = self.k, self.k.lanes
        mask = k.mask(count)
        for first in range(0, self.channels, width):
            vectors = [
                k.load_vector(k.at(plane, channel * (first + lane)), mask=mask)
                if first + lane < self.channels else k.zero()
                for lane in range(width)
            ]  # fmt: skip
            for position, vector in enumerate(k.transpose(vectors)):
                k.store_vector(vector, k.at(turned, position * self.lanes + first))

    def block_out(self, plane: Value, turned: Value, channel: Value, count: Value) -> None:
        """Turn back."""
        k, width = self.k, self.k.lanes
        mask = k.mask(count)
        for first in range(0, self.channels, width):
            vectors = [k.load_vector(k.at(turned, position * self.lanes + first)) for position in range(width)]
            for lane, vector in enumerate(k.transpose(vectors)[: self.channels - first]):
                k.store_vector(vector, k.at(plane, channel * (first + lane)), mask=mask)


def every(k: Kernel, pieces: Sequence[Value], start: int, stride: int) -> Value:
    """One vector of every stride-th element from ``start`` on, of as many vectors laid end to end."""
    lanes = lanes_of(pieces[0].type)
    order = [start + lane * stride for lane in range(lanes)]
    if len(pieces) == 1:
        return pieces[0]
    found = k.shuffle(pieces[0], pieces[1], [at if at < 2 * lanes else -1 for at in order])
    for number, piece in enumerate(pieces[2:], 2):
        first = number * lanes
        picks = [
            lanes + at - first if first <= at < first + lanes else lane if at < first else -1
            for lane, at in enumerate(order)
        ]
        found = k.shuffle(found, piece, picks)
    return found
