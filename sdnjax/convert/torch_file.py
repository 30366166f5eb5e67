"""PyTorch's files without PyTorch: a pickle that names storages, and the storages' bytes.

Since 1.6 a zip archive (`NAME/data.pkl`, `NAME/data/KEY`, uncompressed); before, and in many
published checkpoints, four pickles followed by the storages one after another.
"""

from __future__ import annotations

import functools
import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from sdnjax.convert import inert_pickle
from sdnjax.convert.array_like import (
    MOST_AXES,
    LazyArray,
    numpy_object,
    widen_bfloat16,
)
from sdnjax.convert.inert_pickle import Name, Opaque, PickleError
from sdnjax.convert.words import quoted, shown, sizes
from sdnjax.errors import InputError

# What zipfile raises for damaged archives.
DAMAGED = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, struct.error)
MAGIC = 0x1950A86A20F9469CFC6C
BFLOAT16 = "bfloat16"
MOST_EXPANDED = 2**24  # numbers of a tensor that repeats its storage by strides of 0
# Storage class and dtype, as PyTorch names them; None: a kind that is not read.
DTYPES = {
    "Float": ("float32", "<f4"),
    "Double": ("float64", "<f8"),
    "Half": ("float16", "<f2"),
    "BFloat16": (BFLOAT16, "<u2"),
    "Long": ("int64", "<i8"),
    "Int": ("int32", "<i4"),
    "Short": ("int16", "<i2"),
    "Char": ("int8", "<i1"),
    "Byte": ("uint8", "<u1"),
    "Bool": ("bool", "?"),
}
STORAGES = {f"torch.{kind}Storage": dtype for kind, (dtype, _) in DTYPES.items()}
NUMPY = dict(DTYPES.values())


@dataclass(frozen=True)
class Storage:
    """Where a tensor's numbers are: `read()` gives the bytes; dtype None: not typed."""

    dtype: str | None
    read: Callable[[], Any]


class View(NamedTuple):
    """A tensor: where it lies in a storage, in elements of its type."""

    where: str
    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def lazily(self) -> LazyArray:
        """The array, whose storage is read when NumPy asks for it."""
        kind = np.dtype("<f4" if self.dtype == BFLOAT16 else NUMPY[self.dtype])
        return LazyArray(self.shape, kind, self.read)

    def read(self) -> np.ndarray:
        """A read-only view of the storage, its extent checked first."""
        shape, kind, data = self.shape, np.dtype(NUMPY[self.dtype]), self.storage.read()
        last = sum((n - 1) * s for n, s in zip(shape, self.strides, strict=True))
        count = 0 if 0 in shape else last + 1
        room = len(data) // kind.itemsize
        if math.prod(shape) > max(room, MOST_EXPANDED):
            raise InputError(f"{self.where}: a tensor of {sizes(shape)} made of {room} numbers")
        if self.offset + count > room:
            raise InputError(
                f"{self.where}: a tensor of {sizes(shape)} reaches beyond its storage of {room}"
            )
        values = np.frombuffer(data, kind, room)[self.offset : self.offset + count]
        if self.dtype == BFLOAT16:
            values = widen_bfloat16(values)
        steps = tuple(s * values.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values, shape, steps, writeable=False)


def read_torch(path: Path) -> Any:
    """The pickled object, of plain types, arrays, and `Opaque`s for all other kinds.

    Raises:
      InputError: another kind of file, a damaged one, or one that wants to run something.
    """
    with path.open("rb") as file:
        start = file.read(4)
    try:
        content = _read_zip(path) if start == b"PK\x03\x04" else _read_legacy(path)
    except (PickleError, *DAMAGED) as error:
        raise InputError(f"{path} cannot be read: {shown(str(error), 200)}") from None
    if isinstance(content, Opaque):
        raise InputError(
            f"{path} holds a whole {shown(content.name)}: save its state_dict() instead"
        )
    return content


def _read_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise PickleError("a zip archive without PyTorch's data.pkl")
    if pickles[0].removesuffix("data.pkl") + "constants.pkl" in entries:
        raise PickleError("it is a TorchScript program: save the model's state_dict() instead")
    # PyTorch does not compress: nothing may unpack to more than is there.
    packed = sum(entry.file_size for entry in entries.values())
    stored = all(e.compress_type == zipfile.ZIP_STORED for e in entries.values())
    if not stored or packed > path.stat().st_size:
        raise PickleError(f"its {len(entries)} parts would unpack to {packed} bytes")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in entries and archive.read(order).strip() != b"little":
        raise PickleError("it was written by a big-endian machine")

    # Tensors that share a storage often follow each other; all of them would be the whole file.
    member = functools.lru_cache(maxsize=2)(functools.partial(_member, path, archive))

    def storage(key: str, size: int) -> Callable[[], bytes]:
        name = f"{folder}data/{key}"
        if name not in entries:
            raise PickleError(f"{shown(name)} is missing")
        if entries[name].file_size < size:
            there = entries[name].file_size
            raise PickleError(f"{shown(name)} has {there} of {shown(size)} bytes")
        return functools.partial(member, name)

    return _unpickle(path, io.BytesIO(archive.read(pickles[0])), storage)


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """A part of the archive; its checksum is looked at."""
    try:
        return archive.read(name)
    except (OSError, *DAMAGED) as error:
        raise InputError(f"{path} cannot be read: {shown(str(error), 200)}") from None


