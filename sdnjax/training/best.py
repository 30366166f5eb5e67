"""The checkpoint with the best score of a validation, and when to stop waiting for a better one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from sdnjax.errors import InputError, unknown
from sdnjax.files import write_atomically
from sdnjax.places import place
from sdnjax.training.checkpoints import CheckpointWriter
from sdnjax.training.metrics_log import read_metrics
from sdnjax.training.state import TrainState

_HISTORY = "scores.json"


def score(results: Mapping[str, Any], name: str) -> float | None:
    """The score `name` of a validation, `mIoU` or `boundary_f.1px`; None if it is not defined.

    Raises: InputError with the nearest name if there is none.
    """
    value: Any = results
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise unknown("keep_best: there is no score", name, list(scores(results)))
        value = value[part]
    if value is None:
        return None
    if not isinstance(value, float):
        raise unknown("keep_best: there is no score", name, list(scores(results)))
    return value if math.isfinite(value) else None


def scores(results: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names that `score` knows."""
    found: list[str] = []
    for key, value in results.items():
        if isinstance(value, Mapping):
            found += scores(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, float):
            found.append(prefix + key)
    return found


class Best:
    """Keeps the best state of a run in a folder of its own, beside the latest ones.

    The scores of all validations are written beside it, so a run that is resumed compares and
    counts as one that was never interrupted.
    """

    def __init__(
        self,
        directory: str | Path,
        name: str,
        *,
        highest: bool,
        patience: int | None,
        start_step: int,
        description: Mapping[str, Any],
    ):
        """
        Args:
          directory: holds the checkpoint and the scores.
          name: of the score, see `score`.
          highest: whether more is better.
          patience: how many validations without a better score are `enough`; None: never.
          start_step: where the run goes on; scores of later steps will come again.
          description: travels with the checkpoint.
        """
        self._directory, self._name = place(directory), name
        self._sign, self._patience = (1.0 if highest else -1.0), patience
        self._writer = CheckpointWriter(self._directory, 1, dict(description))
        self._record = {"name": name, "highest": highest}
        self._history = [
            entry for entry in history(directory, self._record) if entry["step"] <= start_step
        ]

    def offer(self, state: TrainState, results: Mapping[str, Any]) -> str | None:
        """Saves the state if its score is the best so far, and says so."""
        value, before = score(results, self._name), self._best()
        step = int(state.step)
        self._history = [entry for entry in self._history if entry["step"] < step]
        self._history.append({"step": step, "score": value})
        better = value is not None and (before is None or self._sign * (value - before) > 0)
        if better:
            self._writer.save(state)
            self._writer.wait()
        if jax.process_index() == 0:
            record = {**self._record, "scores": self._history}
            write_atomically(self._directory / _HISTORY, json.dumps(record) + "\n")
        return f"best {self._name} so far: {value:.4f}, kept" if better else None

    @property
    def enough(self) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        return self._patience is not None and waited(self._history, self._sign) >= self._patience

    def close(self) -> None:
        """Waits for what is being written."""
        self._writer.close()

    def _best(self) -> float | None:
        return best_of(self._history, self._sign)


def best_of(entries: Sequence[Mapping[str, Any]], sign: float) -> float | None:
    """The best score; None if none is defined."""
    values = [entry["score"] for entry in entries if entry["score"] is not None]
    return max(values, key=lambda value: sign * value, default=None)


def waited(entries: Sequence[Mapping[str, Any]], sign: float) -> int:
    """Validations since the best one, or since the beginning if none had a score."""
    best, values = best_of(entries, sign), [entry["score"] for entry in entries]
    return len(values) - (0 if best is None else values.index(best) + 1)


def history(directory: str | Path, record: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Step and score of every validation so far, as `Best` has written them.

    If the file is damaged, they are made again of the run's metrics.

    Raises: InputError if they are of another score than `record` says, or the file is damaged and
      there is no record to make them by.
    """
    path = place(directory) / _HISTORY
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text())
        entries, there = list(found["scores"]), (found["name"], found["highest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        if record is None:
            raise InputError(f"{path} is damaged: train.py --resume makes it again") from None
        return [
            {"step": line["step"], "score": score(line["val"], record["name"])}
            for line in read_metrics(path.parent.parent)
            if "val" in line
        ]
    if record is not None and there != (record["name"], record["highest"]):
        name, highest = there
        raise InputError(
            f"keep_best was {name}, best_is {'highest' if highest else 'lowest'} in this run: the "
            f"best checkpoint of another score is not known; delete {path.parent} to begin anew"
        )
    return entries
