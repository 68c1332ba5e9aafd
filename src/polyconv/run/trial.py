"""A self-test of each kind of kernel: the first time one is compiled on a machine, it has to compute a small picture.

Wrong code may come from a fault here, in LLVM, or in a processor that is not what it says. So before code of a new kind
(algorithm, operation, dtype, layout, target) is kept or used, it runs with whole numbers as weights on a small picture,
and the result is compared with the NumPy reference in float64. The verdict lies beside the code cache. A kind that
fails is not used: the planner takes the next algorithm, in the end NumPy. What comes from the code cache was of a kind
that passed, so a first call from there pays nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from polyconv.run.cpu import cache, machine
from polyconv.run.cpu.algorithms.record import Algorithm
from polyconv.run.cpu.target import Target
from polyconv.run.numpy_engine import NumpyEngine
from polyconv.run.plan import CompiledLayer
from polyconv.run.problem import Array, Pads, Problem

FORMAT = 1
RIGHT, WRONG = b"right", b"wrong"
MOST_WEIGHTS = 1 << 20  # more take longer to pack than a narrower layer takes to compile
NARROW_WEIGHTS = 1 << 16  # of that layer
FEW_WEIGHTS = 1 << 15  # up to here pictures are wider than any tile
MOST_VALUES = 1 << 22  # of the picture or of its result: with more, strides are shortened
MOST_COMPARED = 24  # output channels, or groups
ERROR = 16.0  # rounding errors allowed, of a sum's largest terms one by one: Winograd's are the largest

_verdicts: dict[str, bytes] = {}
Link = Callable[[Sequence[str]], dict[str, machine.Function]]


def refuse_known(algorithm: Algorithm, problem: Problem, target: Target) -> None:
    """Refuse a kind of kernel that has failed on this machine; to be asked before one is compiled.

    Raises:
        machine.WrongCode: it has.
    """
    if _verdict(_key(algorithm, problem, target)) == WRONG:
        raise machine.WrongCode(algorithm.name, _message(algorithm, problem))


def check(algorithm: Algorithm, tile: Hashable, problem: Problem, target: Target, link: Link) -> None:
    """Try a kernel if its kind was never tried on this machine.

    Args:
        algorithm: what wrote the kernel.
        tile: in this variant.
        problem: for this layer.
        target: the machine.
        link: gives the kernel's functions by name.

    Raises:
        machine.WrongCode: it computes something else than the reference, now or before.
    """
    key = _key(algorithm, problem, target)
    verdict = _verdict(key)
    if verdict is None:
        verdict = RIGHT if _is_right(algorithm, tile, problem, target, link) else WRONG
        _verdicts[key] = verdict
        cache.write(key, verdict)
    if verdict == WRONG:
        raise machine.WrongCode(algorithm.name, _message(algorithm, problem))


def _message(algorithm: Algorithm, problem: Problem) -> str:
    return (
        f"{problem}: machine code of algorithm {algorithm.name} gives wrong results on this machine and is not used; "
        f"please report it. To try again empty {cache.folder()}."
    )


def _key(algorithm: Algorithm, problem: Problem, target: Target) -> str:
    kind = (algorithm.name, problem.op, problem.dtype, problem.layout)
    parts = (f"trial {FORMAT}", cache.source_digest(), cache.llvm_version(), str(target), *kind)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _verdict(key: str) -> bytes | None:
    """What is known of a kind, if anything."""
    known = _verdicts.get(key)
    if known is None:
        known = cache.read(key)
        if known not in (RIGHT, WRONG):
            return None
        _verdicts[key] = known
    return known


class _Tried(CompiledLayer):
    """A layer whose functions come from the code in question."""

    def __init__(self, problem: Problem, algorithm: Algorithm, tile: Hashable, target: Target, link: Link) -> None:
        shape = problem.weight_shape()
        weight = None if shape is None else _whole_numbers(shape, problem.dtype, 7, 3)
        bias = _whole_numbers((problem.out_channels,), problem.dtype, 11, 5) if problem.bias else None
        super().__init__(problem, lambda _: [(algorithm, tile)], target, 1, weight, bias)
        self.given, self.link = (weight, bias), link

    def load(self, algorithm: Algorithm, tile: Hashable) -> dict[str, machine.Function]:
        return self.link(algorithm.symbols)


def _is_right(algorithm: Algorithm, tile: Hashable, problem: Problem, target: Target, link: Link) -> bool:
    """Does the kernel compute what the reference computes, on a small picture."""
    small = _narrow(problem)
    if small != problem and algorithm.fits(small, target) is None:
        problem, tile = small, algorithm.variants(small, target)[0]
        text = algorithm.emit(problem, tile, target)

        def link(names: Sequence[str]) -> dict[str, machine.Function]:
            return machine.load_all(text, names, target, str(small))

    layer = _Tried(problem, algorithm, tile, target, link)
    size, padding, out_size = _picture(problem)
    batch = 2 if prod(problem.weight_shape() or (0,)) <= FEW_WEIGHTS else 1
    last = problem.layout == "channels_last"
    shape = (batch, *size, problem.in_channels) if last else (batch, problem.in_channels, *size)
    x = _whole_numbers(shape, problem.dtype, 13, 6)
    found = layer(x, padding, out_size)
    with np.errstate(all="ignore"):
        channels, wanted = _reference(problem, x, *layer.given, padding, out_size)
    compared = np.take(found, channels, axis=-1 if last else 1).astype(np.float64)
    terms = prod(problem.kernel_size) * (problem.in_channels // problem.groups)
    allowed = ERROR * np.finfo(problem.dtype).eps * (4 * terms + np.abs(wanted) + 1)
    with np.errstate(all="ignore"):
        return bool(((np.abs(compared - wanted) <= allowed) | (compared == wanted)).all())


def _narrow(problem: Problem) -> Problem:
    """The layer with fewer channels, where it has very many weights, and with shorter strides, where they are huge."""
    while max(problem.stride) > 1:
        size, _, out_size = _picture(problem)
        if max(problem.in_channels * prod(size), problem.out_channels * prod(out_size)) <= MOST_VALUES:
            break
        longest = max(problem.stride)
        problem = replace(problem, stride=tuple(max(1, s // 2) if s == longest else s for s in problem.stride))
    most = NARROW_WEIGHTS if prod(problem.weight_shape() or (0,)) > MOST_WEIGHTS else MOST_WEIGHTS
    while prod(problem.weight_shape() or (0,)) > most:
        groups = problem.groups
        each_in, each_out = problem.in_channels // groups, problem.out_channels // groups
        if max(each_in, each_out) > 16:
            each_in, each_out = (each_in // 2, each_out) if each_in > each_out else (each_in, each_out // 2)
        elif groups > 1:
            groups //= 2
        else:
            break
        problem = replace(problem, groups=groups, in_channels=each_in * groups, out_channels=each_out * groups)
    return problem


def _picture(problem: Problem) -> tuple[tuple[int, ...], Pads, tuple[int, ...]]:
    """Size, padding and output size of a small picture: borders, and an inside where the layer is small."""
    few = prod(problem.weight_shape() or (0,)) <= FEW_WEIGHTS
    sizes, pads, outs = [], [], []
    for axis, (kernel, stride, dilation) in enumerate(
        zip(problem.kernel_size, problem.stride, problem.dilation, strict=True)
    ):
        long = axis == problem.ndim - 1
        span = dilation * (kernel - 1) + 1
        if problem.op == "conv_transpose":
            size = (23 if few else 9) if long else 3
            crop = int(span > 1)
            pads.append((crop, 0))
            outs.append((size - 1) * stride + span - crop)
        elif problem.op == "conv":
            size = (53 if few else 19) if long else (5 if few else 3)
            pads.append((span // 2, span - 1 - span // 2))
            outs.append((size - 1) // stride + 1)
        else:
            size = span + stride * (37 if long else 2)
            pads.append((int(kernel > 1), 0))
            outs.append((size + int(kernel > 1) - span) // stride + 1)
        sizes.append(size)
    return tuple(sizes), tuple(pads), tuple(outs)


def _whole_numbers(shape: tuple[int, ...], dtype: str, period: int, largest: int) -> Array:
    """Numbers from -largest to largest in no simple order, the same ones each time."""
    long = np.random.default_rng(period).integers(-largest, largest + 1, 997 * period).astype(dtype)
    return np.resize(long, shape)


def _reference(
    problem: Problem, x: Array, weight: Array | None, bias: Array | None, padding: Pads, out_size: tuple[int, ...]
) -> tuple[Array, Array]:
    """Some output channels, spread over all, and what they are, in float64."""
    groups, outputs = problem.groups, problem.out_channels
    each_in, each_out = problem.in_channels // groups, outputs // groups
    if groups > 1:
        picked = _spread(groups)
        channels = (picked[:, None] * each_out + np.arange(each_out)).ravel()
        inputs = (picked[:, None] * each_in + np.arange(each_in)).ravel()
        x = np.take(x, inputs, axis=-1 if problem.layout == "channels_last" else 1)
        if weight is not None:
            weight = weight[channels if problem.op == "conv" else inputs]
        small = replace(problem, groups=len(picked), in_channels=len(inputs), out_channels=len(channels))
    else:
        channels = _spread(outputs)
        if weight is not None:
            weight = weight[channels] if problem.op == "conv" else weight[:, channels]
        small = replace(problem, out_channels=len(channels))
    if problem.op.endswith("pool"):
        small = replace(small, groups=small.in_channels)
    arrays = [
        None if one is None else one.astype(np.float64) for one in (weight, None if bias is None else bias[channels])
    ]
    prepared = NumpyEngine().prepare(replace(small, dtype="float64"), *arrays)
    return channels, prepared(x.astype(np.float64), padding, out_size)


def _spread(count: int) -> Array:
    """The first and the last of so many, and some between: channels of the first block of a tile and of its rest."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_COMPARED)).round().astype(int))
