"""Along one axis: which taps Winograd's algorithm transforms together, what a tile reads for them, and what it writes.

A stride of s leaves, of a convolution, s sums of its own: output o reads inputs ``o * s + tap``, and the taps that have
one remainder by s read only the inputs that have it, one after the other. So each *part*, the taps i, i + s, i + 2s and
so on, is a convolution of stride 1 with about r / s taps, and its products add to those of the other parts. A
transposed layer is s convolutions of stride 1 side by side: outputs of one *phase* add up the taps of one remainder.

Parts and phases may have a tap less than the others. A tile counts with the most; what the missing tap, a zero behind
the others, makes of the last point (the one at infinity, which is the last tap alone) is zero: not multiplied.
"""

from __future__ import annotations

from typing import NamedTuple

from polyconv.run.cpu.algorithms.cook_toom import ShortConvolution, short_convolution
from polyconv.run.cpu.algorithms.record import ceil_div
from polyconv.run.problem import Problem

SHORT = {2: (4, 3, 2), 3: (4, 3, 2), 4: (3, 2), 5: (2,), 7: (4,)}  # taps -> outputs of a tile, the usual one first


class Along(NamedTuple):
    """An axis of a problem, for tiles of some outputs along it.

    ``short`` is the convolution of each part, None where taps are summed one by one. ``taps`` are [phase][part][tap]:
    which taps of the kernel, in the order of the inputs that they read. Position q of a phase is output
    ``q * out_step + first``; point p of a tile that starts there reads, for part i, input
    ``q * in_step + p * point_step + i * part_step + shift``, where ``first`` and ``shift`` follow from the padding
    (`place_of_phase`). A tile's outputs are ``apart`` positions from each other.
    """

    short: ShortConvolution | None
    taps: tuple[tuple[tuple[int, ...], ...], ...]
    in_step: int
    point_step: int
    part_step: int
    out_step: int
    apart: int

    @property
    def phases(self) -> int:
        """Convolutions side by side."""
        return len(self.taps)

    @property
    def parts(self) -> int:
        """Sums that add up."""
        return len(self.taps[0])

    @property
    def length(self) -> int:
        """Taps of the longest part."""
        return self.short.taps if self.short else 1

    def reads(self, phase: int, part: int, point: int) -> bool:
        """Is a part's product at a point anything but zero."""
        found = len(self.taps[phase][part])
        return found == self.length or (found > 0 and self.short is not None and point < self.short.points - 1)


def effective_taps(problem: Problem, axis: int) -> int:
    """Taps of the longest part or phase along an axis; 1 where they are not neighbours."""
    size, stride = problem.kernel_size[axis], problem.stride[axis]
    return ceil_div(size, stride) if stride == 1 or problem.dilation[axis] == 1 else 1


def along(problem: Problem, axis: int, outputs: int) -> Along:
    """How tiles of so many outputs lie along an axis; 0: its taps are summed.

    Example:
        >>> from polyconv.run.problem import Problem
        >>> layer = Problem("conv", 16, 16, (3,), (2,), (1,), 1, True, None, "float32", "channels_last")
        >>> found = along(layer, 0, 4)
        >>> found.taps, found.short.points, [found.reads(0, 1, point) for point in range(5)]
        ((((0, 2), (1,)),), 5, [True, True, True, True, False])
    """
    size, stride, dilation = problem.kernel_size[axis], problem.stride[axis], problem.dilation[axis]
    short = short_convolution(outputs, effective_taps(problem, axis)) if outputs else None
    if problem.op == "conv_transpose":
        phases = [tuple(range(first, size, stride))[::-1] for first in range(stride)]
        most = len(phases[0])
        parts = [(taps,) if short else (*((tap,) for tap in taps), *((),) * (most - len(taps))) for taps in phases]
        return Along(short, tuple(parts), 1, 1, 1, stride, 1)
    if short is None:
        return Along(None, (tuple((tap,) for tap in range(size)),), stride, 1, dilation, 1, 1)
    found = tuple(tuple(range(first, size, stride)) for first in range(stride))
    return Along(short, (found,), stride, stride * dilation, 1, 1, dilation)


def place_of_phase(problem: Problem, axis: int, phase: int, before: int) -> tuple[int, int]:
    """The first output of a phase, and where the input lies that its position 0 reads first: (first, shift).

    Args:
        problem: what is computed.
        axis: along which.
        phase: the remainder of its taps by the stride; 0 for a convolution.
        before: padding, or for a transposed layer crop, before the first element.

    Example:
        >>> from polyconv.run.problem import Problem
        >>> layer = Problem("conv_transpose", 16, 16, (4,), (2,), (1,), 1, True, None, "float32", "channels_last")
        >>> [place_of_phase(layer, 0, phase, 1) for phase in (0, 1)]  # output 1 reads inputs 0 and 1, output 0 -1 and 0
        [(1, 0), (0, -1)]
    """
    if problem.op != "conv_transpose":
        return 0, -before
    size, stride = problem.kernel_size[axis], problem.stride[axis]
    first = (phase - before) % stride
    last_tap = phase + (size - 1 - phase) // stride * stride
    return first, (first + before - last_tap) // stride
