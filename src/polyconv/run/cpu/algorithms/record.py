"""What an algorithm is: one record that says what it fits, writes its code, packs its weights and lays out its work.

To write one (see ``dense.py`` for an example):

1. ``fits`` says in one sentence why a problem is not for it, or None.
2. ``variants`` lists the tiles it can be emitted with, best guess first (any frozen, hashable value of its own).
3. ``emit`` writes one module of IR with `polyconv.run.cpu.emit`. It may depend on the problem, the tile and the
   target, *never* on batch, spatial sizes or padding. The less it depends on, the more layers share the object code.
   Each phase is one function ``void NAME(ptr args, i64 first, i64 last, ptr scratch)`` over independent items.
4. ``pack`` lays out weight and bias once, in a 64-byte aligned array; the kernel may read all of it and nothing beyond.
5. ``schedule`` turns run-time sizes into the words of ``args`` and the phases to run. It is called once a shape and
   must stay well under 0.1 ms: what does not depend on the sizes is remembered, plain integers and lists for tens of
   elements (a NumPy call takes as long as twenty of them, and far longer when its code is not in the cache), no loop
   over pixels.
   Of a direct algorithm all threads' scratch and the workspace stay within `allowance` where smaller pieces can do
   that; where they do not, the engine takes fewer threads or another algorithm.
6. ``cost`` is a model in seconds, to choose between algorithms and tiles; its terms can be read in the code. It is
   called for every algorithm and tile at a new shape: plain arithmetic, no arrays.
7. ``reads`` says whether the kernel reads an input of these strides; where it does not the engine hands it a
   contiguous copy. The default takes contiguous inputs only.
8. ``grain`` is for algorithms whose outputs share rounding errors: the number of rows (of the first axis) that are
   computed together, counted from row 0. Pieces of the picture cut at multiples of it have the same bits as the whole.
   0 where it cannot run on pieces.
9. ``packing`` is a model of the time that ``pack`` takes, for weights that are used once. The default is a copy's.
10. ``symbols`` are the functions of the module, whatever the size: they are linked at once, and phases name them.
11. ``rounding`` is equal for tiles that give the same bits: only among these may the engine take the one whose code is
   at hand. The default is that all do.
12. ``direct`` is False for algorithms that transform their arrays, and need room for what they transformed. How much
   memory either kind may take says `keeps_to_memory`, which the engine asks. Where one that transforms takes less than
   `least_seconds`, the direct ones are not asked for their ``cost``, which never is less than that. Where weights come
   from memory (`Sizes.far`) the engine adds `from_memory` to a direct one's cost; others count it themselves, since
   their weights are more, and are read beside their products or not.

The first four words of ``args`` are always x, packed weights, out and workspace (pointers, filled in at each call by
the engine); what follows is the algorithm's own: integers, and pointers to tables kept alive in ``Schedule.tables``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from polyconv.run.cpu.pool import rounded
from polyconv.run.cpu.target import Target
from polyconv.run.problem import Array, Pads, Problem

ALIGNMENT = 64
Table: TypeAlias = "array[int] | array[float]"  # numbers that a kernel reads, at an address that stays
FROM_MEMORY = 15e9  # bytes of weights a second that a core reads from memory, with others doing the same
# Of a float32 vector; those of the other activations hardly show.
ACTIVATION_SECONDS = {"sigmoid": 3.3e-9, "silu": 3.7e-9, "tanh": 3.9e-9, "gelu": 5.9e-9}
COPYING = 0.8e-9  # seconds a weight, where packing puts weights in another order
FIXED_WORDS = ("x: ptr", "packed: ptr", "out: ptr", "workspace: ptr")


class Sizes(NamedTuple):
    """The run-time facts of one call. Strides are of the input, in elements, in the order of the problem's layout."""

    batch: int
    in_size: tuple[int, ...]
    padding: Pads
    out_size: tuple[int, ...]
    x_strides: tuple[int, ...]
    plane: int = 0  # channels_first: elements between the output's channels; 0 where their planes follow one another
    far: bool = False  # the weights come from memory: between two calls others pass through the caches

    @property
    def out_plane(self) -> int:
        """Elements between the planes of neighbouring output channels (channels_first)."""
        return self.plane or prod(self.out_size)

    @property
    def positions(self) -> int:
        """Output positions over the whole batch."""
        return self.batch * prod(self.out_size)


class Phase(NamedTuple):
    """One function to run over ``items`` independent items; a barrier stands between phases."""

    symbol: str
    items: int


