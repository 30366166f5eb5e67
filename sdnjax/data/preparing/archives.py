"""Unpacks the archives in which data sets are distributed: zip, tar, and compressed tar.

An archive is unpacked beside its place, under a temporary name, and then moved into it, so
that what lies there is whole. Files and folders alone are unpacked, and only below that
place: a name that leads out of it, a link or a device is an error.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tqdm import tqdm

from sdnjax.data.locks import locked
from sdnjax.errors import InputError
from sdnjax.files import write_atomically

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# What zipfile and tarfile raise for damaged archives, besides OSErrors without a number;
# RuntimeError is an encrypted zip.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(ValueError, KeyError, NotImplementedError, RuntimeError),
)


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def find_archives(source: Path, official: Sequence[str]) -> list[Path]:
    """The archives that `source` means: those of official names in a folder, or a file itself
    with, if its name is official, the others beside it."""
    if source.is_dir():
        return [source / name for name in official if is_archive(source / name)]
    if source.name in official:
        return find_archives(source.parent, official)
    return [source] if is_archive(source) else []


def unpack(archives: Sequence[Path], place: Path, *, progress: bool = False) -> None:
    """Unpacks archives into one folder, each once; processes wait for each other.

    Raises: InputError that names an archive that is damaged or would write elsewhere.
    """
    created = not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / ".lock"):
            for archive in archives:
                _unpack_once(archive, place, progress)
    except OSError as error:
        raise InputError(f"{place}: cannot be written ({error.strerror or error})") from None
    finally:
        if created and place.is_dir() and {p.name for p in place.iterdir()} <= {".lock"}:
            shutil.rmtree(place, ignore_errors=True)


def _unpack_once(archive: Path, place: Path, progress: bool) -> None:
    facts = archive.stat()
    state = [str(archive.resolve()), facts.st_size, facts.st_mtime_ns]
    done = place / f".{archive.name}.json"
    with contextlib.suppress(OSError, ValueError):
        if json.loads(done.read_text()) == state:
            return
    for stale in place.glob(".unpacking-*"):  # whoever left it was killed: we hold the lock
        shutil.rmtree(stale)
    bar = tqdm(
        total=facts.st_size,
        desc=f"unpacking {archive.name}",
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )
    unpack_into = _unpack_zip if archive.name.lower().endswith(".zip") else _unpack_tar
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=place) as scratch, bar:
        try:
            unpack_into(archive, Path(scratch), bar.update)
        except (*_DAMAGE, OSError) as error:
            if isinstance(error, InputError) or getattr(error, "errno", None) is not None:
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{archive}: the archive is damaged ({reason})") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{archive.name} was not unpacked; the same command goes on with it"
            ) from None
        _merge(Path(scratch), place)
        write_atomically(done, json.dumps(state))


def _unpack_zip(archive: Path, folder: Path, report: Callable[[int], Any]) -> None:
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            _check_name(archive, member.filename)
        for member in members.infolist():
            members.extract(member, folder)
            report(member.compress_size)


def _unpack_tar(archive: Path, folder: Path, report: Callable[[int], Any]) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise InputError(f"{archive}: unpacking it needs Python 3.11.4 or later")
    with archive.open("rb") as file, tarfile.open(fileobj=file) as members:
        before = 0
        for member in members:
            _check_name(archive, member.name)
            if not (member.isfile() or member.isdir()):
                raise InputError(f"{archive}: {member.name} is a link or a device; not unpacked")
            members.extract(member, folder, filter="data")
            report(file.tell() - before)
            before = file.tell()
        # tarfile takes a file that ends within a header for complete. Compressed ones have
        # checksums.
        if members.fileobj is file:
            file.seek(members.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("unexpected end of data")


def _check_name(archive: Path, name: str) -> None:
    """InputError for a name that could lead out of the folder, on any system."""
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    if path.is_absolute() or windows.anchor or ".." in path.parts + windows.parts:
        raise InputError(f"{archive}: refused, it would write outside its folder ({name!r})")


def _merge(source: Path, target: Path) -> None:
    """Moves everything in `source` into `target`; files of equal names are replaced."""
    for path, goal in list(_moves(source, target)):
        path.replace(goal)


def _moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    for path in source.iterdir():
        goal = target / path.name
        if path.is_dir() and goal.is_dir():
            yield from _moves(path, goal)
        else:
            yield path, goal