def _read_legacy(path: Path) -> Any:
    """Four pickles and the storages; or one pickle, of NumPy's arrays by name."""
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    with path.open("rb") as file:
        return _read_pickles(path, file, data)


def _read_pickles(path: Path, file: BinaryIO, data: np.ndarray) -> Any:
    blocks: dict[str, tuple[int, int]] = {}
    counts: dict[str, int] = {}

    def storage(key: str, size: int) -> Callable[[], Any]:
        counts[key] = size

        def read() -> Any:
            start, stop = blocks[key]
            return data[start:stop]  # a view: tensors that share it do not copy it

        return read

    try:
        magic = _unpickle(path, file, storage)
    except PickleError as error:
        if "refused" in str(error):
            raise
        magic = None
    if isinstance(magic, dict) and not counts:
        return magic
    if magic != MAGIC:
        raise PickleError("it is no file of torch.save")
    inert_pickle.load(file, _nothing, _nothing)  # version of the protocol
    system = inert_pickle.load(file, _nothing, _nothing)
    if isinstance(system, dict) and not system.get("little_endian", True):
        raise PickleError("it was written by a big-endian machine")
    content = _unpickle(path, file, storage)
    keys = inert_pickle.load(file, _nothing, _nothing)
    plain = isinstance(keys, list) and all(type(key) is str for key in keys)
    if not plain or sorted(keys) != sorted(counts):
        raise PickleError("its list of storages does not fit its tensors")
    stop = file.tell()
    for key in keys:
        start = stop + 8
        stop = start + counts[key]
        if stop > len(data):
            raise PickleError(f"it ends within the storage {quoted(key)}")
        blocks[key] = (start, stop)
    return content


def _unpickle(
    path: Path, file: BinaryIO, storage: Callable[[str, int], Callable[[], bytes]]
) -> Any:
    """Runs the machine; `storage` gives the reader of a key's bytes."""
    known: dict[str, Storage] = {}

    def persistent(identity: Any) -> Any:
        match identity:
            case ("storage", Name(kind), str(key), _, int(count), *rest):
                pass
            case ("module", (Name() | Opaque()) as found, *_):
                return found  # the class of a module, with its source, beside the tensors
            case _:
                raise PickleError("a damaged pickle (an unknown persistent id)")
        if rest not in ([], [None]):
            return Opaque(f"{kind} that is a view")
        dtype = STORAGES.get(kind)
        if dtype is None and kind != "torch.storage.UntypedStorage":
            return Opaque(kind)
        if count < 0:
            raise PickleError(f"the storage {quoted(key)} has a negative size")
        if count >= 2**56:
            raise PickleError(f"the storage {quoted(key)} would be larger than any file")
        if key not in known:
            size = count * (np.dtype(NUMPY[dtype]).itemsize if dtype else 1)
            known[key] = Storage(dtype, storage(key, size))
        return Storage(dtype, known[key].read)

    def build(name: str, arguments: tuple[Any, ...]) -> Any:
        result: Any = NotImplemented
        match name, arguments:
            case "collections.OrderedDict", ():
                result = {}
            case "collections.OrderedDict", (list(pairs),):
                result = inert_pickle.plain_dict(pairs)
            case "torch.Size", ((list() | tuple()) as sizes,):
                result = tuple(sizes)
            case (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                (LazyArray() as whole, *_),
            ):
                result = whole
            case "torch._tensor._rebuild_from_type_v2", (Name(function), _, tuple(inner), _):
                if function.startswith("torch._utils._rebuild"):
                    result = build(function, inner)
            case (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                (Storage(dtype=str(dtype)) as storage, offset, shape, strides, *_),
            ):
                result = View(str(path), storage, dtype, *_extent(offset, shape, strides)).lazily()
            case (
                "torch._utils._rebuild_tensor_v3",
                (Storage() as storage, offset, shape, strides, _, _, Name(kind), *_),
            ):
                dtype = kind.removeprefix("torch.")
                if dtype in NUMPY:
                    result = View(
                        str(path), storage, dtype, *_extent(offset, shape, strides)
                    ).lazily()
            case _:
                result = numpy_object(name, arguments)
        return result

    return inert_pickle.load(file, build, persistent)


def _extent(offset: Any, shape: Any, strides: Any) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    plain = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)
    if not plain or not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *shape, *strides)):
        raise PickleError("a tensor whose offset, shape or strides are no sizes")
    if len(shape) > MOST_AXES:
        raise PickleError(f"no array can be {sizes(shape)}")
    return offset, shape, strides


def _nothing(*_: Any) -> Any:
    return NotImplemented