class Schedule(NamedTuple):
    """How one shape is run: the words of ``args``, the phases, and the memory they need.

    ``scratch_bytes`` is per thread, ``workspace_bytes`` per call, both 64-byte aligned and not cleared. ``tables``
    are arrays that the words point into. ``reason`` goes into ``explain()``; what makes it, where that takes long.
    """

    words: Sequence[int]
    phases: tuple[Phase, ...]
    scratch_bytes: int
    workspace_bytes: int = 0
    tables: tuple[Table, ...] = ()
    reason: str | Callable[[], str] = ""

    def memory(self, threads: int) -> int:
        """Bytes that a call takes besides its arrays: the workspace, and scratch for each of so many threads."""
        return rounded(self.workspace_bytes) + threads * rounded(self.scratch_bytes)


def in_words(memory: int) -> str:
    """An amount of memory for people.

    >>> in_words(1536), in_words(20480)
    ('1536 bytes', '20 KiB')
    """
    return f"{memory} bytes" if memory < 10 << 10 else f"{memory / 1024:.0f} KiB"


def allowance(problem: Problem, sizes: Sizes) -> int:
    """Bytes that a direct algorithm may take besides its arrays: a quarter of input, output and weights.

    >>> layer = Problem("conv", 8, 16, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
    >>> allowance(layer, Sizes(1, (10, 10), ((1, 1), (1, 1)), (10, 10), (800, 80, 8, 1)))
    3552
    """
    inputs = sizes.batch * prod(sizes.in_size) * problem.in_channels
    values = inputs + sizes.positions * problem.out_channels + prod(problem.weight_shape() or (0,))
    return values * problem.itemsize // 4


def contiguous(problem: Problem, sizes: Sizes) -> bool:
    """Is the input contiguous in the problem's layout (axes of length 1 do not count)."""
    shape = shape_of(problem, sizes)
    expected = 1
    for length, stride in zip(reversed(shape), reversed(sizes.x_strides), strict=True):
        if length > 1 and stride != expected:
            return False
        expected *= length
    return True


def pixels_contiguous(problem: Problem, sizes: Sizes) -> bool:
    """Do the channels of a pixel lie next to each other, whatever the other strides (channels_last)."""
    return problem.in_channels == 1 or sizes.x_strides[-1] == 1


def rows_contiguous(problem: Problem, sizes: Sizes) -> bool:
    """Are the pixels of a row, along the last axis, neighbours in memory, whatever the other strides."""
    if problem.layout == "channels_first":
        return sizes.in_size[-1] <= 1 or sizes.x_strides[-1] == 1
    apart = sizes.in_size[-1] <= 1 or sizes.x_strides[-2] == problem.in_channels
    return apart and pixels_contiguous(problem, sizes)


def each_row(problem: Problem, tile: Any, target: Target) -> int:
    """Rows stand alone: an output's bits do not depend on which others are computed with it."""
    return 1


def whole_only(problem: Problem, tile: Any, target: Target) -> int:
    """Runs on whole pictures only."""
    return 0


def alike(tile: Any) -> Hashable:
    """Every tile gives the same bits."""
    return None


def copying(problem: Problem, tile: Any, target: Target) -> float:
    """Seconds to put the weights in another order."""
    return COPYING * prod(problem.weight_shape() or (0,))


@lru_cache(maxsize=256)
def from_memory(problem: Problem) -> float:
    """Seconds of one core to read the weights as they are from memory, which a direct algorithm does not hide."""
    return prod(problem.weight_shape() or (0,)) * problem.itemsize / FROM_MEMORY


def activating(problem: Problem, target: Target, sizes: Sizes) -> float:
    """Seconds of one core for the activation of all outputs, whatever algorithm computes them.

    >>> from polyconv.run.cpu.target import neon
    >>> layer = Problem("conv", 8, 16, (1, 1), (1, 1), (1, 1), 1, True, "gelu", "float32", "channels_last")
    >>> round(activating(layer, neon(), Sizes(1, (10, 10), ((0, 0), (0, 0)), (10, 10), (800, 80, 8, 1))) * 1e9)
    2360
    """
    if problem.activation not in ACTIVATION_SECONDS:
        return 0.0
    vectors = sizes.positions * problem.out_channels / target.lanes(problem.dtype)
    return vectors * ACTIVATION_SECONDS[problem.activation] * problem.itemsize / 4


def shape_of(problem: Problem, sizes: Sizes) -> tuple[int, ...]:
    """The input's shape in the problem's layout."""
    if problem.layout == "channels_first":
        return (sizes.batch, problem.in_channels, *sizes.in_size)
    return (sizes.batch, *sizes.in_size, problem.in_channels)


class Algorithm(NamedTuple):
    """One way to compute a problem; see the module's text for what each part does."""

    name: str
    fits: Callable[[Problem, Target], str | None]
    variants: Callable[[Problem, Target], Sequence[Hashable]]
    emit: Callable[[Problem, Any, Target], str]
    pack: Callable[[Problem, Any, Target, Array | None, Array | None], Array]
    schedule: Callable[[Problem, Any, Target, Sizes, int], Schedule]
    cost: Callable[[Problem, Any, Target, Sizes, int], float]
    reads: Callable[[Problem, Sizes], bool] = contiguous
    grain: Callable[[Problem, Any, Target], int] = each_row
    packing: Callable[[Problem, Any, Target], float] = copying
    symbols: tuple[str, ...] = ("run0",)
    rounding: Callable[[Any], Hashable] = alike
    direct: bool = True


