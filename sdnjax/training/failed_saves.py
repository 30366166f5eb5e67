"""The error of a save in the background, as soon as it happens, where several processes save."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

_POLL = 0.5  # seconds between two looks at whether a save has failed


class FailedSaves(logging.Filter):
    """Notes the first error that Orbax logs of its threads, until it is closed.

    A process whose save fails meets the others before it raises the error, and they wait for what
    it has not written: none of them would end before Orbax's timeouts, many minutes later. What it
    logs is all that tells of the error until then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: BaseException | None = None
        self._logger = logging.getLogger("absl")  # Orbax's
        self._level = self._logger.level
        self._logger.addFilter(self)
        self._logger.setLevel(min(self._level or logging.ERROR, logging.ERROR))

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets through what would have been without it."""
        if self.first is None and record.exc_info and "orbax" in record.pathname:
            self.first = record.exc_info[1]
        return record.levelno >= self._level

    def result(self, written: Future[Any]) -> None:
        """Waits until a save has ended. Raises: its error, or the first that was noted."""
        while True:
            try:
                return written.result(_POLL)
            except TimeoutError:
                if written.done():  # it is the save's own
                    raise
                if self.first is not None:
                    raise self.first from None

    def close(self) -> None:
        self._logger.removeFilter(self)
        self._logger.setLevel(self._level)
