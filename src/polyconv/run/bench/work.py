"""How much there is to do in a case: its multiply-accumulates, and the bytes that must move."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from polyconv.notation import network
from polyconv.run.bench.case import Case
from polyconv.run.bench.ceilings import Ceilings

_FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What a case asks of the machine.

    Args:
        macs: multiply-accumulates of the defining sums, padding included.
        macs_on_data: those whose input is real data: what a direct method cannot avoid.
        moved: bytes of the input, the weights and the last output, each once.

    Example:
        >>> from polyconv.run.bench.case import case_of
        >>> work = work_of(case_of("conv 3x3 64 same nobias", (1, 64, 56, 56)))
        >>> work.macs, work.macs_on_data, work.moved
        (115605504, 112869376, 1753088)
    """

    macs: int
    macs_on_data: int
    moved: int

    def gflops(self, seconds: float) -> float:
        """10**9 floating-point operations a second, two for each multiply-accumulate of the definition."""
        return 2 * self.macs / seconds / 1e9

    def limit_s(self, machine: Ceilings) -> float:
        """The least time for a direct method: products on real data at the peak, or the bytes, whichever is longer."""
        return machine.limit_s(2 * self.macs_on_data, self.moved)


def work_of(case: Case) -> Work:
    """The work of a case, as ``Network.count`` counts it, in float32."""
    report = network(case.notation).count(case.shape)
    values = prod(case.shape) + prod(report.out_shape)
    return Work(report.macs, report.macs_on_data, values * _FLOAT + report.weight_bytes)