TRANSFORMS_OWN, TRANSFORMS_SHARED = 16 << 20, 32 << 20  # bytes: each thread's scratch, or five times the L2; workspace


def keeps_to_memory(
    algorithm: Algorithm, problem: Problem, target: Target, sizes: Sizes, schedule: Schedule, threads: int
) -> bool:
    """Does a schedule take no more memory than it may: on all threads, see `most_memory`."""
    if algorithm.direct:
        memory = schedule.memory(threads)
        return not memory or memory <= allowance(problem, sizes)
    shared = schedule.workspace_bytes
    few = shared <= TRANSFORMS_SHARED or shared <= 4 * allowance(problem, sizes)
    return few and schedule.scratch_bytes <= transforms_own(target)


def transforms_own(target: Target) -> int:
    """Bytes of scratch that a thread may take which transforms."""
    return max(TRANSFORMS_OWN, 5 * target.l2_bytes)


def most_memory(algorithm: Algorithm, problem: Problem, target: Target, sizes: Sizes) -> int:
    """Bytes that an algorithm may take besides its arrays, on one thread.

    A direct one its `allowance`, with all its threads. One that transforms 16 MiB (or five times the L2) for each
    thread, and for all of them together 32 MiB, or as much as the arrays where they are larger.
    """
    allowed = allowance(problem, sizes)
    return allowed if algorithm.direct else max(TRANSFORMS_SHARED, 4 * allowed) + transforms_own(target)


def least_seconds(problem: Problem, target: Target, sizes: Sizes) -> float:
    """Seconds that the ``cost`` of no direct algorithm goes below, on one thread.

    That is the layer's multiply-adds at the machine's rate, without those of every window that reaches into the padding
    (of a transposed layer: of every input of which something is cropped); less a fifth, since models are fitted to what
    was measured (`dense_near` counts 0.9 of its own).

    >>> from polyconv.run.cpu.target import neon
    >>> layer = Problem("conv", 8, 16, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
    >>> least_seconds(layer, neon(), Sizes(1, (10, 10), ((1, 1), (1, 1)), (10, 10), (800, 80, 8, 1))) * 7e9 * 4
    58982.4
    """
    inside = sizes.batch
    windows = sizes.in_size if problem.op == "conv_transpose" else sizes.out_size
    for count, (before, after) in zip(windows, sizes.padding, strict=True):
        inside *= max(count - before - after, 0)
    return 0.8 * inside * _terms(problem) / (target.lanes(problem.dtype) * target.vector_rate)


@lru_cache(maxsize=256)
def _terms(problem: Problem) -> int:
    """Multiply-adds of one position, all channels together."""
    return problem.out_channels * (problem.in_channels // problem.groups) * prod(problem.kernel_size)


def aligned(shape: tuple[int, ...] | int, dtype: Any) -> Array:
    """An uninitialised array that starts on a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    array: Array = raw[start : start + size].view(dtype).reshape(shape)
    return array


def words(*values: int | Table) -> list[int]:
    """The argument words: the four fixed pointers (zero until the call), then these; a table gives its address."""
    return [0, 0, 0, 0, *[value if type(value) is int else _address(value) for value in values]]


def _address(value: Any) -> int:
    """Where a table lies; other integers than Python's own as they are."""
    return value.buffer_info()[0] if isinstance(value, array) else int(value)


def table_of(numbers: Iterable[int]) -> Table:
    """A table of 64-bit integers."""
    return array("q", numbers)


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up."""
    return -(-a // b)


def share(count: int, threads: int, each: int = 8) -> int:
    """How many of ``count`` equal pieces of work an item takes, so that ``threads`` have ``each`` items or so to do.

    Of the lengths up to that, the largest that leaves no thread with 2 % more pieces than need be: 26 pieces for 2
    threads are 26 items (13 each), not 13 items of two (14 and 12).

    >>> share(224, 2), share(26, 2), share(5, 1)
    (14, 1, 5)
    """
    if threads == 1 or count <= 1:
        return max(count, 1)
    most, even = ceil_div(count, each * threads), ceil_div(count, threads)
    fair = (n for n in range(most, 0, -1) if ceil_div(ceil_div(count, n), threads) * n <= 1.02 * even)
    return next(fair, 1)


def split_evenly(total: int, parts: int) -> list[tuple[int, int]]:
    """``parts`` runs of nearly equal length that cover ``range(total)``, as (start, length)."""
    edges = [total * part // parts for part in range(parts + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]
