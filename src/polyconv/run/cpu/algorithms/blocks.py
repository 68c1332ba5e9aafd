"""Output channels in blocks of vectors, and weights packed to match.

A group's output channels are cut into blocks of ``vectors`` full vectors; the last block has the vectors that remain,
its last vector narrowed to the smallest power of two that holds the rest. Packed: bias block by block, then for each
block the weights as [tap][input channel][lane], lanes beyond the last channel zero, then one row of zeros as long as a
pixel, for taps on padding to point at.
"""

from __future__ import annotations

import numpy as np

from polyconv.run.cpu.algorithms.record import aligned, ceil_div
from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.problem import Array, Problem


class Blocks:
    """How one group's output channels are cut: ``full`` blocks of ``main`` vectors, then one of ``tail`` (or none)."""

    def __init__(self, channels: int, main: tuple[int, ...], full: int, tail: tuple[int, ...]) -> None:
        self.channels, self.main, self.full, self.tail = channels, main, full, tail

    @property
    def count(self) -> int:
        """Blocks in all."""
        return self.full + bool(self.tail)

    @property
    def lanes(self) -> int:
        """Lanes in all: the channels, rounded up."""
        return self.full * sum(self.main) + sum(self.tail)

    @property
    def vectors(self) -> int:
        """Vectors in all, narrow ones counted as one."""
        return self.full * len(self.main) + len(self.tail)

    @property
    def last_count(self) -> int:
        """Channels in the very last vector."""
        last = (self.tail or self.main)[-1]
        return last - (self.lanes - self.channels)


def cut(channels: int, vectors: int, lanes: int, narrowest: int) -> Blocks:
    """Cut ``channels`` into blocks of ``vectors`` vectors of ``lanes``; the last has at least ``narrowest`` lanes."""
    main = (lanes,) * vectors
    full, rest = divmod(channels, lanes * vectors)
    tail = [lanes] * (rest // lanes)
    if rest % lanes:
        tail.append(max(narrowest, 1 << (rest % lanes - 1).bit_length()))
    return Blocks(channels, main, full, tuple(tail))


FETCH_CYCLES = 350  # how long before its use a line of weights is asked for: longer than the L3 cache takes


def fetch_stream(k: Kernel, spot: Value, lanes: tuple[int, ...], rows: int, all_bytes: int) -> None:
    """Inside the loop of a product: prefetch what its packed weights hold some turns ahead.

    Each turn reads ``sum(lanes)`` weights at ``spot`` and multiplies them with ``rows`` values. Left to the processor's
    own guesses, weights that do not stay in the L1 cache cost 4 to 15 % of the time (two multiply-adds a cycle).

    Args:
        k: the kernel that is written.
        spot: where this turn's weights lie.
        lanes: lanes of each vector of weights.
        rows: values that each weight is multiplied with.
        all_bytes: of all weights that are read before these are read again.
    """
    if k.target.slow_vectors or all_bytes <= k.target.l1_bytes:
        return
    turns = ceil_div(2 * FETCH_CYCLES, rows * len(lanes))
    for line in range(0, sum(lanes) * k.bytes, CACHE_LINE):
        k.prefetch(k.byte_at(spot, turns * sum(lanes) * k.bytes + line))


CACHE_LINE = 64  # bytes


def taps_first(problem: Problem, weight: Array) -> Array:
    """Weights as [group][tap][input channel][output channel], whatever the operator."""
    groups, taps = problem.groups, int(np.prod(problem.kernel_size))
    if problem.op == "conv_transpose":
        shape = (groups, problem.in_channels // groups, problem.out_channels // groups, taps)
        return weight.reshape(shape).transpose(0, 3, 1, 2)
    shape = (groups, problem.out_channels // groups, problem.in_channels // groups, taps)
    return weight.reshape(shape).transpose(0, 3, 2, 1)


def pack_blocks(problem: Problem, blocks: Blocks, weight: Array, bias: Array | None) -> Array:
    """Bias, weights and the row of zeros in one aligned array (see the module's text)."""
    source = taps_first(problem, weight)
    groups, taps, inputs, _ = source.shape
    biases = groups * blocks.lanes
    size = biases + groups * taps * inputs * blocks.lanes
    packed = aligned(size + problem.in_channels, problem.numpy_dtype())
    packed[:biases] = 0
    packed[size:] = 0
    if bias is not None:
        packed[:biases].reshape(groups, blocks.lanes)[:, : blocks.channels] = bias.reshape(groups, blocks.channels)
    per_group = packed[biases:size].reshape(groups, -1)
    width = sum(blocks.main)
    whole = blocks.full * width
    main = per_group[:, : taps * inputs * whole].reshape(groups, blocks.full, taps, inputs, width)
    main[:] = source[..., :whole].reshape(groups, taps, inputs, blocks.full, width).transpose(0, 3, 1, 2, 4)
    if blocks.tail:
        tail = per_group[:, taps * inputs * whole :].reshape(groups, taps, inputs, sum(blocks.tail))
        tail[..., : blocks.channels - whole] = source[..., whole:]
        tail[..., blocks.channels - whole :] = 0
    return packed
