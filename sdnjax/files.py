"""Files read and written whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from sdnjax.errors import InputError
from sdnjax.places import in_bucket, place


def read_bytes(path: str | Path) -> bytes:
    """The content of a file; InputError that names it if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a file so that `path` holds either what it held before or all of `data`.

    Text is written as UTF-8. Raises: OSError if the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` at the end.

    If anything is raised inside, it is removed, and what was at `path` stays. Of an object in a
    bucket, which appears as a whole, the path to write to is here.
    """
    if in_bucket(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            yield temporary
            place(path).write_bytes(temporary.read_bytes())
        return
    # Unique also among the threads of one process. Not `tempfile`, whose files only their
    # owner may read; a prepared data set or a work directory may be shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            # Without it, a crash of the machine may leave the new name with an empty file.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
