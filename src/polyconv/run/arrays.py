"""Arrays of any kind in, the caller's kind out."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from polyconv.run.problem import Array

DTYPES = ("float32", "float64")


def as_array(value: Any, name: str) -> Array:
    """``value`` as a NumPy array that shares its memory where that is possible.

    Takes NumPy arrays, what speaks DLPack, ``__array_interface__`` or ``__array__``, and nested sequences of floats.

    Raises:
        TypeError: for a dtype other than float32 or float64, with the conversion to make.
    """
    if isinstance(value, np.ndarray):
        array = value
    else:
        try:
            array = np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
        except (RuntimeError, BufferError, TypeError, ValueError) as error:
            raise TypeError(
                f"{name} of type {type(value).__name__} cannot be read as an array on the CPU: "
                f"{str(error).rstrip('.')}. Pass a NumPy array, or detach it and move it to the CPU first"
            ) from None
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected float32 or float64. Convert it: {name}.astype('float32')"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def same_dtype(arrays: dict[str, Array | None]) -> None:
    """Refuse arrays of different dtypes, naming each."""
    dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        first, want = next(iter(dtypes.items()))
        other = next(name for name, dtype in dtypes.items() if dtype != want)
        raise TypeError(
            f"arrays must share one dtype, got {listed}. Convert one: {other}.astype({str(want)!r}) as {first}"
        )


def as_kind_of(original: Any, result: Array) -> Any:
    """``result`` as the kind of array that ``original`` is, without a copy; NumPy where that kind is not known."""
    if isinstance(original, np.ndarray) or not hasattr(original, "__dlpack__"):
        return result
    if hasattr(original, "__array_namespace__"):
        return original.__array_namespace__().from_dlpack(result)
    module = sys.modules.get(type(original).__module__.partition(".")[0])
    for place in (module, getattr(module, "numpy", None), getattr(module, "dlpack", None)):
        if place is not None and hasattr(place, "from_dlpack"):
            return place.from_dlpack(result)
    return result
