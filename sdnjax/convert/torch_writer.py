"""A state dict as a file that `torch.load(path, weights_only=True)` reads, without PyTorch."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sdnjax.convert.torch_file import BFLOAT16, DTYPES
from sdnjax.errors import InputError

# NumPy type → storage class.
STORAGES = {np.dtype(kind): name for name, (dtype, kind) in DTYPES.items() if dtype != BFLOAT16}


def write_torch_file(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a new zip archive as `torch.save` makes it; FileExistsError if there is a file."""
    for name, array in state.items():
        if array.dtype not in STORAGES:
            raise InputError(f"{name} is {array.dtype}, which PyTorch's files do not have")
    with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", _pickled(state))
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(state.values()):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            archive.writestr(f"archive/data/{key}", little.tobytes())
        archive.writestr("archive/version", "3\n")


def _pickled(state: Mapping[str, np.ndarray]) -> bytes:
    """A dict of calls of `_rebuild_tensor_v2`, in the instructions of protocol 2."""
    items = [_text(name) + _tensor(str(key), x) for key, (name, x) in enumerate(state.items())]
    return b"\x80\x02}(" + b"".join(items) + b"u."


def _tensor(key: str, array: np.ndarray) -> bytes:
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
    if n < 2**31:
        return b"J" + n.to_bytes(4, "little")
    return b"\x8a\x08" + n.to_bytes(8, "little")


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
