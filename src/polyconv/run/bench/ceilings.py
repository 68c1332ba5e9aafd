"""What this machine can do at most: arithmetic (fused multiply-adds from registers) and bytes moved (a copy).

Measured with small kernels of our own, on as many threads as the layers get, and used for the share of the limit.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import exp, log
from typing import Any

import numpy as np

from polyconv.run.cpu.cores import threads_allowed
from polyconv.run.cpu.target import Target, host

_ACCUMULATORS = 12
_UNROLL = 4
COPY_SIZES = tuple(2**power for power in range(17, 29))  # bytes read plus bytes written, over all threads
_Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Measured limits of ``threads`` threads: FLOP/s in float32, and bytes a second by the size of what is moved.

    Example:
        >>> machine = Ceilings(2, 200e9, {1_000_000: 400e9, 100_000_000: 50e9})
        >>> round(machine.bytes_s(10_000_000) / 1e9)
        141
        >>> machine.limit_s(flops=2e9, moved=1_000)
        0.01
    """

    threads: int
    flops_s: float
    copies: Mapping[int, float]

    def bytes_s(self, moved: float) -> float:
        """Bytes a second when this many are read or written over and over: between two sizes by logarithms."""
        points = sorted(self.copies.items())
        if moved <= points[0][0]:
            return points[0][1]
        for (low, slow), (high, fast) in pairwise(points):
            if moved <= high:
                part = log(moved / low) / log(high / low)
                return exp((1 - part) * log(slow) + part * log(fast))
        return points[-1][1]

    def limit_s(self, flops: float, moved: float) -> float:
        """The least time for this work: its arithmetic at the peak, or its bytes moved once, whichever is longer."""
        return max(flops / self.flops_s, moved / self.bytes_s(moved))

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads them back."""
        return {"threads": self.threads, "flops_s": self.flops_s, "copies": sorted(self.copies.items())}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Ceilings:
        """The ceilings that ``to_json`` wrote."""
        return Ceilings(data["threads"], data["flops_s"], {int(size): rate for size, rate in data["copies"]})


def measure(seconds: float = 2.0) -> Ceilings:
    """Measure the machine, in about ``seconds``: the best of many short runs of each kernel."""
    target, threads = host(), threads_allowed()
    share = seconds / (len(COPY_SIZES) + 2)
    copies = {size: _copy_rate(target, threads, size, share) for size in COPY_SIZES}
    return Ceilings(threads, max(flops_rates(2 * share)), copies)


def flops_rates(seconds: float, turns: int = 100_000) -> list[float]:
    """FLOP/s of many short runs of the multiply-add loop on all threads, one after another for this long.

    A processor's clock moves by tenths within seconds: what ran next to this is compared with this.
    """
    target, threads = host(), threads_allowed()
    kernel = _load(fma_ir(target), "fma", target, ctypes.c_void_p, ctypes.c_int64)
    lanes = target.lanes("float32")
    sinks = [np.zeros(lanes, np.float32) for _ in range(threads)]
    spans = _spans([partial(kernel, sink.ctypes.data, turns) for sink in sinks], seconds)
    return [threads * turns * _ACCUMULATORS * lanes * 2 / span for span in spans]


def _copy_rate(target: Target, threads: int, size: int, seconds: float) -> float:
    """The better of a vector loop and the C library's memmove (which bypasses the cache for large blocks)."""
    kernel = _load(copy_ir(target), "copy", target, *(ctypes.c_void_p,) * 2, *(ctypes.c_int64,) * 2)
    block = _UNROLL * target.vector_bytes
    part = size // (2 * threads) // block * block
    pairs = [(np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(threads)]
    repeats = max(1, 2**24 // size)
    ends = [(source.ctypes.data, target_.ctypes.data) for source, target_ in pairs]
    loops = [partial(kernel, b, a, part // block, repeats) for a, b in ends]

    def moves(a: int, b: int) -> None:
        for _ in range(repeats):
            ctypes.memmove(b, a, part)

    best = min(_spans(loops, seconds / 2))
    if part >= 2**20:  # below, the price of the call would be measured
        best = min(best, *_spans([partial(moves, a, b) for a, b in ends], seconds / 2))
    return 2 * part * threads * repeats / best


def _spans(works: Sequence[Callable[[], None]], seconds: float) -> list[float]:
    """Run the pieces of work at the same time, again and again; the times from first start to last end."""
    found, end = [], time.perf_counter() + seconds
    barrier = threading.Barrier(len(works))
    spans: list[tuple[float, float]] = [(0.0, 0.0)] * len(works)

    def one(index: int) -> None:
        barrier.wait()
        start = time.perf_counter()
        works[index]()
        spans[index] = (start, time.perf_counter())

    while True:
        workers = [threading.Thread(target=one, args=(index,)) for index in range(1, len(works))]
        for worker in workers:
            worker.start()
        one(0)
        for worker in workers:
            worker.join()
        found.append(max(stop for _, stop in spans) - min(start for start, _ in spans))
        if time.perf_counter() >= end:
            return found


def _load(ir: str, symbol: str, target: Target, *arguments: Any) -> _Kernel:
    from polyconv.run.cpu import machine

    function = machine.load(ir, symbol, target, f"the {symbol} kernel of the benchmark")
    return ctypes.CFUNCTYPE(None, *arguments)(function.address)


def fma_ir(target: Target) -> str:
    """LLVM IR of independent fused multiply-adds held in registers: ``fma(sink, turns)``."""
    lanes = target.lanes("float32")
    vector = f"<{lanes} x float>"
    each = range(_ACCUMULATORS)
    splat = ", ".join(["float 0x3FEFFFFFE0000000"] * lanes)  # just below 1: no overflow, no denormals
    phis = "\n".join(f"  %a{i} = phi {vector} [ zeroinitializer, %entry ], [ %b{i}, %loop ]" for i in each)
    steps = "\n".join(
        f"  %b{i} = call {vector} @llvm.fma.v{lanes}f32({vector} %a{i}, {vector} %m, {vector} %m)" for i in each
    )
    sums = "\n".join(
        f"  %s{i} = fadd {vector} {'%b0' if i == 1 else f'%s{i - 1}'}, %b{i}" for i in range(1, _ACCUMULATORS)
    )
    return f"""declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})
define void @fma(ptr %sink, i64 %turns) {{
entry:
  %m = fadd {vector} zeroinitializer, <{splat}>
  br label %loop
loop:
  %t = phi i64 [ 0, %entry ], [ %u, %loop ]
{phis}
{steps}
  %u = add i64 %t, 1
  %more = icmp slt i64 %u, %turns
  br i1 %more, label %loop, label %done
done:
{sums}
  store {vector} %s{_ACCUMULATORS - 1}, ptr %sink, align 4
  ret void
}}
"""


def copy_ir(target: Target) -> str:
    """LLVM IR of a vector copy, repeated: ``copy(to, from, blocks, repeats)``."""
    lanes = target.lanes("float32")
    vector = f"<{lanes} x float>"
    loads, stores = [], []
    for i in range(_UNROLL):
        loads += [
            f"  %f{i} = getelementptr {vector}, ptr %from, i64 %v{i}",
            f"  %x{i} = load {vector}, ptr %f{i}, align 4",
        ]
        stores += [
            f"  %t{i} = getelementptr {vector}, ptr %to, i64 %v{i}",
            f"  store {vector} %x{i}, ptr %t{i}, align 4",
        ]
    index = "\n".join(f"  %v{i} = add i64 %base, {i}" for i in range(_UNROLL))
    return f"""define void @copy(ptr %to, ptr %from, i64 %blocks, i64 %repeats) {{
entry:
  br label %again
again:
  %r = phi i64 [ 0, %entry ], [ %q, %next ]
  br label %loop
loop:
  %b = phi i64 [ 0, %again ], [ %c, %loop ]
  %base = mul i64 %b, {_UNROLL}
{index}
{chr(10).join(loads + stores)}
  %c = add i64 %b, 1
  %more = icmp slt i64 %c, %blocks
  br i1 %more, label %loop, label %next
next:
  %q = add i64 %r, 1
  %last = icmp slt i64 %q, %repeats
  br i1 %last, label %again, label %done
done:
  ret void
}}
"""
