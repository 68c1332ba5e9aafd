"""Activations as vector code, shared by every algorithm.

Worst errors found over the whole range (``tests/cpu/test_activations.py``), in units of the last place of the larger
of 1 and the result: relu, relu6 and leaky_relu are exact or correctly rounded; hardswish, sigmoid and tanh stay
below 2, silu below 3, gelu below 4. The tails keep their relative accuracy down to the smallest normal number; NaN
stays NaN.

The exponential is the usual one: x = n ln 2 + r, ``exp(r) - 1`` by its Taylor series (|r| < 0.35, so 7 terms are enough
for float32 and 13 for float64), scaled by 2**n through the exponent bits. The Gaussian integral is written
``erfc(z) = exp(-z * z) * f(t) / (1 + 2 z)`` with ``t = (z - 4) / (z + 4)`` (the form of Shepherd and Laframboise,
Mathematics of Computation 36, 1981), f interpolated at Chebyshev nodes over the range where exp(-z * z) is normal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial, log, sqrt
from typing import NamedTuple

from polyconv.run.cpu.emit import Kernel, Value, lanes_of, vector_of

LEAKY_SLOPE = 0.01


class _Format(NamedTuple):
    """What a floating-point format needs: its integer, and ln 2 in two parts (the first times n is exact)."""

    integer: str
    mantissa: int
    bias: int
    smallest: float  # exp of anything below is 0
    ln2: tuple[float, float]
    terms: int
    tail: tuple[float, ...]  # f(t), lowest power first


_FLOAT_TAIL = (
    1.2329951175845122, -0.13962122454111312, 0.015379816933371363, 0.068104783122517707, -0.10103305119451137,
    0.093591922413568953, -0.066661443068099254, 0.037652254911927019, -0.013498754618186637, 0.0088466479255544695,
    0.0013926927450956196,
)  # fmt: skip
_DOUBLE_TAIL = (
    1.2329951186255525, -0.13962111684056253, 0.015379652102620084, 0.068097054254694481, -0.10103906603632778,
    0.093732834998270722, -0.066330365811602107, 0.037167515539130531, -0.01619773406585679, 0.0050319699584735057,
    -0.00075777322980234241, -0.0001992565530729392, 0.00015062143002404972, -2.439986111725998e-5,
    -1.122147994977587e-5, 5.7115817624815951e-6, 2.9340015573584266e-7, -8.2858891512486455e-7,
    7.3852458002437092e-8, 1.1290209928019494e-7, -1.6054877297872555e-8, -1.4905222063966203e-8,
    7.0514584060857497e-10, 9.5199904260621963e-10,
)  # fmt: skip
_FORMATS = {
    "float": _Format(
        "i32", 23, 127, -88.0, (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cf79abcap-20")), 7, _FLOAT_TAIL
    ),
    "double": _Format(
        "i64",
        52,
        1023,
        -709.0,
        (float.fromhex("0x1.62e42fefap-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")),
        13,
        _DOUBLE_TAIL,
    ),
}


LONG = ("silu", "gelu", "sigmoid", "tanh")
LONGEST = ("gelu",)


def activate(k: Kernel, name: str | None, value: Value, apart: Sequence[str] = LONGEST) -> Value:
    """The activation of a vector; None leaves it alone.

    Those named in ``apart`` are called as a function of their own. Written out for each sum of each tile a long one
    costs up to half a second to compile; called it costs a few per cent of a shallow layer's time (gelu: nothing).
    """
    if name is None:
        return value
    return k.helper(name, ACTIVATIONS[name], value) if name in apart else ACTIVATIONS[name](k, value)


def exponential(k: Kernel, x: Value) -> tuple[Value, Value]:
    """(scale, p) with exp(x) = scale + scale * p, for x <= 0; below the smallest normal result it is 0."""
    form = _FORMATS[k.scalar]
    integers = vector_of(form.integer, lanes_of(x.type))
    x = k.maximum(x, form.smallest)
    magic = 1.5 * 2.0**form.mantissa  # adding it rounds to an integer, which then lies in the lowest bits
    shifted = k.fma(x, k.constant(1 / log(2.0), x.type), k.constant(magic, x.type))
    n = shifted - magic
    r = k.fma(n, k.constant(-form.ln2[0], x.type), x)
    r = k.fma(n, k.constant(-form.ln2[1], x.type), r)
    scale = k.bitcast((k.bitcast(shifted, integers) + form.bias) << form.mantissa, x.type)
    series = polynomial(k, r, [1 / factorial(i) for i in range(1, form.terms + 1)])
    return scale, series * r


def polynomial(k: Kernel, x: Value, coefficients: Sequence[float]) -> Value:
    """The polynomial with these coefficients, lowest power first, by Horner's rule."""
    result = k.constant(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        result = k.fma(result, x, k.constant(coefficient, x.type))
    return result


def _relu(k: Kernel, x: Value) -> Value:
    return k.maximum(x, 0.0)


def _relu6(k: Kernel, x: Value) -> Value:
    return k.minimum(k.maximum(x, 0.0), 6.0)


def _leaky_relu(k: Kernel, x: Value) -> Value:
    return k.select(x < 0.0, x * LEAKY_SLOPE, x)


def _sigmoid(k: Kernel, x: Value) -> Value:
    scale, p = exponential(k, 0.0 - k.absolute(x))
    e = k.fma(scale, p, scale)  # exp(-|x|), so that nothing overflows
    return k.select(x < 0.0, e, k.constant(1.0, x.type)) / (e + 1.0)


def _silu(k: Kernel, x: Value) -> Value:
    return x * _sigmoid(k, x)


def _tanh(k: Kernel, x: Value) -> Value:
    scale, p = exponential(k, k.absolute(x) * -2.0)
    m = k.fma(scale, p, scale - 1.0)  # exp(-2 |x|) - 1, accurate where x is small
    return k.copysign(m / (m + 2.0), x)


def _gelu(k: Kernel, x: Value) -> Value:
    form = _FORMATS[k.scalar]
    z = k.minimum(k.absolute(x) * sqrt(0.5), 40.0)
    square = z * z
    rest = k.fma(z, z, 0.0 - square)
    scale, p = exponential(k, 0.0 - square)
    e = k.fma(scale, p, scale)
    e = k.fma(e, 0.0 - rest, e)
    above, width = z + 4.0, k.fma(z, k.constant(2.0, z.type), k.constant(1.0, z.type))
    inverse = 1.0 / (above * width)
    f = polynomial(k, (z - 4.0) * width * inverse, form.tail)
    half = e * f * (above * inverse) * 0.5  # the Gaussian's upper tail beyond |x|
    return x * k.select(x < 0.0, half, 1.0 - half)


def _hardswish(k: Kernel, x: Value) -> Value:
    return x * k.minimum(k.maximum(x + 3.0, 0.0), 6.0) / 6.0


ACTIVATIONS: dict[str, Callable[[Kernel, Value], Value]] = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "silu": _silu,
    "gelu": _gelu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "hardswish": _hardswish,
}
