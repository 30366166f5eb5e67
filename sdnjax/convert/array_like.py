"""Tensors of a file that are read when somebody asks for them, and what NumPy pickles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdnjax.convert.inert_pickle import Name

MOST_AXES = 64  # NumPy's limit


@dataclass(frozen=True, eq=False)
class LazyArray:
    """An array that `read()` makes anew each time; its shape and type are known before.

    `shape` and `dtype` are those of the array: bfloat16 is float32 already.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The array, which may be a read-only view of the file."""
        array = self.read()
        return array if dtype is None else array.astype(dtype)

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16, given as 16-bit integers, as the float32 of the same value."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


class PickledArray:
    """A NumPy array in a pickle: made empty, then given its state, as NumPy does it."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def restore(self, state: Any) -> None:
        """`(version, shape, dtype, in Fortran's order, bytes)`; ValueError for another."""
        _, shape, kind, fortran, data = state
        if not isinstance(kind, PickledDtype) or not isinstance(data, bytes):
            return  # of Python's objects: not read
        self.array = plain_array(data, kind, shape, "F" if fortran else "C")

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's; AttributeError while it is none."""
        return self._found.shape

    @property
    def dtype(self) -> np.dtype:
        """The array's."""
        return self._found.dtype

    @property
    def ndim(self) -> int:
        """The array's."""
        return self._found.ndim

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._found if dtype is None else self._found.astype(dtype)

    @property
    def _found(self) -> np.ndarray:
        if self.array is None:
            raise AttributeError("an array of Python objects is not read")
        return self.array


class PickledDtype:
    """A NumPy type in a pickle: its name, and the order of bytes that its state gives."""

    def __init__(self, name: str):
        known = isinstance(name, str) and len(name) <= 4 and name[:1] in "fiub?"
        self.dtype: np.dtype | None = np.dtype(name) if known else None

    def restore(self, state: Any) -> None:
        """`(version, byte order, …)`."""
        if self.dtype is not None and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def plain_array(data: bytes, kind: PickledDtype, shape: Any, order: Any) -> np.ndarray | None:
    """The array of these bytes; None for types that are no numbers."""
    if kind.dtype is None:
        return None
    if not isinstance(shape, tuple) or len(shape) > MOST_AXES:
        raise ValueError("an array without a shape")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise ValueError("an array whose bytes are not its shape's")
    array = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(kind.dtype.newbyteorder("="), copy=False)


def numpy_object(name: str, arguments: tuple[Any, ...]) -> Any:
    """What a pickle's call makes of NumPy's arrays and types; NotImplemented for other calls."""
    match name, arguments:
        case (
            "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct",
            (Name("numpy.ndarray"), *_),
        ):
            return PickledArray()
        case "numpy.dtype", (str(kind), *_):
            return PickledDtype(kind)
        case "_codecs.encode", (str(text), "latin1"):  # how protocol 2 writes bytes
            return text.encode("latin1")
        case (
            "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer",
            ((bytes() | bytearray()) as data, PickledDtype() as kind, shape, order),
        ):
            array = plain_array(bytes(data), kind, shape, order)
            return NotImplemented if array is None else array
    return NotImplemented
