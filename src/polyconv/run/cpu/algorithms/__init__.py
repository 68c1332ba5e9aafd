"""The algorithms, one file each: what is computed, in which loops. ``record.py`` says how to add one.

They are imported when asked for: a layer whose choice is remembered (``polyconv.run.choices``) needs one of them.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyconv.run.cpu.algorithms.record import Algorithm

NAMES = (  # each is a module here, and its record there in capitals
    "dense",
    "dense_dot",
    "dense_planar",
    "dense_rows",
    "depthwise",
    "fourier",
    "fourier_depthwise",
    "grouped",
    "planes",
    "pooling",
    "subpixel",
    "winograd",
    "winograd_planar",
)


@functools.cache
def algorithm(name: str) -> Algorithm:
    """The algorithm of a name out of ``NAMES``."""
    found: Algorithm = getattr(import_module(f"{__name__}.{name}"), name.upper())
    return found


def every() -> tuple[Algorithm, ...]:
    """All of them."""
    return tuple(algorithm(name) for name in NAMES)
