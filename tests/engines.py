"""The reference in place of machine code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def numpy_engine() -> Iterator[None]:
    """Run with the reference instead of machine code."""
    before = os.environ.get("POLYCONV_ENGINE")
    os.environ["POLYCONV_ENGINE"] = "numpy"
    try:
        yield
    finally:
        if before is None:
            del os.environ["POLYCONV_ENGINE"]
        else:
            os.environ["POLYCONV_ENGINE"] = before
