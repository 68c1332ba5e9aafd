"""Arrays of any kind in, the caller's kind out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from polyconv.run.problem import Array

DTYPES = ("float32", "float64")
_NUMBERS = tuple(np.dtype(name).num for name in DTYPES)  # NumPy works a dtype's name out in Python: 20 us at first


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
    if array.dtype.num not in _NUMBERS:
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected float32 or float64. "
            f"Convert it: {conversion(value, name, 'float32')}"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def conversion(value: Any, name: str, dtype: Any) -> str:
    """The line of Python that converts what the caller calls ``name``, whatever kind of array it is.

    Example:
        >>> conversion([1, 2], "x", "float32"), conversion(np.ones(2, int), "x", "float32")
        ("numpy.asarray(x, 'float32')", "x.astype('float32')")
    """
    if type(value).__module__.partition(".")[0] == "torch":
        return f"{name}.to(torch.{dtype})"
    if hasattr(value, "astype"):
        return f"{name}.astype('{dtype}')"
    if hasattr(value, "__dlpack__"):
        return f"numpy.from_dlpack({name}).astype('{dtype}')"
    return f"numpy.asarray({name}, '{dtype}')"


def same_dtype(arrays: Mapping[str, Array | None], given: Mapping[str, Any]) -> None:
    """Refuse arrays of different dtypes, naming each; ``given`` is what they were before they were arrays."""
    dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        first, want = next(iter(dtypes.items()))
        other = next(name for name, dtype in dtypes.items() if dtype != want)
        raise TypeError(
            f"arrays must share one dtype, got {listed}. "
            f"Convert one: {conversion(given[other], other, want)} as {first}"
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
