"""A prepared call as a function of the interpreter's own kind, so that a call is one step of Python.

Looking at the array, making the result and going through ``ctypes`` took 1 us of each call, more than the work of many
a small layer. Machine code does the same in 0.07 us (`polyconv.run.cpu.entry_code`). It relies on where NumPy keeps the
fields of an array; where that cannot be confirmed, calls are made in Python.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from polyconv.run.cpu import buffers, entry_code, pool

Array = npt.NDArray[Any]

_METH_O = 8
_ARRAY_TYPE, _NEW_FROM_DESCR, _SET_BASE_OBJECT = 2, 94, 282  # their numbers in NumPy's table


class _Method(ctypes.Structure):
    """CPython's ``PyMethodDef``."""

    _fields_ = (("name", ctypes.c_char_p), ("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


class _Record(np.ndarray[Any, Any]):
    """The words of `entry_code`, which machine code gets as ``self``, and what they point to."""

    keep: object


class IntoNew:
    """A call on two arrays as a function that takes the first and returns the second, a new one.

    Args:
        call: of two arrays.
        shape: of the first.
        out_shape: of the second.
        dtype: of both.
        allocate: makes the second: see `polyconv.run.cpu.buffers.allocator`.
        otherwise: takes whatever is not an array of this shape and dtype, contiguous and aligned.

    Example:
        >>> from polyconv.run.cpu.pool import Call
        >>> call, dtype = Call([], [0, 0], arrays=(0, 1)), np.dtype("float32")
        >>> run = IntoNew(call, (2, 3), (4,), dtype, buffers.allocator((4,), dtype), np.negative)
        >>> run(np.ones((2, 3), dtype)).shape, run(np.ones(2))
        ((4,), array([-1., -1.]))
        >>> run = settled(run)
        >>> run(np.ones((2, 3), dtype)).shape, run(np.ones(2))
        ((4,), array([-1., -1.]))
    """

    __slots__ = ("allocate", "call", "dtype", "otherwise", "out_shape", "shape")

    def __init__(
        self,
        call: pool.Call,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        allocate: Callable[[], Array],
        otherwise: Callable[[Array], Array],
    ) -> None:
        self.call, self.shape, self.out_shape, self.dtype = call, shape, out_shape, dtype
        self.allocate, self.otherwise = allocate, otherwise

    def __call__(self, x: Array) -> Array:
        """The second array, in steps of Python: for a first call, since making the function takes 6 us."""
        if x.shape != self.shape or x.dtype is not self.dtype or not x.flags.carray:
            return self.otherwise(x)
        out = self.allocate()
        self.call(x, out)
        return out

    def made(self) -> Callable[[Array], Array]:
        """The same as a function of the interpreter, where there can be one."""
        entries, block = _entries(), self.call.block
        if entries is None or len(block) > entry_code.MOST_WORDS:
            return self
        size = prod(self.out_shape) * self.dtype.itemsize
        words = [0] * entry_code.SIZES
        words[entry_code.DTYPE] = id(self.dtype)
        words[entry_code.AXES], words[entry_code.OUT_AXES] = len(self.shape), len(self.out_shape)
        words[entry_code.LEAST_ROOM] = size
        words[entry_code.SHARED], words[entry_code.MOST_ROOM] = buffers.shared(size)
        words[entry_code.ALLOCATE] = 0 if buffers.is_numpys(self.allocate) else id(self.allocate)
        words[entry_code.OTHERWISE] = id(self.otherwise)
        words[entry_code.HOLDS] = self.call.holds
        words[entry_code.FIRST_ARRAY] = self.call.first_array
        words[entry_code.BLOCK_BYTES] = 8 * len(block)
        words += (*self.shape, *self.out_shape)
        record = np.array((*words, *block), np.int64).view(_Record)
        record[entry_code.BLOCK] = pool.address(record) + 8 * len(words)
        record.keep = self
        return entries.function(entries.run, record)


def settled(run: Callable[..., Array]) -> Callable[..., Array]:
    """What `IntoNew` makes of itself, when it is called again and again; any other function as it is."""
    return run.made() if isinstance(run, IntoNew) else run


def attempt(run: Callable[[Array], Array]) -> Callable[[object], Array | None] | None:
    """What is ``settled``, as a function that takes anything and returns None for what is not that array.

    None for a function that is none of these.
    """
    record = getattr(run, "__self__", None)
    entries = _entries() if type(record) is _Record else None
    return entries.function(entries.attempt, record) if entries else None


_alive: list[_Entries] = []


class _Entries:
    """The two functions of `entry_code` in this process."""

    def __init__(self, symbols: dict[str, int]) -> None:
        python = ctypes.pythonapi
        table = (ctypes.c_int64 * entry_code.KNOWN).from_address(symbols["polyconv_python"])
        numpy = _numpy_table()
        table[entry_code.ARRAY_TYPE], table[entry_code.NONE] = numpy[_ARRAY_TYPE], id(None)
        table[entry_code.NEW_ARRAY], table[entry_code.SET_BASE] = numpy[_NEW_FROM_DESCR], numpy[_SET_BASE_OBJECT]
        for word, function in (
            (entry_code.CALL, python.PyObject_CallFunctionObjArgs),
            (entry_code.KEEP, python.Py_IncRef),
            (entry_code.DROP, python.Py_DecRef),
            (entry_code.LEAVE, python.PyEval_SaveThread),
            (entry_code.RETURN, python.PyEval_RestoreThread),
        ):
            table[word] = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
            ctypes.cast(python.PyCFunction_NewEx, ctypes.c_void_p).value or 0
        )
        self._methods = [
            _Method(b"run", symbols["polyconv_run"], _METH_O, b"Run a layer."),
            _Method(b"attempt", symbols["polyconv_attempt"], _METH_O, b"Run a layer; None for other arrays."),
        ]
        self.run, self.attempt = map(ctypes.addressof, self._methods)
        _alive.append(self)  # a method outlives its functions, also where several threads came here first

    def function(self, method: int, record: object) -> Callable[..., Any]:
        """A builtin function."""
        made: Callable[..., Any] = self._new(method, record, None)
        return made


@functools.cache
def _entries() -> _Entries | None:
    """The functions, where this interpreter and this NumPy are as the code takes them to be; otherwise None."""
    if not _as_expected():
        return None
    try:
        return _Entries(pool.symbols())
    except (AttributeError, ValueError, ImportError):
        return None


def _numpy_table() -> Any:
    """NumPy's functions for C, by their number."""
    core = getattr(np, "_core", None) or np.core
    capsule = core._multiarray_umath._ARRAY_API
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ctypes.cast(ctypes.pythonapi.PyCapsule_GetPointer, ctypes.c_void_p).value or 0
    )
    return ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))


def _as_expected() -> bool:
    """Are the fields of arrays where `entry_code` looks for them."""
    if pool.DATA_OFFSET != entry_code.DATA or np.ndarray.__basicsize__ < entry_code.FLAGS + 4:
        return False
    base = np.arange(24.0).reshape(2, 3, 4)
    for one in (base, base[1:, 1:, ::2], base.astype("f4").T, np.empty((0, 7), "i2")):
        word = functools.partial(_word, id(one))
        sizes = (ctypes.c_int64 * one.ndim).from_address(word(entry_code.DIMENSIONS))
        flags = word(entry_code.FLAGS) & 0xFFFFFFFF
        if (
            word(entry_code.TYPE) != id(np.ndarray)
            or word(entry_code.NDIM) & 0xFFFFFFFF != one.ndim
            or tuple(sizes) != one.shape
            or word(entry_code.DESCR) != id(one.dtype)
            or flags & entry_code.NEEDED != (1 if one.flags.c_contiguous else 0) + (0x100 if one.flags.aligned else 0)
        ):
            return False
    return True


def _word(at: int, offset: int) -> int:
    return ctypes.c_int64.from_address(at + offset).value
