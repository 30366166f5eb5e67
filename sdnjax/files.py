"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a file as a whole: killed at any moment, or on a full disk, the old one stays."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` at the end.

    If anything is raised inside, it is removed, and what was at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a renamed file whose content is not on the disk is empty
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
