"""Fourier transforms of short sequences: every lane is a transform of its own.

Up to ``STRAIGHT`` numbers the code is straight and all in registers (or spilled); more are two loops of short
transforms through scratch (`Long`), which keeps compiling fast. Complex numbers are pairs of vectors. The real
transform is that of *odd* frequencies, in which products mean negacyclic convolution: N real numbers give N / 2 complex
ones and there is no special case, neither a constant nor a Nyquist term. With h = N / 2 and angles of pi / N:

    y[n] = (x[n] - i x[n + h]) * exp(-i pi n / N)      for n < h, then an ordinary transform of y
    Y[g] = the sum over n of x[n] * exp(-2 i pi n (2 g + 1/2) / N)

Backwards the real part of ``y[n] * exp(i pi n / N)`` is x[n] and minus its imaginary part x[n + h]. Transforms are not
scaled: backwards of forwards is h times the numbers.

Source: Nussbaumer, "Fast Fourier Transform and Convolution Algorithms" (Springer 1982), on polynomials modulo z^N + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import cos, isqrt, pi, sin

import numpy as np

from polyconv.run.cpu.emit import Kernel, Value
from polyconv.run.problem import Array

Complex = tuple[Value, Value]
Index = Value | int
STRAIGHT = 16  # complex numbers of a transform that is straight code


def real_to_complex(k: Kernel, data: list[Value]) -> list[Complex]:
    """The transform of N real numbers, N even: N / 2 complex ones."""
    half = len(data) // 2
    turned = [
        _times(k, (data[n], data[n + half]), cos(pi * n / len(data)), -sin(pi * n / len(data)), conjugate=True)
        for n in range(half)
    ]
    return forward(k, turned)


def complex_to_real(k: Kernel, data: list[Complex], wanted: int) -> list[Value]:
    """Backwards, the first ``wanted`` of N real numbers, N / 2 times too large."""
    half = len(data)
    real: list[Value] = []
    minus: list[Value] = []
    for n, (re, im) in enumerate(backward(k, data)):
        c, s = cos(pi * n / (2 * half)), sin(pi * n / (2 * half))
        # (re + i im)(c + i s): the real part, and minus the imaginary one
        real.append(_sum(k, re, c, im, -s))
        if n + half < wanted:
            minus.append(_sum(k, re, -s, im, -c))
    return [*real, *minus][:wanted]


def turns(count: int) -> Array:
    """The table of `Long`: cosine and minus sine of each angle between its two steps, [j][g][2]."""
    a, b = split(count)
    angle = 2 * np.pi / count * np.outer(np.arange(b), np.arange(a))
    return np.stack([np.cos(angle), -np.sin(angle)], -1)


def half_turns(length: int) -> Array:
    """The table of a long real transform: cosine and sine of ``pi n / length``, [n][2]."""
    angle = np.pi / length * np.arange(length // 2)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


@lru_cache(maxsize=64)
def split(count: int) -> tuple[int, int]:
    """Two factors, as near to each other as can be, the smaller first."""
    a = next(factor for factor in range(isqrt(count), 0, -1) if count % factor == 0)
    return a, count // a


class Long:
    """A complex transform of a * b numbers: b transforms of a, turns by a table, a transforms of b.

    ``table`` points to `turns`, ``room`` to scratch for all numbers.
    """

    def __init__(self, k: Kernel, count: int, table: Value, room: Value) -> None:
        self.k, self.count, self.table, self.room = k, count, table, room

    def forward(self, load: Callable[[Index], Complex], store: Callable[[Index, Complex], None]) -> None:
        """Read every number once, then write every number once: they may lie in the same place."""
        k, lanes = self.k, self.k.lanes
        a, b = split(self.count)
        with k.loop(0, b, nonempty=True) as j:
            found = forward(k, [load(j + i * b) for i in range(a)])
            for g, (re, im) in enumerate(found):
                if g:
                    at = k.at(self.table, (j * a + g) * 2)
                    c, s = k.broadcast(k.load(at)), k.broadcast(k.load(k.at(at, 1)))
                    re, im = re * c - im * s, k.fma(re, s, im * c)
                at = k.at(self.room, (j + g * b) * (2 * lanes))
                k.store_vector(re, at, align=64)
                k.store_vector(im, k.at(at, lanes), align=64)
        with k.loop(0, a, nonempty=True) as first:
            at = k.at(self.room, first * (b * 2 * lanes))
            data = [
                (
                    k.load_vector(k.at(at, j * 2 * lanes), align=64),
                    k.load_vector(k.at(at, (2 * j + 1) * lanes), align=64),
                )
                for j in range(b)
            ]
            for h, value in enumerate(forward(k, data)):
                store(first + h * a, value)

    def backward(self, load: Callable[[Index], Complex], store: Callable[[Index, Complex], None]) -> None:
        """The other sign, ``count`` times too large."""

        def put(index: Index, value: Complex) -> None:
            store(index, (value[1], value[0]))

        self.forward(lambda index: load(index)[::-1], put)


def forward(k: Kernel, data: list[Complex]) -> list[Complex]:
    """The ordinary complex transform, ``sum of data[n] * exp(-2 i pi n g / N)``; N of factors 2 and 3."""
    count = len(data)
    if count == 1:
        return data
    radix = _radix(count)
    size = count // radix
    parts = [forward(k, data[start::radix]) for start in range(radix)]
    found: list[Complex | None] = [None] * count
    for place in range(size):
        angles = [2 * pi * start * place / count for start in range(radix)]
        turned = [_times(k, part[place], cos(a), -sin(a)) for part, a in zip(parts, angles, strict=True)]
        for number, value in enumerate(_butterfly(k, turned)):
            found[place + number * size] = value
    return [value for value in found if value is not None]


def backward(k: Kernel, data: list[Complex]) -> list[Complex]:
    """The complex transform with the other sign, N times too large: parts swapped, forward, and swapped."""
    return [(re, im) for im, re in forward(k, [(im, re) for re, im in data])]


@lru_cache(maxsize=64)
def operations(count: int) -> int:
    """Vector instructions of a complex transform, about: a multiply-add for each is the best there could be."""
    if count == 1:
        return 0
    radix = _radix(count)
    size = count // radix
    return radix * operations(size) + size * {2: 4, 3: 16, 4: 16}[radix] + (size - 1) * (radix - 1) * 4


def _radix(count: int) -> int:
    for radix in (4, 2, 3):
        if count % radix == 0:
            return radix
    raise ValueError(f"a transform's length has factors 2 and 3 only, got {count}")


def _butterfly(k: Kernel, data: list[Complex]) -> list[Complex]:
    """The transform of 2, 3 or 4 numbers."""
    if len(data) == 2:
        (ar, ai), (br, bi) = data
        return [(ar + br, ai + bi), (ar - br, ai - bi)]
    if len(data) == 3:
        (ar, ai), (br, bi), (cr, ci) = data
        sr, si, dr, di = br + cr, bi + ci, br - cr, bi - ci
        mr, mi, root = _sum(k, ar, 1, sr, -0.5), _sum(k, ai, 1, si, -0.5), 3**0.5 / 2
        return [
            (ar + sr, ai + si),
            (_sum(k, mr, 1, di, root), _sum(k, mi, 1, dr, -root)),
            (_sum(k, mr, 1, di, -root), _sum(k, mi, 1, dr, root)),
        ]
    (ar, ai), (br, bi), (cr, ci), (dr, di) = data
    er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
    gr, gi, hr, hi = br + dr, bi + di, br - dr, bi - di
    return [(er + gr, ei + gi), (fr + hi, fi - hr), (er - gr, ei - gi), (fr - hi, fi + hr)]


def _times(k: Kernel, value: Complex, c: float, s: float, conjugate: bool = False) -> Complex:
    """``value * (c + i s)``; of ``value``'s conjugate if asked for."""
    re, im = value
    if not conjugate and abs(s) < 1e-12 and c > 0:
        return value
    sign = -1.0 if conjugate else 1.0
    return _sum(k, re, c, im, -sign * s), _sum(k, re, s, im, sign * c)


def _sum(k: Kernel, a: Value, x: float, b: Value, y: float) -> Value:
    """``x a + y b`` with a multiply-add."""
    if abs(x) < 1e-12:
        return b * y
    if abs(y) < 1e-12:
        return a if x == 1 else a * x
    return k.fma(b, k.constant(y, b.type), a if x == 1 else a * x)
