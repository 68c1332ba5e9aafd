"""Short convolutions with few multiplications: the matrices of Cook and Toom's algorithm, exact.

F(m, r) gives m outputs of a kernel of r taps with m + r - 1 multiplications instead of m * r:
``y = inverse @ ((kernel @ g) * (data @ d))`` for data d of m + r - 1 values and taps g. The matrices come from the
interpolation of polynomials at m + r - 2 points and infinity; small points keep rounding errors small.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks" (arXiv 1509.09308).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from fractions import Fraction

POINTS = ("0", "1", "-1", "1/2", "-1/2", "2", "-2", "3/4", "-3/4", "4/3", "-4/3")
FOUR = ("0", "1/2", "-1", "2")  # half the error of 0, 1, -1, 1/2 in F(3, 3)
FIVE = ("0", "1", "-1", "2", "-1/2")  # 0.6 times the error of 0, 1, -1, 2, -2 in F(4, 3)

Matrix: TypeAlias = "tuple[tuple[Fraction, ...], ...]"


class ShortConvolution(NamedTuple):
    """F(outputs, taps): ``data`` (n, n), ``kernel`` (n, taps), ``inverse`` (outputs, n), n = outputs + taps - 1."""

    outputs: int
    taps: int
    data: Matrix
    kernel: Matrix
    inverse: Matrix

    @property
    def points(self) -> int:
        """Multiplications."""
        return self.outputs + self.taps - 1


@lru_cache(maxsize=64)
def short_convolution(outputs: int, taps: int) -> ShortConvolution:
    """The matrices of F(outputs, taps).

    Raises:
        ValueError: more interpolation points are needed than there are good ones.

    Example:
        >>> [[int(number) for number in row] for row in short_convolution(2, 3).inverse]
        [[1, 1, 1, 0], [0, 1, -1, 1]]
    """
    from fractions import Fraction  # 2 ms, which comparing algorithms need not wait for

    count = outputs + taps - 2
    if count > len(POINTS):
        raise ValueError(f"F({outputs}, {taps}) needs {count} points, at most {len(POINTS)} keep rounding errors small")
    points = tuple(map(Fraction, {len(FOUR): FOUR, len(FIVE): FIVE}.get(count, POINTS[:count])))
    rows, kernel = [], []
    for place, point in enumerate(points):
        others = [other for number, other in enumerate(points) if number != place]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        rows.append((*_polynomial(others), Fraction(0)))
        kernel.append(tuple(point**power / scale for power in range(taps)))
    rows.append(tuple(_polynomial(list(points))))
    kernel.append(tuple(Fraction(int(power == taps - 1)) for power in range(taps)))
    inverse = tuple(
        (*(point**power for point in points), Fraction(int(power == outputs - 1))) for power in range(outputs)
    )
    return ShortConvolution(outputs, taps, tuple(rows), tuple(kernel), inverse)


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients, lowest power first, of the product of (x - root)."""
    from fractions import Fraction

    found = [Fraction(1)]
    for root in roots:
        found = [
            (found[power - 1] if power else Fraction(0)) - root * (found[power] if power < len(found) else Fraction(0))
            for power in range(len(found) + 1)
        ]
    return found
