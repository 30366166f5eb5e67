"""Locks between processes, which end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no locks, every process believes to be alone
    fcntl = None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock of the file `path`, which is created, and holds it."""
    with Lock(path) as lock:
        lock.wait()
        yield


class Lock:
    """The lock of a file, to be shared by those at work and taken alone by who cleans up.

    On file systems without locks every call succeeds.
    """

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_) -> None:
        os.close(self._file)

    def wait(self) -> None:
        """Waits until nobody else holds the lock, and holds it alone."""
        self._take("LOCK_EX")

    def alone(self) -> bool:
        """Holds the lock alone if nobody else holds it; otherwise holds nothing."""
        return self._take("LOCK_EX", "LOCK_NB")

    def share(self) -> None:
        """Holds the lock with others."""
        self._take("LOCK_SH")

    def _take(self, *flags: str) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(self._file, sum(getattr(fcntl, flag) for flag in flags))
        except BlockingIOError:
            return False
        except OSError:  # the file system has no locks
            return True
        return True
