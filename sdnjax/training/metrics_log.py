"""Metrics of a run as JSON lines, which resuming depends on, and to whatever loggers it has."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sdnjax.files import write_atomically
from sdnjax.places import in_bucket, place
from sdnjax.training.loggers import Writers


class MetricsLog:
    """Appends scalars of a step; a resumed run first drops what it is about to repeat."""

    def __init__(self, workdir: str | Path, *, start_step: int, writers: Writers | None = None):
        path = place(workdir) / "metrics.jsonl"
        if path.is_file():
            _keep_until(path, start_step)
        self._file = _Object(path) if in_bucket(path) else path.open("a")
        self._writers = writers

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line `{"step": …, key: value, …}`, on disk when this returns.

        In a bucket it is there within half a minute, and a validation at once: see `save`.
        """
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if "val" in values:
            self.save()
        if self._writers is not None:
            self._writers.write(step, scalars(values))

    def save(self) -> None:
        """Puts into a bucket what is not there yet: before the step's checkpoint, which would let
        a resumed run begin behind it."""
        if isinstance(self._file, _Object):
            self._file.save()

    def close(self) -> None:
        self._file.close()
        if self._writers is not None:
            self._writers.close()


class _Object:
    """Lines of an object in a bucket, which can only be written anew as a whole.

    That is done at most every half minute, and for at most a twentieth of the time.
    """

    def __init__(self, path: Path):
        self._path = path
        self._text = path.read_text() if path.is_file() else ""
        self._saved, self._next = self._text, 0.0

    def write(self, line: str) -> None:
        self._text += line

    def flush(self) -> None:
        if time.monotonic() >= self._next:
            self.save()

    def save(self) -> None:
        if self._text == self._saved:
            return
        begin = time.monotonic()
        self._path.write_text(self._text)
        self._saved, now = self._text, time.monotonic()
        self._next = now + max(30.0, 20 * (now - begin))

    def close(self) -> None:
        self.save()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`; a damaged one is left out."""
    path = place(workdir) / "metrics.jsonl"
    return [] if not path.is_file() else [entry for _, entry in _lines(path)]


def _keep_until(path: Path, step: int) -> None:
    """Drops lines after `step`, and those that were cut off or damaged."""
    kept = [line for line, entry in _lines(path) if entry["step"] <= step]
    write_atomically(path, "".join(line + "\n" for line in kept))


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append((line, entry))
    return found


def scalars(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested dicts by their path, `train/loss`; lists have none."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            found[prefix + key] = float(value)
    return found
