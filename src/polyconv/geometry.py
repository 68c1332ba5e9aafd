"""One axis of a sliding window: how sizes, spans, paddings and positions relate. Every such formula lives here.

Conventions (the frameworks disagree, so they are stated): dilation 1 is no dilation; the kernel is correlated, not
flipped; padding may differ before and after; a transposed convolution is the adjoint of the convolution with the same
window, so its padding *crops* the output.

Sources: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (arXiv 1603.07285) for the sizes;
the ONNX operator specification (SAME_UPPER) for ``same``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

PADDING_WORDS = ("valid", "same", "full", "causal")


@dataclass(frozen=True, slots=True)
class Axis:
    """A window that slides along one axis, with its padding as numbers.

    Args:
        kernel: number of taps.
        stride: distance between neighbouring windows, in input positions.
        dilation: distance between neighbouring taps, in input positions; 1 is dense.
        before: positions of padding before the input (a crop of the output for a transposed convolution).
        after: positions of padding after it.
        ceil: round the number of windows up, as pooling layers may.

    Example:
        >>> axis = Axis(kernel=3, stride=2, before=1, after=1)
        >>> axis.out_size(5), axis.transposed_size(3)
        (3, 5)
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False

    @property
    def span(self) -> int:
        """Input positions from the first tap to the last, both included; see `span_of`."""
        return span_of(self.kernel, self.dilation)

    def out_size(self, size: int) -> int:
        """Number of windows over ``size`` inputs (relationship 15 of Dumoulin and Visin); 0 where none fits."""
        room = size + self.before + self.after - span_of(self.kernel, self.dilation)
        if not self.ceil:
            return room // self.stride + 1 if room >= 0 else 0
        windows = max(0, -(-room // self.stride) + 1)  # a window may overhang by less than the stride
        if (windows - 1) * self.stride >= size + self.before:  # the last one would start in the padding after
            windows -= 1
        return windows

    def transposed_size(self, size: int, output_padding: int = 0) -> int:
        """Output size of the transposed convolution of ``size`` inputs (relationships 8 to 14); may be <= 0."""
        if size == 0:
            return 0
        return (size - 1) * self.stride + self.span - self.before - self.after + output_padding

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """Half-open range of input positions that the windows ``first`` to ``last - 1`` span, padding included.

        Positions below 0 or beyond the input's end are padding: the caller clips.
        """
        if last <= first:
            return (0, 0)
        return (first * self.stride - self.before, (last - 1) * self.stride - self.before + self.span)

    def sources(self, first: int, last: int) -> tuple[int, int]:
        """Half-open range of inputs that reach outputs ``first`` to ``last - 1`` of the transposed convolution.

        As ``reads``, not clipped; where no input reaches them the range is empty, and starts before them.

        Example:
            >>> Axis(kernel=4, stride=2, before=1, after=1).sources(6, 8)
            (2, 5)
        """
        low = min(-(-(first + self.before - self.span + 1) // self.stride), (first + self.before) // self.stride)
        return (low, max(low, (last - 1 + self.before) // self.stride + 1))

    def position(self, window: int, tap: int) -> int:
        """The input position that ``tap`` of ``window`` reads; negative or beyond the end where it is padding."""
        return window * self.stride - self.before + tap * self.dilation

    def windows_of(self, position: int) -> tuple[int, ...]:
        """The taps' windows that read ``position``: every pair (window, tap), as windows, taps ascending.

        The windows are not clipped to the output's size and may be negative.
        """
        return tuple(self.window_of(position, tap) for tap in self.taps_onto(position))

    def window_of(self, position: int, tap: int) -> int:
        """The window whose ``tap`` reads ``position``, where one does (``taps_onto`` says which do)."""
        return (position + self.before - tap * self.dilation) // self.stride

    def taps_onto(self, position: int) -> range:
        """The taps with which some window reads ``position``: every ``phase_period``-th, or none."""
        common, period = gcd(self.stride, self.dilation), self.phase_period()
        if (position + self.before) % common:
            return range(0)
        first = (position + self.before) // common * pow(self.dilation // common, -1, period) % period
        return range(first, self.kernel, period)

    def tap_windows(self, tap: int, size: int, windows: int) -> range:
        """The windows, of ``windows`` in all, for which ``tap`` reads one of ``size`` real inputs."""
        offset = tap * self.dilation - self.before
        first = max(0, -(offset // self.stride))
        last = min(windows, (size - 1 - offset) // self.stride + 1) if size else 0
        return range(first, max(first, last))

    def taps_on_data(self, size: int, windows: int | None = None) -> int:
        """Pairs (window, tap) that read a real input: the non-zeros of the axis's matrix.

        In closed form: the cost grows neither with ``size`` nor with the kernel.
        """
        count = self.out_size(size) if windows is None else windows
        if size == 0 or count == 0:
            return 0
        return self._pairs_below(self.before + size, count) - self._pairs_below(self.before, count)

    def _pairs_below(self, limit: int, windows: int) -> int:
        """Pairs (window, tap) with window * stride + tap * dilation < limit.

        A tap meets min(windows, ceil((limit - tap * dilation) / stride)) windows: all of them up to some tap, none
        from another on, and between the two a sum of floors.
        """
        every = (limit - 1 - (windows - 1) * self.stride) // self.dilation + 1  # taps below this meet all windows
        every = min(max(every, 0), self.kernel)
        end = min(max(-(-limit // self.dilation), every), self.kernel)  # taps from here on meet none
        rest = limit - (end - 1) * self.dilation + self.stride - 1  # counted from the last tap down, so as to ascend
        return every * windows + _floor_sum(end - every, self.stride, self.dilation, rest)

    def unread(self, size: int) -> int:
        """Inputs, of ``size``, that no window reads."""
        windows = self.out_size(size)
        if windows == 0:
            return size
        if self.dilation == 1 and self.stride <= self.kernel:  # no gaps: only the tail can be left over
            low, high = self.reads(0, windows)
            return max(0, low) + max(0, size - max(high, 0))
        seen = bytearray(size)
        for tap in range(self.kernel):
            hits = self.tap_windows(tap, size, windows)
            if hits:
                start, stop = self.position(hits[0], tap), self.position(hits[-1], tap) + 1
                seen[start : stop : self.stride] = b"\1" * len(hits)
        return size - sum(seen)

    def overlap(self) -> tuple[int, ...]:
        """How many taps fall on each residue of the output modulo the stride, for the transposed convolution.

        Unequal numbers are the uneven overlap that shows as a checkerboard (Odena, Dumoulin and Olah 2016).
        """
        counts = [0] * self.stride
        for tap in range(self.kernel):
            counts[(tap * self.dilation) % self.stride] += 1
        return tuple(counts)

    def stuffed(self, size: int, out: int) -> tuple[int, Axis]:
        """The transposed convolution as a window that slides over its input with zeros put in between.

        Returns the size of that input, with stride - 1 zeros between neighbours, and the window (of stride 1, its
        kernel flipped) that gives ``out`` outputs (relationships 12 to 14). Its padding is negative where a crop
        removes more than the kernel reaches.
        """
        stretched = Axis(1, self.stride).transposed_size(size)
        before = self.span - 1 - self.before
        return stretched, Axis(self.kernel, 1, self.dilation, before, out - 1 + self.span - stretched - before)

    def overlap_range(self) -> tuple[int, int]:
        """The fewest and the most taps on one residue of the stride, without listing them (see ``overlap``)."""
        period = self.phase_period()
        fewest = self.kernel // period if period == self.stride else 0
        return (fewest, -(-self.kernel // period))

    def residues_met(self) -> int:
        """Residues of the stride, of ``stride`` in all, on which a tap falls: the others are never read."""
        return min(self.kernel, self.phase_period())

    def phase_period(self) -> int:
        """Distance in taps after which a transposed convolution's taps meet the same output phase again."""
        return self.stride // gcd(self.stride, self.dilation)


def _floor_sum(count: int, divisor: int, step: int, start: int) -> int:
    """Sum of (start + step * i) // divisor over i < count, for start >= 0; by Euclid's algorithm on the two slopes.

    Source: Graham, Knuth and Patashnik, "Concrete Mathematics", section 3.5 (floor and ceiling sums).
    """
    total = 0
    while count > 0:
        total += (step // divisor) * (count * (count - 1) // 2) + (start // divisor) * count
        step, start = step % divisor, start % divisor
        count, start = divmod(step * count + start, divisor)
        step, divisor = divisor, step
    return total


def span_of(kernel: int, dilation: int) -> int:
    """Input positions from the first tap to the last, both included: dilation * (kernel - 1) + 1."""
    return dilation * (kernel - 1) + 1


def padding_for(word: str, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What a padding word means for a convolution or pooling over ``size`` inputs, as (before, after).

    ``valid`` is none; ``same`` gives ceil(size / stride) outputs, the odd element after (TensorFlow, ONNX
    SAME_UPPER); ``full`` lets every window that touches the input count; ``causal`` pads before only.

    Example:
        >>> padding_for("same", size=224, kernel=3, stride=2, dilation=1)
        (0, 1)
    """
    span = span_of(kernel, dilation)
    if word == "valid":
        return (0, 0)
    if word == "full":
        return (span - 1, span - 1)
    if word == "causal":
        return (span - 1, 0)
    windows = -(-size // stride)
    total = max((windows - 1) * stride + span - size, 0) if windows else 0
    return (total // 2, total - total // 2)


def crop_for(word: str, kernel: int, stride: int, dilation: int) -> tuple[int, int, int]:
    """What a padding word means for a transposed convolution, as (crop before, crop after, output padding).

    ``same`` gives size * stride outputs cropped as Keras does; ``causal`` gives as many and crops after only, so
    that no output depends on a later input; ``full`` is the adjoint of the full convolution.

    Example:
        >>> crop_for("same", kernel=3, stride=2, dilation=1)
        (0, 1, 0)
    """
    span = Axis(kernel, stride, dilation).span
    if word == "valid":
        return (0, 0, 0)
    if word == "full":
        return (span - 1, span - 1, 0)
    total, missing = max(span - stride, 0), max(stride - span, 0)
    before = total // 2 if word == "same" else 0
    return (before, total - before, missing)


def product(sizes: Iterable[int]) -> int:
    """Product of the sizes; 1 for none."""
    result = 1
    for size in sizes:
        result *= size
    return result
