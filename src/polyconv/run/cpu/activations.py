"""Activations as vector code, shared by every algorithm.

Worst errors found over the whole range (``tests/cpu/test_activations.py``), in units of the last place of the larger
of 1 and the result: relu, relu6 and leaky_relu are exact or correctly rounded; hardswish, sigmoid, tanh and silu stay
below 2, gelu below 1 in float32 and 2 in float64. The tails keep their relative accuracy down to the smallest normal
number; NaN stays NaN.

The exponential is the usual one: x = n ln 2 + r, ``exp(r) - 1`` as r times a polynomial (|r| < 0.35, so that 6 terms
are enough for float32 and 11 for float64), scaled by 2**n through the exponent bits.

gelu is ``max(x, 0) - a * Q(a)`` with a = |x| and Q the Gaussian's upper tail: one branch for both signs. The tail is
``a * Q(a) = exp(-a * a / 2) * u * R(u)`` with ``u = a / (a + c)``, which maps all a to less than 1, so that a
polynomial R does for the range where the exponential is normal (the idea of Shepherd and Laframboise, Mathematics of
Computation 36, 1981). exp takes the exact product of a and a / 2, so that the far tail keeps its accuracy.

All polynomials were interpolated at Chebyshev nodes in 60 digits: relative errors below 2**-26 (exp) and 2**-25 (R) for
float32, 2**-55 and 2**-54 for float64. On AVX-512 a reciprocal estimate with one step of Newton's in place of the
divisions was no faster: they pass beside the multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, sqrt
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
    series: tuple[float, ...]  # of (exp(r) - 1) / r, lowest power first
    shift: float  # c
    tail: tuple[float, ...]  # of R, lowest power first


_FLOAT_SERIES = (
    1.0000000107858389, 0.5000000013475551, 0.16666505117847225, 0.04166646482796766, 0.008369164314730674,
    0.0013933660796991896,
)  # fmt: skip
_DOUBLE_SERIES = (
    1.0, 0.5000000000000006, 0.1666666666666667, 0.041666666666572975, 0.008333333333326129, 0.0013888888932546337,
    0.00019841269874844894, 2.4801504273761e-05, 2.7557255369427714e-06, 2.76263877218691e-07, 2.510522981321569e-08,
)  # fmt: skip
_FLOAT_TAIL = (
    2.374999963442564, -6.6261270990531465, 11.165393182392336, -11.940971503514765, 7.437902117377525,
    -1.3358415081046022, -1.7156642883545006, 1.3768136957011898, -0.337898840663632,
)  # fmt: skip
_DOUBLE_TAIL = (
    2.5, -7.473557010035811, 13.802885979927279, -16.78364611365868, 12.966371622132904, -4.999911226243983,
    -0.7505142046268046, 1.51041847299812, -0.06552842522696248, -0.42885681491558303, 0.0070436675451247075,
    0.15377332525220835, -0.039798563320346904, 0.10782107667624383, -0.3165593534707241, 0.48040411385290266,
    -0.5695162796216813, 0.5385853114636642, -0.36498932314738014, 0.1612381840435199, -0.0414380017808701,
    0.004715842610752231,
)  # fmt: skip
_FORMATS = {
    "float": _Format(
        "i32",
        23,
        127,
        -88.0,
        (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cf79abcap-20")),
        _FLOAT_SERIES,
        4.75,
        _FLOAT_TAIL,
    ),
    "double": _Format(
        "i64",
        52,
        1023,
        -709.0,
        (float.fromhex("0x1.62e42fefap-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")),
        _DOUBLE_SERIES,
        5.0,
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


def exponential(k: Kernel, x: Value, factors: tuple[Value, Value] | None = None) -> tuple[Value, Value]:
    """(scale, p) with exp(x) = scale + scale * p, for x <= 0; below the smallest normal result it is 0.

    With ``factors`` exp of their exact product, which x is rounded: no accuracy is lost where it is large.
    """
    form = _FORMATS[k.scalar]
    integers = vector_of(form.integer, lanes_of(x.type))
    if factors is None:
        x = k.maximum(x, form.smallest)
    magic = 1.5 * 2.0**form.mantissa  # adding it rounds to an integer, which then lies in the lowest bits
    shifted = k.fma(x, k.constant(1 / log(2.0), x.type), k.constant(magic, x.type))
    n = shifted - magic
    most = k.constant(-form.ln2[0], x.type)
    r = k.fma(n, most, x) if factors is None else k.fma(*factors, n * most)
    r = k.fma(n, k.constant(-form.ln2[1], x.type), r)
    scale = k.bitcast((k.bitcast(shifted, integers) + form.bias) << form.mantissa, x.type)
    return scale, polynomial(k, r, form.series) * r


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
    size = k.absolute(x)
    near = k.minimum(size, sqrt(-2 * form.smallest))  # exp is 0 there
    half = near * -0.5
    scale, p = exponential(k, near * half, (near, half))
    part = near / (near + form.shift)
    tail = part * polynomial(k, part, form.tail) * k.fma(scale, p, scale)  # |x| times the Gaussian's tail beyond it
    return k.fma(x, k.constant(0.5, x.type), size * 0.5) - tail


def _hardswish(k: Kernel, x: Value) -> Value:
    return x * (k.minimum(k.maximum(x + 3.0, 0.0), 6.0) * (1 / 6))


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
