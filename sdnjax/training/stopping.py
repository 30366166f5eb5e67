"""Signals that ask a run to stop: Ctrl-C, a scheduler's SIGTERM, SLURM's SIGUSR1."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

PREEMPTED = 75  # EX_TEMPFAIL: nothing is wrong, start it again
INTERRUPTED = 130


class Stopped(BaseException):
    """Raised by a signal where nothing would be lost; not an Exception, as KeyboardInterrupt."""


class Stop:
    """Turns the first signal into a question that is asked after each step.

    A second one acts as usual. Of several processes each tells the others, by the runtime's own
    preemption service, which watches SIGTERM: all of them stop after one step, the same.

    Used as a context manager, from the main thread; elsewhere signals are the caller's business.

    Attributes:
      signal: the first one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        self._at_once = False

    @property
    def status(self) -> int:
        """The exit status of a run that stopped: 130 after Ctrl-C, else 75, "start it again"."""
        return INTERRUPTED if self.signal == signal.SIGINT else PREEMPTED

    def __enter__(self) -> Stop:
        kinds = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGUSR1"):  # not on Windows
            kinds.append(signal.SIGUSR1)
        if _several():
            kinds.remove(signal.SIGTERM)  # the preemption service's
        with contextlib.suppress(ValueError):  # not in the main thread
            for kind in kinds:
                self._before[kind] = signal.signal(kind, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def asked(self, at: int) -> bool:
        """Whether to stop after step `at`; of several processes all get the same answer."""
        if _several():
            stop = multihost_utils.reached_preemption_sync_point(at)
            if stop and self.signal is None:
                self.signal = signal.SIGTERM
            return stop
        return self.signal is not None

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, where all that counts is saved, a signal raises `Stopped` where it arrives; one
        that came before does so at once. Not of several processes, where the others would wait."""
        if _several():
            yield
            return
        self._at_once = True
        try:
            if self.signal is not None:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = number
        self._put_back()
        if _several():
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._at_once:
            raise Stopped

    def _put_back(self) -> None:
        while self._before:
            kind, handler = self._before.popitem()
            signal.signal(kind, handler)


def _several() -> bool:
    return jax.process_count() > 1
