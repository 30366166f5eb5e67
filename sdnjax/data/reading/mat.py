"""Label maps in MATLAB files, without executing or trusting anything in them.

Two data sets keep labels in MAT files of level 5: PASCAL Context a matrix `LabelMap`, SBD a
structure `GTcls` with the matrix `Segmentation`. A file is a list of elements, each a type, a
size and that many bytes; a matrix is an element of elements: flags, dimensions, name, values.
Nothing else of the format is read, and a damaged file costs no more memory than `_LIMIT`. (SciPy
reads all of it, but some damaged files end the process there.)
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from sdnjax.errors import InputError

# Variable → the field that holds the labels, None for the variable itself.
_FIELD_OF = {"LabelMap": None, "GTcls": "Segmentation"}
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_MATRIX, _COMPRESSED = 14, 15
_STRUCTURE, _NUMERIC = 2, range(6, 16)  # classes of matrices
_COMPLEX = 0x0800
_LIMIT = 1 << 28  # bytes of one variable: 33 million pixels as MATLAB's doubles
_MOST_ELEMENTS = 1000  # in one list; the files that are read have five


_Element = tuple[int, memoryview]  # type and bytes
_Matrix = tuple[str, int, tuple[int, ...], list[_Element]]  # name, class, dimensions, the rest


class _Damage(Exception):
    """What is wrong with a file, in words."""


def decode_mat(data: bytes, name: str) -> np.ndarray:
    """Decodes the label map of a MATLAB file (`save` with -v6 or -v7) to int32 [H, W].

    Raises: InputError that names the file if it is empty, damaged, no such file, or holds
      neither `LabelMap` nor `GTcls.Segmentation` as a matrix of whole numbers.
    """
    if not data:
        raise InputError(f"{name}: the file is empty")
    if data[:10] == b"MATLAB 7.3":
        raise InputError(f"{name}: a MATLAB 7.3 file; write it again with save -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise InputError(f"{name}: not a MATLAB file of level 5 (save -v7)")
    try:
        return _whole_numbers(_labels(memoryview(data)[128:], order))
    except _Damage as error:
        raise InputError(f"{name}: {error}") from None
    except (ValueError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: the file is truncated or damaged ({reason})") from None


def _labels(data: memoryview, order: str) -> np.ndarray:
    """The values of the first variable that holds labels."""
    seen = []
    for kind, payload in _elements(data, order):
        if kind == _COMPRESSED:
            (kind, payload), *_ = [*_elements(_inflated(payload), order)] or [(0, payload)]
        if kind != _MATRIX:
            continue
        matrix = _matrix(payload, order)
        variable, kind, _, parts = matrix
        if variable in _FIELD_OF:
            field = _FIELD_OF[variable]
            return _values(matrix if field is None else _field(kind, parts, field, order), order)
        seen.append(variable[:40])
    raise _Damage(
        f"no variable {' or '.join(_FIELD_OF)} in it"
        + (f", only {', '.join(map(ascii, seen[:4]))}" if seen else "")
    )


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Type and bytes of each element; a small one shares its first word with its size."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > _MOST_ELEMENTS:
            raise ValueError("too many elements")
        (word,) = struct.unpack_from(order + "I", data, at)
        if word >> 16:
            kind, size, start, following = word & 0xFFFF, word >> 16, at + 4, at + 8
        else:
            kind, start = word, at + 8
            (size,) = struct.unpack_from(order + "I", data, at + 4)
            padding = 0 if kind == _COMPRESSED else -size % 8
            following = start + size + padding
        if start + size > len(data) or (word >> 16 and size > 4):
            raise ValueError("an element goes on beyond its end")
        yield kind, data[start : start + size]
        at = following


def _inflated(data: memoryview) -> memoryview:
    stream = zlib.decompressobj()
    content = stream.decompress(data, _LIMIT)
    if not stream.eof:
        raise ValueError("compressed data is incomplete or too large")
    return memoryview(content)


def _matrix(payload: memoryview, order: str) -> _Matrix:
    """Name, class, dimensions and remaining elements."""
    flags, dimensions, name, *parts = _at_least(3, _elements(payload, order))
    (flag,) = struct.unpack_from(order + "I", flags[1])
    shape = struct.unpack(order + "i" * (len(dimensions[1]) // 4), dimensions[1])
    kind = 0 if flag & _COMPLEX else flag & 0xFF
    return bytes(name[1]).decode("latin-1"), kind, shape, parts


def _field(kind: int, parts: list[_Element], field: str, order: str) -> _Matrix:
    """The matrix in a field of a structure (of the first one in an array of them)."""
    if kind != _STRUCTURE:
        raise _Damage(f"GTcls is no structure with the field {field}")
    length, names, *values = _at_least(2, parts)
    (length,) = struct.unpack_from(order + "i", length[1])
    text = bytes(names[1])
    if length < 1 or len(text) % length or len(text) > length * _MOST_ELEMENTS:
        raise ValueError("field names")
    fields = [text[i : i + length].split(b"\0")[0] for i in range(0, len(text), length)]
    if field.encode() not in fields:
        raise _Damage(f"GTcls has no field {field}")
    kind, payload = _at_least(len(fields), values)[fields.index(field.encode())]
    if kind != _MATRIX:
        raise _Damage(f"GTcls.{field} is no matrix")
    return _matrix(payload, order)


def _values(matrix: _Matrix, order: str) -> np.ndarray:
    """The numbers of a matrix [H, W], as they are stored."""
    _, kind, shape, parts = matrix
    if kind not in _NUMERIC or len(shape) != 2 or min(shape) < 1:
        raise _Damage(f"its labels are no matrix of real numbers (class {kind}, shape {shape})")
    ((number, payload), *_) = _at_least(1, parts)
    if number not in _NUMBERS:
        raise ValueError(f"numbers of type {number}")
    values = np.frombuffer(payload, order + _NUMBERS[number])
    if values.size != math.prod(shape):
        raise ValueError(f"{values.size} numbers for {shape[0]}×{shape[1]} pixels")
    return values.reshape(shape, order="F")


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    fits = np.isfinite(values).all() and values.min() >= 0 and values.max() <= 0xFFFF
    if not fits or (values != np.floor(values)).any():
        raise _Damage("label ids must be whole numbers from 0 to 65535")
    return np.ascontiguousarray(values, np.int32)


def _at_least(count: int, found: Iterable[_Element]) -> list[_Element]:
    elements = list(found)
    if len(elements) < count:
        raise ValueError("elements are missing")
    return elements
