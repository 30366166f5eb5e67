"""A state dict as a file that `torch.load(path, weights_only=True)` reads, without PyTorch."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdnjax.convert.torch_file import BFLOAT16, DTYPES
from sdnjax.errors import InputError

# NumPy type → storage class.
STORAGES = {np.dtype(kind): name for name, (dtype, kind) in DTYPES.items() if dtype != BFLOAT16}


def write_torch_file(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a new zip archive as `torch.save` makes it; FileExistsError if there is a file.

    `content` is a mapping of arrays, texts, numbers, None, and lists, tuples and mappings of such.
    """
    arrays: list[np.ndarray] = []
    pickled = b"\x80\x02" + _pickled(content, "", arrays) + b"."
    with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            archive.writestr(f"archive/data/{key}", little.tobytes())
        archive.writestr("archive/version", "3\n")


def _pickled(value: Any, name: str, arrays: list[np.ndarray]) -> bytes:
    """The instructions of protocol 2 that make the value; its arrays are appended to `arrays`."""
    match value:
        case np.ndarray():
            if value.dtype not in STORAGES:
                raise InputError(f"{name} is {value.dtype}, which PyTorch's files do not have")
            arrays.append(value)
            return _tensor(str(len(arrays) - 1), value)
        case Mapping():
            items = [_text(str(k)) + _pickled(x, str(k), arrays) for k, x in value.items()]
            return b"}(" + b"".join(items) + b"u"
        case list():
            return b"](" + b"".join(_pickled(x, name, arrays) for x in value) + b"e"
        case tuple():
            return _tuple(*(_pickled(x, name, arrays) for x in value))
        case str():
            return _text(value)
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return _integer(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case None:
            return b"N"
    raise InputError(f"{name} is a {type(value).__name__}, which is not written")


def _tensor(key: str, array: np.ndarray) -> bytes:
    """A call of `_rebuild_tensor_v2`."""
    strides = [s // array.itemsize for s in np.empty_like(array, order="C").strides]
    storage = _tuple(
        _text("storage"),
        _global(f"torch {STORAGES[array.dtype]}Storage"),
        _text(key),
        _text("cpu"),
        _integer(array.size),
    )
    hooks = _global("collections OrderedDict") + b")R"
    arguments = _tuple(
        storage + b"Q",
        _integer(0),
        _tuple(*map(_integer, array.shape)),
        _tuple(*map(_integer, strides)),
        b"\x89",
        hooks,
    )
    return _global("torch._utils _rebuild_tensor_v2") + arguments + b"R"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def _global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def _integer(n: int) -> bytes:
    if -(2**31) <= n < 2**31:
        return b"J" + n.to_bytes(4, "little", signed=True)
    return b"\x8a\x08" + n.to_bytes(8, "little", signed=True)


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
