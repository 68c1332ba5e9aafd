"""Short convolutions with few multiplications: the matrices of Cook and Toom's algorithm, exact.

F(m, r) gives m outputs of a kernel of r taps with m + r - 1 multiplications instead of m * r:
``y = inverse @ ((kernel @ g) * (data @ d))`` for data d of m + r - 1 values and taps g. The matrices come from the
interpolation of polynomials at m + r - 2 points and infinity; small points keep rounding errors small.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks" (arXiv 1509.09308).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from fractions import Fraction

POINTS = ((0, 1), (1, 1), (-1, 1), (1, 2), (-1, 2), (2, 1), (-2, 1), (3, 4), (-3, 4), (4, 3), (-4, 3))
FOUR = ((0, 1), (1, 2), (-1, 1), (2, 1))  # half the error of 0, 1, -1, 1/2 in F(3, 3)
FIVE = ((0, 1), (1, 1), (-1, 1), (2, 1), (-1, 2))  # 0.6 times the error of 0, 1, -1, 2, -2 in F(4, 3)

Matrix: TypeAlias = "tuple[tuple[Fraction, ...], ...]"


class ShortConvolution(NamedTuple):
    """F(outputs, taps): ``data`` (n, n), ``kernel`` (n, taps), ``inverse`` (outputs, n), n = outputs + taps - 1."""

    outputs: int
    taps: int

    @property
    def points(self) -> int:
        """Multiplications."""
        return self.outputs + self.taps - 1

    @property
    def data(self) -> Matrix:
        """What transforms the data."""
        return _matrices(self.outputs, self.taps)[0]

    @property
    def kernel(self) -> Matrix:
        """What transforms the taps."""
        return _matrices(self.outputs, self.taps)[1]

    @property
    def inverse(self) -> Matrix:
        """What transforms the products."""
        return _matrices(self.outputs, self.taps)[2]


def short_convolution(outputs: int, taps: int) -> ShortConvolution:
    """F(outputs, taps).

    Raises:
        ValueError: more interpolation points are needed than there are good ones.

    Example:
        >>> [[int(number) for number in row] for row in short_convolution(2, 3).inverse]
        [[1, 1, 1, 0], [0, 1, -1, 1]]
    """
    _points(outputs, taps)
    return ShortConvolution(outputs, taps)


@lru_cache(maxsize=64)
def _matrices(outputs: int, taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """What transforms data, taps and products: for who writes code."""
    from fractions import Fraction  # 2 ms

    points = [Fraction(*point) for point in _points(outputs, taps)]
    rows = [
        (*_polynomial([other for number, other in enumerate(points) if number != place]), Fraction(0))
        for place in range(len(points))
    ]
    rows.append(tuple(_polynomial(points)))
    kernel = tuple(tuple(map(Fraction, row)) for row in _kernel_rows(points, taps))
    inverse = tuple(
        (*(point**power for point in points), Fraction(int(power == outputs - 1))) for power in range(outputs)
    )
    return tuple(rows), kernel, inverse


def kernel_matrix(outputs: int, taps: int) -> list[list[float]]:
    """``kernel`` of `short_convolution` in float64, each number the nearest one.

    The first nine points are multiples of a quarter, so that all before the division is exact.

    Raises:
        ValueError: other points are needed, or more than there are good ones.

    Example:
        >>> kernel_matrix(2, 3)
        [[-1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
    """
    points = _points(outputs, taps)
    if any(under == 3 for _, under in points):
        raise ValueError(f"F({outputs}, {taps}) needs points that float64 does not hold")
    rows = _kernel_rows([over / under for over, under in points], taps)
    return [[number + 0.0 for number in row] for row in rows]  # no zero is negative


def _points(outputs: int, taps: int) -> tuple[tuple[int, int], ...]:
    """Where polynomials are interpolated, besides infinity."""
    count = outputs + taps - 2
    if count > len(POINTS):
        raise ValueError(f"F({outputs}, {taps}) needs {count} points, at most {len(POINTS)} keep rounding errors small")
    return {len(FOUR): FOUR, len(FIVE): FIVE}.get(count, POINTS[:count])


def _kernel_rows(points: Sequence[Any], taps: int) -> list[list[Any]]:
    """What transforms the taps: [point][tap], in whatever numbers the points are."""
    found = []
    for place, point in enumerate(points):
        scale = prod(point - other for number, other in enumerate(points) if number != place)
        found.append([point**power / scale for power in range(taps)])
    return [*found, [int(power == taps - 1) for power in range(taps)]]


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
