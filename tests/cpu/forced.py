"""Runs one algorithm, forced, against the loop oracle: exact on integers, every output written, nothing else touched.

``check`` runs every tile of the algorithm, on one thread and on several, in one piece and item by item, and compares
bits. x, packed weights and out each end right before a page that may not be touched, and start right after another.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import oracle
from polyconv.run.cpu import algorithms, machine, pool
from polyconv.run.cpu.algorithms.record import Algorithm, Sizes
from polyconv.run.cpu.target import Target, avx2, host
from polyconv.run.problem import Problem

TARGETS = {"host": host, "avx2": avx2}
POISON = -12345.678
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Layer:
    """A case; ``per_axis`` values are tuples as long as ``kernel``."""

    op: str
    channels: tuple[int, int]  # in, out
    kernel: tuple[int, ...]
    in_size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1
    batch: int = 2
    bias: bool = True
    activation: str | None = None
    dtype: str = "float32"
    layout: str = "channels_last"
    strided: bool = field(default=False)  # an input that is every second pixel, backwards

    def ones(self, value: tuple, filling: object = 1) -> tuple:
        return value or (filling,) * len(self.kernel)

    def problem(self) -> Problem:
        return Problem(
            self.op, *self.channels, self.kernel, self.ones(self.stride), self.ones(self.dilation), self.groups,
            self.bias, self.activation, self.dtype, self.layout,
        )  # fmt: skip

    def __str__(self) -> str:
        parts = [self.op, f"{self.channels[0]}to{self.channels[1]}", "x".join(map(str, self.kernel))]
        parts += ["on", "x".join(map(str, self.in_size))]
        for name in ("stride", "dilation", "padding", "output_padding"):
            if getattr(self, name):
                parts.append(f"{name}{getattr(self, name)}".replace(" ", ""))
        parts += [f"g{self.groups}"] * (self.groups > 1) + [
            self.dtype,
            self.layout,
            *([self.activation] * bool(self.activation)),
        ]
        return "-".join(parts)


def algorithm(name: str) -> Algorithm:
    return algorithms.algorithm(name)


def guarded(like: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy whose first or last byte borders on a page that may not be touched (both, within the alignment)."""
    page = mmap.PAGESIZE
    room = -(-max(like.nbytes, 1) // page) * page
    block = mmap.mmap(-1, room + 2 * page)
    whole = np.frombuffer(block, np.uint8)
    base = whole.ctypes.data
    for place in (base, base + page + room):
        if _libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = page + (room - like.nbytes if at_end else 0)
    copy = whole[start : start + like.nbytes].view(like.dtype).reshape(like.shape)
    copy[...] = like
    return copy


def data(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(11)
    problem = layer.problem()
    channels_last = layer.layout == "channels_last"
    size = (*layer.in_size, layer.channels[0]) if channels_last else (layer.channels[0], *layer.in_size)
    x = rng.integers(-3, 5, (layer.batch, *size)).astype(layer.dtype)
    weight = rng.integers(-4, 4, problem.weight_shape() or (0,)).astype(layer.dtype)
    return x, weight, rng.integers(-9, 9, layer.channels[1]).astype(layer.dtype) if layer.bias else None


def expected(layer: Layer, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    options = {
        "stride": layer.ones(layer.stride), "dilation": layer.ones(layer.dilation),
        "padding": layer.ones(layer.padding, (0, 0)), "groups": layer.groups,
        "activation": layer.activation, "layout": layer.layout,
    }  # fmt: skip
    if layer.op == "conv":
        return oracle.conv(x, weight, bias, **options).y
    return oracle.conv_transpose(x, weight, bias, output_padding=layer.ones(layer.output_padding, 0), **options).y


def run(
    layer: Layer,
    found: Algorithm,
    tile: object,
    target: Target,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out_shape: Sequence[int],
    threads: int = 1,
    piecewise: bool = False,
    at_end: bool = True,
) -> np.ndarray:
    """One run between guard pages; ``piecewise`` runs every item in a call of its own, last one first."""
    problem = layer.problem()
    spatial = slice(1, -1) if layer.layout == "channels_last" else slice(2, None)
    x = guarded(x, at_end)
    if layer.strided:
        wide = np.full((x.shape[0], *(2 * n for n in x.shape[1:-1]), x.shape[-1]), POISON, x.dtype)
        view = wide[(slice(None), *(slice(None, None, -2),) * len(layer.kernel), slice(None))]
        view[...] = x
        x = view
    sizes = Sizes(
        x.shape[0], x.shape[spatial], layer.ones(layer.padding, (0, 0)), tuple(out_shape)[spatial],
        tuple(stride // x.itemsize for stride in x.strides),
    )  # fmt: skip
    assert found.reads(problem, sizes)
    before = x.copy()
    plan = found.schedule(problem, tile, target, sizes, threads)
    packed = found.pack(problem, tile, target, weight, bias)
    guarded_packed = guarded(packed, at_end=False)  # its start is aligned, as the record promises
    out = guarded(np.full(out_shape, POISON, layer.dtype), at_end)
    text = found.emit(problem, tile, target)
    words = [0, guarded_packed, 0, 0, *plan.words[4:]]
    workspace = np.empty(plan.workspace_bytes + 128, np.uint8)
    words[3] = workspace.ctypes.data + -workspace.ctypes.data % 128
    words[0], words[2] = x.ctypes.data, out.ctypes.data
    for phase in plan.phases:
        address = machine.load(text, phase.symbol, target, str(layer)).address
        if piecewise:
            function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)
            raw = [word.ctypes.data if isinstance(word, np.ndarray) else word for word in words]
            block = (ctypes.c_int64 * len(raw))(*raw)
            scratch = np.full(plan.scratch_bytes + 128, 0xAB, np.uint8)
            at = scratch.ctypes.data + -scratch.ctypes.data % 128
            for item in reversed(range(phase.items)):
                function(ctypes.addressof(block), item, item + 1, at)
        else:
            pool.Call([pool.Phase(address, phase.items, 1, threads)], words, scratch_bytes=plan.scratch_bytes)()
    assert x.tobytes() == before.tobytes(), "the input was written"
    return out.copy()


def check(layer: Layer, name: str, target: Target, exact: bool = True) -> None:
    """Every tile of an algorithm against the oracle; see the module's text."""
    found = algorithm(name)
    problem = layer.problem()
    assert found.fits(problem, target) is None, found.fits(problem, target)
    x, weight, bias = data(layer)
    wanted = expected(layer, x, weight, bias)
    for tile in found.variants(problem, target):
        first = run(layer, found, tile, target, x, weight, bias, wanted.shape)
        if exact:
            np.testing.assert_array_equal(first, wanted, f"{name} {tile}")
        for options in ({"threads": 3}, {"piecewise": True, "threads": 2}, {"at_end": False}):
            again = run(layer, found, tile, target, x, weight, bias, wanted.shape, **options)
            assert first.tobytes() == again.tobytes(), (tile, options)
