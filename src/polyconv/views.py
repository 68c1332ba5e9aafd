"""Numbers as pictures: what to show of an output whose values are not a photograph's. All return values from 0 to 1."""

from __future__ import annotations

import numpy as np

from polyconv.run.problem import Array

OUTLIERS = 99.5  # percentile that a scale is taken from, so that one bright spot does not darken all else
GAP = 2  # pixels between the tiles of a sheet


def scaled(values: Array) -> Array:
    """From the smallest value, black, to the largest, white; a flat picture is mid-grey."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.full_like(values, 0.5)
    return np.asarray((values - low) / (high - low))


def signed(values: Array) -> Array:
    """Zero is mid-grey, negative darker, positive brighter: for edges."""
    return np.asarray(0.5 + values / (2 * _reach(values)))


def magnitude(values: Array) -> Array:
    """Zero is black, the farther from it the brighter: for how strong an edge is."""
    return np.asarray(np.abs(values) / _reach(values))


def _reach(values: Array) -> float:
    reach = float(np.percentile(np.abs(values), OUTLIERS)) if values.size else 0.0
    return reach or 1.0


def sheet(planes: Array, columns: int | None = None) -> Array:
    """Planes (n, height, width) beside and below each other, white gaps between them.

    Args:
        planes: values from 0 to 1.
        columns: tiles in a row; about as many as rows if not given.

    Example:
        >>> import numpy as np
        >>> sheet(np.zeros((5, 10, 20))).shape
        (22, 64)
    """
    number, height, width = planes.shape
    columns = columns or max(1, int(np.ceil(number**0.5)))
    rows = -(-number // columns)
    result = np.ones((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), planes.dtype)
    for index, plane in enumerate(planes):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        result[top : top + height, left : left + width] = plane
    return result


def first_look(planes: Array, most: int = 16) -> tuple[Array, str]:
    """A picture of any output (channels, height, width), and in words what it shows.

    One channel is grey, three are red, green and blue: as they are where all values lie from 0 to 1, else scaled from
    the smallest (black) to the largest (white). Other numbers of channels are a sheet of the first ``most``, each
    scaled by itself.

    Example:
        >>> import numpy as np
        >>> picture, words = first_look(np.zeros((3, 10, 20)))
        >>> picture.shape, words
        ((10, 20, 3), 'its 3 channels as red, green and blue, values as they are')
    """
    channels = len(planes)
    if channels in (1, 3):
        as_is = bool(np.all((planes >= 0) & (planes <= 1)))
        values = planes if as_is else scaled(planes)
        what = "its channel in grey" if channels == 1 else "its 3 channels as red, green and blue"
        how = "values as they are" if as_is else f"{_range(planes)} shown as black to white"
        return np.moveaxis(values, 0, -1), f"{what}, {how}"
    shown = planes[:most]
    words = f"the first {len(shown)} of {channels} channels" if channels > most else f"its {channels} channels"
    return sheet(np.stack([scaled(plane) for plane in shown])), f"{words} as tiles, each from black to white"


def _range(values: Array) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else "no finite values"
