"""Locks between processes. The system releases a lock when its process ends, even if killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, processes do not wait for each other
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Creates the file `path` if need be, waits for its lock, and holds it alone."""
    with Lock(path) as lock:
        lock.wait()
        yield


class Lock:
    """The lock of a file: shared by the processes at work, exclusive for one that cleans up.

    On file systems without locks every call succeeds.
    """

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
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
