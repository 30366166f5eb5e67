"""Foreign files by their content, whatever they are called. Nothing in them is ever executed."""

from __future__ import annotations

import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdnjax.convert.safetensors_file import read_safetensors, write_safetensors
from sdnjax.convert.torch_file import DAMAGED, read_torch
from sdnjax.convert.torch_writer import write_torch_file
from sdnjax.convert.words import quoted, shown, sizes
from sdnjax.errors import InputError

# Of a folder as `save_pretrained` writes it, the file that is read, in Hugging Face's own order.
IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# How files begin that people take for checkpoints, and what to do about them.
NOT_READ = {
    b"\x1f\x8b": "is compressed with gzip: unpack it first",
    b"\xfd7zXZ": "is compressed with xz: unpack it first",
    b"BZh": "is compressed with bzip2: unpack it first",
    b"Rar!": "is a RAR archive: unpack it first",
    b"\x89HDF": "is an HDF5 file, of Keras or TensorFlow: its names have no table here",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file itself (git lfs pull)",
    b"<!DOCTYPE": "is a web page: the download did not give the file",
    b"<!doctype": "is a web page: the download did not give the file",
    b"<html": "is a web page: the download did not give the file",
    b"\x93NUMPY": "is a single array without a name: save arrays by name as .npz",
    b"GGUF": "is a GGUF file: its names have no table here",
}
MOST_INDEX = 100_000_000  # bytes of an index of shards


def read_file(path: str | Path) -> Mapping[str, Any]:
    """What a checkpoint holds: tensors by name, or a trainer's mapping around them.

    Known by content: safetensors; PyTorch's files, zipped or of the older kind; pickles of
    NumPy arrays by name; NumPy's `.npz`; an index of shards (`….index.json`), which lie beside
    it; a folder with one of `IN_FOLDER`. Tensors are read when they are asked for.

    Raises:
      InputError: no such file, another kind of file, or a damaged one; always one line.
    """
    path = checkpoint_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of parsers, about what damage looks like
            return _reader(path)(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or shown(str(error))}") from None
    except Exception as error:  # whatever a foreign file can do to a parser
        reason = f"{type(error).__name__}: {shown(str(error), 100)}"
        raise InputError(f"{path} cannot be read: it is damaged ({reason})") from None


def checkpoint_file(path: str | Path) -> Path:
    """The file itself; of a folder, the one that is its checkpoint.

    InputError: a folder with none, or with several that none of `IN_FOLDER` puts in order.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in IN_FOLDER:
        if (path / name).is_file():
            return path / name
    endings = (".safetensors", ".bin", ".pth", ".pt", ".npz", ".ckpt", ".tar")
    found = sorted(x.name for x in path.iterdir() if x.name.endswith(endings) and x.is_file())
    if len(found) == 1:
        return path / found[0]
    if found:
        more = ", …" if len(found) > 5 else ""
        raise InputError(f"{path} holds {', '.join(found[:5])}{more}: name one of them")
    raise InputError(f"{path} is a folder without a checkpoint: {' or '.join(IN_FOLDER)}")


def _reader(path: Path) -> Callable[[Path], Mapping[str, Any]]:
    """By the first bytes, or the ending where they tell nothing."""
    with path.open("rb") as file:
        start = file.read(512)
    for beginning, what in NOT_READ.items():
        if start.startswith(beginning):
            raise InputError(f"{path} {what}")
    if start[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive: unpack it first")
    if start.startswith(b"PK"):
        return _read_zip
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= length <= path.stat().st_size:
        return read_safetensors
    if start[:1] == b"\x80":
        return read_torch
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        **{".safetensors": read_safetensors, ".npz": _read_zip},
        **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar"), read_torch),
    }
    if start.lstrip()[:1] == b"{":
        return read_shards
    if path.suffix.lower() in readers:
        return readers[path.suffix.lower()]
    raise InputError(
        f"{path} is no checkpoint: neither safetensors, nor a file of torch.save, nor an .npz; it "
        f"begins with {shown(repr(start[:8]))}"
    )


def _read_zip(path: Path) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGED as error:
        reason = shown(str(error), 100)
        raise InputError(
            f"{path} cannot be read: no zip archive or a damaged one ({reason})"
        ) from None
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        content: Mapping[str, Any] = read_torch(path)
        return content
    if names and all(name.endswith(".npy") for name in names):
        return read_npz(path)
    some = ", ".join(shown(name, 40) for name in names[:3])
    raise InputError(
        f"{path} is a zip archive that holds neither PyTorch's data.pkl nor NumPy's arrays, but "
        f"{some or 'nothing'}"
    )


def read_shards(path: Path) -> dict[str, Any]:
    """The tensors of an index of shards, `{"weight_map": {name: file}}`; files lie beside it."""
    if path.stat().st_size > MOST_INDEX:
        raise InputError(f"{path} is too large for an index of shards")
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, RecursionError, KeyError, TypeError):
        places = None
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise InputError(
            f"{path} is no index of shards: it has no weight_map from tensors to files"
        )
    files: dict[str, Mapping[str, Any]] = {}
    for name in sorted(set(places.values())):
        plain = name == Path(name).name and name not in ("", "..") and len(name) < 256
        if not plain or not name.isprintable():
            raise InputError(f"{path} names {quoted(name)}, which is no file beside it")
        if not (path.parent / name).is_file():
            raise InputError(f"{path} names {quoted(name)}, which is not beside it: fetch it too")
        if (path.parent / name).samefile(path):
            raise InputError(f"{path} names itself as a shard")
        files[name] = read_file(path.parent / name)
    for name, file in places.items():
        if name not in files[file]:
            raise InputError(f"{path}: {quoted(name)} is not in {quoted(file)}")
    beside = [k for content in files.values() for k in content if k not in places]
    if beside:
        raise InputError(f"{path} does not name {quoted(beside[0])}, which its shards hold")
    return {name: files[file][name] for name, file in places.items()}


def write_file(
    path: str | Path, state: Mapping[str, np.ndarray], around: Mapping[str, Any] | None = None
) -> None:
    """Name → array as `.safetensors`, `.pth` or `.npz`; never over a file that is there.

    With `around`, a `.pth` holds `{**around, "state_dict": state}`; the others hold tensors alone.
    """
    path = Path(path)
    writers: dict[str, Callable[[Path, Mapping[str, Any]], None]] = {
        ".safetensors": write_safetensors,
        ".pth": write_torch_file,
        ".npz": _write_npz,
    }
    if path.suffix not in writers:
        raise InputError(f"{path}: tensors are written as {', '.join(writers)}")
    state = {name: np.asarray(x) for name, x in state.items()}  # also what `read_file` gives
    content = {**around, "state_dict": state} if around and path.suffix == ".pth" else state
    try:
        writers[path.suffix](path, content)
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
                where = f"{path}: {shown(entry.filename)}"
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
        reason = shown(str(error), 100)
        raise InputError(f"{path} is no .npz file or a damaged one ({reason})") from None
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
        raise InputError(
            f"{where} is damaged: {sizes(shape)} of {shown(str(dtype))} are not its {size} bytes"
        )
