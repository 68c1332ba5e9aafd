"""How far a result may be from the truth: one table, per dtype, scaled by the number of summed terms.

The rounding error of a sum of n products, in any order, is below n * eps * sum(|products|) (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1). Integer-valued data below 2 ** 24 has no rounding at all: use
``assert_equal``.
"""

from __future__ import annotations

import numpy as np

EPSILON = {"float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}

# Transcendental activations: units in the last place (of the larger of 1 and the result) beyond the sum's own error.
ACTIVATION_ULPS = {
    None: 0,
    "relu": 0,
    "relu6": 0,
    "leaky_relu": 1,
    "hardswish": 4,
    "sigmoid": 8,
    "tanh": 8,
    "silu": 8,
    "gelu": 8,
}


def bound(dtype: object, terms: int, magnitude: float, activation: str | None = None) -> float:
    """The largest error allowed for a sum of ``terms`` products whose absolute values sum to ``magnitude``."""
    epsilon = EPSILON[np.dtype(dtype).name]  # type: ignore[call-overload]
    return epsilon * (terms * magnitude + ACTIVATION_ULPS[activation] * max(1.0, magnitude))


def assert_equal(actual: object, expected: np.ndarray) -> None:
    """Same kind, dtype, shape and values, bit for bit but for the sign of zero; NaN equals NaN."""
    _assert_alike(actual, expected)
    wrong = ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))  # type: ignore[call-overload]
    _report(wrong, actual, expected, "exactly")


def assert_close(
    actual: object,
    expected: np.ndarray,
    *,
    terms: int,
    magnitude: float | np.ndarray | None = None,
    activation: str | None = None,
) -> None:
    """Same kind, dtype and shape, values within ``bound``; infinities and NaN in the same places.

    ``magnitude`` is the sum of the terms' absolute values, of each output or of the largest; without it the largest
    expected value (at least 1) stands in, which is right where no terms cancel.
    """
    _assert_alike(actual, expected)
    assert isinstance(actual, np.ndarray)
    finite = np.isfinite(expected)
    if magnitude is None:
        magnitude = max(1.0, float(np.max(np.abs(expected[finite]), initial=0.0)))
    largest = np.max(magnitude, initial=0.0)
    allowed = bound(expected.dtype, terms, float(largest), activation)
    with np.errstate(invalid="ignore"):
        near = np.abs(actual.astype(np.float64) - expected.astype(np.float64)) <= allowed
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    _report(~np.where(finite, near, same), actual, expected, f"within {allowed:.3g} ({terms} terms)")


def _assert_alike(actual: object, expected: np.ndarray) -> None:
    assert isinstance(actual, np.ndarray), f"got a {type(actual).__name__}, expected a NumPy array"
    assert actual.dtype == expected.dtype, f"got dtype {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"got shape {actual.shape}, expected {expected.shape}"


def _report(wrong: np.ndarray, actual: object, expected: np.ndarray, how: str) -> None:
    count = int(np.count_nonzero(wrong))
    if count:
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{count} of {wrong.size} values differ ({how}); first at {first}: "
            f"got {actual[first]!r}, expected {expected[first]!r}"  # type: ignore[index]
        )
