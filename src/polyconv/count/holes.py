"""Which positions an output really reads, not only from where to where: the holes that dilations leave.

Looked at within a level of resolution: from one change of resolution (stride, pooling, transposed, upsample) to the
next. The positions read along an axis are the bits of a number; a convolution ORs it with itself, shifted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyconv.geometry import Axis
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Pool, Sizes, Upsample
from polyconv.network import INPUT, Join, Network, Node

LARGEST_SPAN = 2**16  # levels that see more than this along an axis are left out
LARGEST_KERNEL = 2**10


@dataclass(frozen=True)
class Gridding:
    """A level whose dilated layers leave holes along an axis.

    Args:
        last: the index of its last dilated node.
        axis: the axis.
        read: positions that an output reads.
        span: positions from the first to the last of them.
        dilations: of its dilated layers, in order, one number per axis.
    """

    last: int
    axis: int
    read: int
    span: int
    dilations: tuple[Sizes, ...]


@dataclass(frozen=True)
class _Read:
    """What a node's outputs read of their level's first node: along each axis, bits from position ``low`` on."""

    level: int
    lows: Sizes
    bits: Sizes
    dilated: tuple[int, ...] = ()  # the dilated nodes on the way


def windows(layer: Conv | Pool | ConvTranspose, ndim: int) -> tuple[Axis, ...]:
    """A layer's windows, whatever its padding."""
    return tuple(map(Axis, layer.kernel_for(ndim), layer.strides_for(ndim), layer.dilations_for(ndim)))


def gridded(network: Network, ndim: int) -> Iterator[Gridding]:
    """Levels in which two or more dilated layers leave holes, the worst axis of each."""
    start = _Read(INPUT, (0,) * ndim, (1,) * ndim)
    found: dict[int, _Read | None] = {INPUT: start}
    ends: dict[tuple[int, ...], _Read] = {}
    for index, node in enumerate(network.nodes):
        found[index] = _after(node, index, [found[number] for number in node.inputs], ndim)
        for number in node.inputs:
            _note_end(ends, found[number], found[index])
    _note_end(ends, found[len(network.nodes) - 1], None)
    for read in ends.values():
        yield from _holes(network, read, ndim)


def _note_end(ends: dict[tuple[int, ...], _Read], read: _Read | None, after: _Read | None) -> None:
    """Keep what a level has read where the next node is not of that level."""
    if read is not None and len(read.dilated) > 1 and (after is None or after.level != read.level):
        ends[read.dilated] = read


def _after(node: Node, index: int, inputs: list[_Read | None], ndim: int) -> _Read | None:
    """What a node has read; None where that was too much to follow."""
    layer, fresh = node.layer, _Read(index, (0,) * ndim, (1,) * ndim)
    if isinstance(layer, Join):
        return _together(inputs, fresh)
    before = inputs[0]
    if isinstance(layer, Pool | ConvTranspose | GlobalPool | Upsample):
        return fresh
    if not isinstance(layer, Conv):
        return before
    axes = windows(layer, ndim)
    if any(axis.stride > 1 for axis in axes):
        return fresh
    if before is None or any(axis.kernel > LARGEST_KERNEL for axis in axes):
        return None
    if any(bits.bit_length() + axis.span > LARGEST_SPAN for bits, axis in zip(before.bits, axes, strict=True)):
        return None
    pads = layer.axes((2**30,) * ndim)
    dilated = any(axis.dilation > 1 and axis.kernel > 1 for axis in axes)
    return _Read(
        before.level,
        tuple(low - axis.before for low, axis in zip(before.lows, pads, strict=True)),
        tuple(_spread(bits, axis) for bits, axis in zip(before.bits, axes, strict=True)),
        (*before.dilated, index) if dilated else before.dilated,
    )


def _spread(bits: int, axis: Axis) -> int:
    result = 0
    for tap in range(axis.kernel):
        result |= bits << axis.position(0, tap)
    return result


def _together(inputs: list[_Read | None], fresh: _Read) -> _Read | None:
    """The union of branches of one level; a new level where they are of several."""
    reads = [read for read in inputs if read is not None]
    if len(reads) < len(inputs):
        return None
    if len({read.level for read in reads}) > 1:
        return fresh
    lows = tuple(min(places) for places in zip(*(read.lows for read in reads), strict=True))
    bits = [0] * len(lows)
    for read in reads:
        for axis, low in enumerate(lows):
            bits[axis] |= read.bits[axis] << (read.lows[axis] - low)
    dilated = sorted({index for read in reads for index in read.dilated})
    return _Read(reads[0].level, lows, tuple(bits), tuple(dilated))


def _holes(network: Network, read: _Read, ndim: int) -> Iterator[Gridding]:
    missing = [bits.bit_length() - bits.bit_count() for bits in read.bits]
    worst = max(range(ndim), key=missing.__getitem__)
    if missing[worst]:
        layers = [network.nodes[index].layer for index in read.dilated]
        dilations = tuple(layer.dilations_for(ndim) for layer in layers if isinstance(layer, Conv))
        bits = read.bits[worst]
        yield Gridding(read.dilated[-1], worst, bits.bit_count(), bits.bit_length(), dilations)
