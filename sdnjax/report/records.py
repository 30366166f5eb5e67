"""What a work directory says of its run, read without its data set and without running its code."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdnjax.errors import InputError
from sdnjax.places import place
from sdnjax.training.metrics_log import read_metrics, scalars

Palette = tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of a split, and where they come from.

    Attributes:
      results: what `SegmentationMetrics.compute` returns.
      source: in words, for people.
      confusion: int64 [K, K], rows the truth; None if nobody kept it.
    """

    results: Mapping[str, Any]
    source: str
    confusion: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a network costs at a size: parameters, multiply-adds and bytes of one picture."""

    size: tuple[int, int]
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run, as its report has it.

    Attributes:
      config: settings by dotted key, as text.
      starts: the entries of `runs.json`.
      lines: those of `metrics.jsonl`.
      classes, palette: empty where nothing tells.
    """

    name: str
    config: Mapping[str, str]
    starts: Sequence[Mapping[str, Any]]
    lines: Sequence[Mapping[str, Any]]
    classes: tuple[str, ...] = ()
    palette: Palette = ()
    scores: Scores | None = None
    costs: Costs | None = None

    def curve(self, kind: str, key: str) -> list[tuple[float, float]]:
        """(step, value) of `train` or `val`, by rising step; what is inside is `boundary_f/1px`."""
        found = {}
        for line in self.lines:
            values = line.get(kind)
            if isinstance(values, dict) and key in (numbers := scalars(values)):
                found[float(line["step"])] = numbers[key]
        return sorted(found.items())

    def keys(self, kind: str) -> list[str]:
        """What `curve` has, in order of appearance."""
        entries = (line[kind] for line in self.lines if isinstance(line.get(kind), dict))
        return list(dict.fromkeys(key for entry in entries for key in scalars(entry)))


def read_run(
    path: str | Path,
    name: str,
    *,
    described: Callable[[Path], Mapping[str, Any]] | None = None,
    report: Callable[[str], None] = print,
) -> RunRecord:
    """Reads `config.json`, `runs.json`, `metrics.jsonl` and what eval.py wrote.

    Args:
      described: a work directory → what its latest checkpoint says of itself, for the names of
        classes; it may raise InputError.
      report: takes a line for each file that is damaged and left out.

    Raises: InputError if there is no run.
    """
    path = place(path)
    config = _json(path / "config.json", dict, report)
    if config is None:
        raise InputError(f"{path} is no work directory: it has no config.json that can be read")
    starts = _json(path / "runs.json", list, report) or []
    lines = read_metrics(path)
    scores, classes = _scores(path, config, lines, report)
    palette: Palette = ()
    try:
        known = described(path) if described is not None else {}
    except InputError:  # nothing saved yet
        known = {}
    if known:
        classes = tuple(map(str, known.get("classes", classes)))
        palette = tuple((int(r), int(g), int(b)) for r, g, b in known.get("palette", ()))
    if scores is not None and len(classes) != len(scores.results["per_class"]):
        classes = tuple(f"class {k}" for k in range(len(scores.results["per_class"])))
    return RunRecord(
        name,
        flat(config),
        [start for start in starts if isinstance(start, dict)],
        lines,
        classes,
        palette if len(palette) == len(classes) else (),
        scores,
    )


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted key, as text; lists of plain values are one setting."""
    if isinstance(values, dict) and values:
        return {k: v for key, x in values.items() for k, v in flat(x, f"{prefix}{key}.").items()}
    if isinstance(values, list) and any(isinstance(x, (dict, list)) for x in values):
        return {k: v for i, x in enumerate(values) for k, v in flat(x, f"{prefix}{i}.").items()}
    key = prefix.removesuffix(".")
    if isinstance(values, (list, dict)):
        return {key: ", ".join(map(str, values)) or "empty"}
    return {key: "none" if values is None else str(values)}


def _scores(
    path: Path,
    config: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    report: Callable[[str], None],
) -> tuple[Scores | None, tuple[str, ...]]:
    """Of what eval.py wrote: first by the run's own settings, then of the latest step, then the
    newest. Without any, the last validation."""
    best: tuple[Any, Path, dict[str, Any]] | None = None
    folder = path / "evaluation"
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        found = _json(file, dict, report)
        if found is None or not _is_scores(found.get("results")):
            continue
        own = found.get("evaluation") == config.get("evaluation")
        step = found.get("step") if isinstance(found.get("step"), int) else -1
        stat = file.stat()
        newest = getattr(stat, "st_mtime", None) or getattr(stat, "mtime", None) or 0  # of a bucket
        rank = (own, step, newest)
        if best is None or rank > best[0]:
            best = rank, file, found
    if best is not None:
        _, file, found = best
        results = found["results"]
        classes = tuple(map(str, found.get("classes", ())))
        confusion = _confusion(file.with_name(f"{file.stem}_confusion.csv"), len(classes))
        words = f"{found.get('split')}, step {found.get('step')}, evaluation/{file.name}"
        return Scores(results, words, confusion), classes
    for line in reversed(lines):
        if _is_scores(line.get("val")):
            return Scores(line["val"], f"validation at step {line['step']}"), ()
    return None, ()


def _is_scores(found: Any) -> bool:
    per_class = found.get("per_class") if isinstance(found, dict) else None
    return isinstance(per_class, list) and all(isinstance(x, dict) for x in per_class)


def _confusion(path: Path, count: int) -> np.ndarray | None:
    """The counts of a file that `write_confusion` wrote; None if it is not there or damaged."""
    try:
        rows = list(csv.reader(path.read_text().splitlines()))
        counts = np.array([[int(x) for x in row[1:]] for row in rows[1:]], np.int64)
    except (FileNotFoundError, ValueError):
        return None
    return counts if count and counts.shape == (count, count) else None


def _json(path: Path, kind: type, report: Callable[[str], None]) -> Any:
    """The value in a file; None if it is not there, or damaged, which is said."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        report(f"left out: {path} is damaged")
        return None
    return found


def median(points: Sequence[tuple[float, float]]) -> float | None:
    """The median of a curve's values; None of an empty one."""
    values = [y for _, y in points if math.isfinite(y)]
    return float(np.median(values)) if values else None
