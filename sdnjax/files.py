"""Files read and written whole."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from sdnjax.errors import InputError


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

    Text is written as UTF-8. The data goes to a temporary file in the same folder, which is
    removed if anything fails, and is on the disk before that file takes the place of `path`.

    Raises: OSError if the file cannot be written.
    """
    # Unique also among the threads of one process. Not `tempfile`, whose files only their
    # owner may read; a prepared data set or a work directory may be shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            # Without it, a crash of the machine may leave the new name with an empty file.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
