"""Metrics of a run as JSON lines and as TensorBoard event files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdnjax.files import write_atomically


class MetricsLog:
    """Appends scalars of a step; a resumed run first drops what it is about to repeat."""

    def __init__(self, workdir: str | Path, *, start_step: int, tensorboard: bool):
        workdir = Path(workdir)
        path = workdir / "metrics.jsonl"
        if path.is_file():
            _keep_until(path, start_step)
        self._file = path.open("a")
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # noqa: PLC0415  (only where it is used)

            self._events = SummaryWriter(
                str(workdir / "tensorboard"), purge_step=start_step + 1, write_to_disk=True
            )

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line `{"step": …, key: value, …}`, on disk when this returns."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for key, value in _scalars(values):
                self._events.add_scalar(key, value, step)
            self._events.flush()

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`; a damaged one is left out."""
    path = Path(workdir) / "metrics.jsonl"
    return [] if not path.is_file() else [entry for _, entry in _lines(path)]


def _keep_until(path: Path, step: int) -> None:
    """Drops lines after `step`, and those that were cut off or damaged."""
    kept = [line for line, entry in _lines(path) if entry["step"] <= step]
    write_atomically(path, "".join(line + "\n" for line in kept))


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append((line, entry))
    return found


def _scalars(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            found.append((prefix + key, float(value)))
    return found
