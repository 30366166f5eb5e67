"""When another process is gone: one line and a status that a scheduler understands.

JAX's runtime notices by heartbeats, or where process 0 is no longer, and then aborts, with a native
trace. It has no hook of use from Python, so the abort itself is caught, and explained only where
a process is known to be gone: any other abort is left as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from orbax.checkpoint import multihost

from sdnjax.training.stopping import PREEMPTED

_GONE = "stopped: {} is gone; what was saved is safe: start all of them again with --resume\n"
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_handlers: list[Any] = []  # C calls them: they must not be collected


def explain_loss(index: int, coordinator: str, heartbeat: int) -> None:
    """From now on an abort because another process is gone is one line, and status 75.

    Args:
      index: of this process.
      coordinator: host:port of process 0.
      heartbeat: seconds without a word after which the runtime ends all.
    """
    signs, client = _Signs(index, heartbeat / 10), multihost.get_jax_distributed_client()
    threading.Thread(target=signs.exchange, args=(client,), daemon=True).start()

    def who() -> str | None:
        silent = signs.silent(heartbeat / 2)
        if silent:
            names = ", ".join(map(str, silent[:8]))
            return f"process {names}" + " and others" * (len(silent) > 8)
        if index and not _answers(coordinator):
            return "process 0, where the others meet,"
        return None

    catch_abort(who)


def catch_abort(who: Callable[[], str | None]) -> None:
    """On an abort, a line about whom `who` says is gone, and status 75; None lets it happen."""

    def aborted(number: int) -> None:
        del number
        with contextlib.suppress(Exception):
            if (name := who()) is not None:
                os.write(2, _GONE.format(name).encode())
                os._exit(PREEMPTED)

    handler = _Handler(aborted)
    _handlers.append(handler)
    # Not `signal.signal`: Python calls its handlers later, and after an abort there is no later.
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


class _Signs:
    """Signs of life through the runtime's store: each process counts on, and sees the others do."""

    def __init__(self, index: int, every: float):
        self._index, self._every = index, every
        self._seen: dict[int, tuple[str, float]] = {}

    def exchange(self, client: Any) -> None:
        count = 0
        while True:
            with contextlib.suppress(Exception):  # the store is gone; the runtime ends us
                client.key_value_set(f"sdnjax/alive/{self._index}", str(count), True)
                for key, value in client.key_value_dir_get("sdnjax/alive"):
                    other = int(key.rpartition("/")[2])
                    if self._seen.get(other, ("", 0.0))[0] != value:
                        self._seen[other] = value, time.monotonic()
            count += 1
            time.sleep(self._every)

    def silent(self, seconds: float) -> list[int]:
        """The others that have said nothing for so long, as seen by the latest word of anybody."""
        seen = dict(self._seen)
        latest = max((when for _, when in seen.values()), default=0.0)
        return sorted(
            i for i, (_, when) in seen.items() if i != self._index and latest - when > seconds
        )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False
