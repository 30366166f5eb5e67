"""Foreign files by their ending. Nothing in them is ever executed."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdnjax.convert.safetensors_file import read_safetensors, write_safetensors
from sdnjax.convert.torch_file import DAMAGED, read_torch
from sdnjax.convert.torch_writer import write_torch_file
from sdnjax.errors import InputError

TORCH = (".pth", ".pt", ".bin", ".ckpt")


def read_file(path: str | Path) -> Mapping[str, Any]:
    """What a checkpoint holds: tensors by name, or a trainer's mapping around them.

    `.safetensors`; PyTorch's `.pth`, `.pt`, `.bin`, `.ckpt`, zipped or of the older kind;
    NumPy's `.npz`. Tensors of PyTorch's files are read when they are asked for.

    Raises:
      InputError: no such file, another kind of file, or a damaged one.
    """
    path = Path(path)
    readers = {".safetensors": read_safetensors, ".npz": read_npz}
    readers |= dict.fromkeys(TORCH, read_torch)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: not one of the endings {', '.join(readers)}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of parsers, about what damage looks like
            return reader(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def write_file(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Name → array as `.safetensors`, `.pth` or `.npz`; never over a file that is there."""
    path = Path(path)
    writers = {".safetensors": write_safetensors, ".pth": write_torch_file, ".npz": _write_npz}
    if path.suffix not in writers:
        raise InputError(f"{path}: tensors are written as {', '.join(writers)}")
    try:
        writers[path.suffix](path, state)
    except FileExistsError:
        raise InputError(f"{path} exists: name another file") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`; sizes are checked before anything is unpacked."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                where = f"{path}: {entry.filename}"
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"{where} is compressed in a way that NumPy does not use")
                if entry.file_size > 100 * max(entry.compress_size, 2**20):
                    raise InputError(f"{where} claims to unpack to {entry.file_size} bytes")
                with archive.open(entry) as file:
                    _check_npy(file, entry.file_size, where)
                with archive.open(entry) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                arrays[entry.filename.removesuffix(".npy")] = array
    except (zlib.error, *DAMAGED) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no .npz file or a damaged one ({str(error)[:100]})") from None
    return arrays


def _write_npz(path: Path, state: Mapping[str, np.ndarray]) -> None:
    with path.open("xb") as file:
        np.savez(file, **dict[str, Any](state))


def _check_npy(file: Any, size: int, where: str) -> None:
    """The header's shape and type against the entry's size."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} has version {version} of the .npy format")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects, which are not loaded")
    if any(n < 0 for n in shape) or file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise InputError(f"{where} is damaged: {shape} of {dtype} are not its {size} bytes")
