"""The safetensors format: eight bytes of length, a JSON header, one block of data.

https://github.com/huggingface/safetensors, "Format". The header maps each name to `dtype`,
`shape` and `data_offsets` into the block, which the tensors fill without holes or overlap.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdnjax.convert.array_like import MOST_AXES, LazyArray, widen_bfloat16
from sdnjax.convert.words import quoted, shown, sizes
from sdnjax.errors import InputError

MOST_HEADER = 100_000_000  # bytes, the format's own limit
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}


def read_safetensors(path: Path) -> dict[str, LazyArray]:
    """Name → array, read from the file when it is asked for; bfloat16 becomes float32.

    InputError: anything that the format forbids.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise InputError(f"{path} is no safetensors file: its header would have {length} bytes")
        header = _parse(path, file.read(length))
    first, room = 8 + length, size - 8 - length
    spans = {name: _span(f"{path}: {shown(name)}", entry) for name, entry in header.items()}
    end = 0
    for name, (start, stop, *_) in sorted(spans.items(), key=lambda item: item[1][:2]):
        if start != end:
            raise InputError(f"{path}: {shown(name)} starts at byte {start}, not at {end}")
        end = stop
    if end != room:
        raise InputError(f"{path} has {room} bytes of data where its header names {end}")
    return {name: _tensor(path, first, span) for name, span in spans.items()}


def write_safetensors(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a new file; FileExistsError if there is one."""
    names = {np.dtype(theirs): ours for ours, theirs in DTYPES.items() if ours != "BF16"}
    header, start = {}, 0
    for name, array in state.items():
        dtype = names.get(array.dtype)
        if dtype is None:
            raise InputError(f"{name} is {array.dtype}, which safetensors does not have")
        offsets = [start, start + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in state.values():
            file.write(np.ascontiguousarray(array).tobytes())


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = shown(str(error), 100)
        raise InputError(f"{path} is no safetensors file: a damaged header ({reason})") from None
    if not isinstance(header, dict):
        raise InputError(f"{path} is no safetensors file: its header is no mapping")
    header.pop("__metadata__", None)
    return header


class Span(NamedTuple):
    """Where a tensor lies in the block, and what it is."""

    start: int
    stop: int
    shape: tuple[int, ...]
    dtype: str


def _span(where: str, entry: Any) -> Span:
    """That of a tensor that fits into it."""
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise InputError(f"{where} has no dtype, shape and data_offsets") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(f"{where} is {quoted(dtype)}; known are {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > MOST_AXES:
        raise InputError(f"{where} has a shape of more than {MOST_AXES} axes, or none")
    numbers = [*shape, start, stop]
    if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise InputError(f"{where} has a shape or offsets that are no sizes: {sizes(numbers)}")
    if stop - start != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise InputError(
            f"{where}: {sizes(shape)} of {dtype} do not fill the bytes {start} to {stop}"
        )
    return Span(start, stop, tuple(shape), dtype)


def _tensor(path: Path, first: int, span: Span) -> LazyArray:
    kind = np.dtype("<f4" if span.dtype == "BF16" else DTYPES[span.dtype])
    return LazyArray(span.shape, kind, functools.partial(_read, path, first, span))


def _read(path: Path, first: int, span: Span) -> np.ndarray:
    count = span.stop - span.start
    try:
        with path.open("rb") as file:
            file.seek(first + span.start)
            data = file.read(count)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) != count:
        raise InputError(f"{path} became shorter while it was read")
    array = np.frombuffer(data, DTYPES[span.dtype]).reshape(span.shape)
    return widen_bfloat16(array) if span.dtype == "BF16" else array
