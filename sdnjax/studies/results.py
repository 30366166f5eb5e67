"""What a finished run of a study keeps: its scores, what it cost, and what it was made with."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.models.summary import summarize
from sdnjax.settings import differences, to_dict
from sdnjax.training.best import score

# Key of a result → what it is, in the table.
COSTS = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "seconds_per_step": "seconds per step",
    "evaluation_seconds": "seconds of validation",
    "memory_gb": "memory in GB",
}


def result_path(folder: Path, variant: str, seed: int) -> Path:
    """Where the result of a run lies, beside its work directory."""
    return folder / variant / f"seed{seed}.json"


def make_result(
    experiment: Experiment,
    log: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    **others: Any,
) -> dict[str, Any]:
    """The result of a finished run.

    Args:
      log: its metrics, as `read_metrics` gives them.
      num_classes: K.
      others: whatever else is to be kept.

    The time of a step is the median of the logged means, without the first of them where there
    are more; multiply-adds are those of one training crop, forward.
    """
    rates = [e["train"]["seconds_per_step"] for e in log if "train" in e]
    validation = [e for e in log if "val" in e][-1]
    network = experiment.build(num_classes).network
    whole = summarize(network, experiment.data.crop_size, channels=experiment.data.channels)[0]
    memory = [e["train"].get("device_memory_gb") for e in log if "train" in e]
    known = [m for m in memory if m is not None]
    return {
        "step": validation["step"],
        "scores": validation["val"],
        "parameters": whole.parameters,
        "multiply_adds": whole.multiply_adds,
        "seconds_per_step": statistics.median(rates[1:] or rates),
        "evaluation_seconds": validation.get("val_seconds"),
        "memory_gb": max(known) if known else _host_memory(),
        "memory_is_of": "the device" if known else "the process",
        "experiment": to_dict(experiment),
        **others,
    }


def read_result(
    path: Path, experiment: Experiment, code: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The result of a finished run, or None if it has none yet.

    Raises: InputError if it is that of another experiment or of other code, or damaged.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputError(f"{path} is damaged: remove it, and its scores are made again") from None
    again = f"name another --workdir, or remove {path.with_suffix('')} and {path.name}"
    if _completed(found.get("experiment")) != _as_json(experiment):
        raise InputError(
            f"{path} is the result of another configuration{_how(found, experiment)}: {again}"
        )
    if found.get("code") != (None if code is None else dict(code)):
        raise InputError(f"{path} is the result of other code than the study file has: {again}")
    return found


def _as_json(experiment: Experiment) -> Any:
    return json.loads(json.dumps(to_dict(experiment)))


def _completed(recorded: Any) -> Any:
    """What is recorded, with the defaults of settings that the library did not have then."""
    try:
        return _as_json(experiment_from_dict(recorded))
    except InputError:
        return recorded


def flat_scores(scores: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Name → score of the whole set, in the spelling of `Study.metrics`."""
    found: dict[str, float | None] = {}
    for key, value in scores.items():
        if key == "per_class":
            continue
        if isinstance(value, Mapping):
            found |= flat_scores(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, float):
            found[prefix + key] = value
    return found


def score_of(result: Mapping[str, Any], metric: str) -> float:
    """A score of a run; NaN where it is not defined."""
    try:
        value = score(result["scores"], metric)
    except InputError as error:
        raise InputError(str(error).replace("keep_best", "metrics")) from None
    return math.nan if value is None else value


def _how(found: Mapping[str, Any], experiment: Experiment) -> str:
    """In which settings, where that can be said."""
    try:
        changed = differences(
            experiment_from_dict(found.get("experiment"), "there", experiment), experiment
        )
    except InputError:
        return ""
    return f" ({'; '.join(changed[:3])})" if changed else ""


def _host_memory() -> float | None:
    """Most gigabytes (10⁹ bytes) that this process had; None where the system does not tell."""
    try:
        import resource  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
