"""Which terms of a row's sums meet data along the outer axes, for algorithms that run through all terms in one loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.problem import Problem


def taps_on_data(
    k: Kernel, origin: Value, size: Value, dilation: int, taps: int, last: Value | None = None
) -> tuple[Value, Value]:
    """The first tap along one axis that is on data, and how many are; tap 0 reads the input at ``origin``.

    With ``last``: the taps that are on data for any origin up to that one.
    """
    low = (k.maximum(k.integer(0) - (origin if last is None else last), 0) + (dilation - 1)) // dilation
    high = k.minimum((k.maximum(size - origin, 0) + (dilation - 1)) // dilation, taps)
    return low, k.maximum(high - low, 0)


class Valid(NamedTuple):
    """Terms in runs of equal length, whose starts lie equally far apart."""

    first: Value
    runs: Value
    apart: Value
    length: Value


def valid_terms(k: Kernel, problem: Problem, row_terms: int, valid: Sequence[tuple[Value, Value]]) -> Valid:
    """The terms of those taps that `taps_on_data` found for each axis but the last.

    ``row_terms`` are those of one row of the kernel. One run, but in 3-D, where some rows are left out, one a plane.
    """
    one, none = k.integer(1), k.integer(0)
    if not valid:
        return Valid(none, one, none, k.integer(row_terms))
    first, length = valid[-1][0] * row_terms, valid[-1][1] * row_terms
    if len(valid) == 1:
        return Valid(first, one, none, length)
    plane = k.integer(row_terms * problem.kernel_size[-2])
    whole = length.eq(plane)
    low, count = valid[0]
    return Valid(low * plane + first, k.select(whole, one, count), plane, k.select(whole, count * plane, length))
