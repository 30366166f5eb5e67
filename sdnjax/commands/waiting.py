"""What training waits for when it waits for data, and what would help."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sdnjax.data.data_settings import Data

# Beyond so many threads they mostly wait for the interpreter's lock.
_PER_PROCESS = 4


def explain_waiting(seconds: Mapping[str, float], data: Data, cores: int | None = None) -> str:
    """One clause for a line of the log: the share of each stage, the largest first, and advice.

    Args:
      seconds: spent on "reading", "decoding" and "augmentation" by all workers together, and
        on "transfer" to the devices, which has a thread of its own.
      data: how examples are read and augmented.
      cores: those that this process may use, by default.
    """
    threads = data.workers * max(1, data.processes)
    spent = {k: s if k == "transfer" else s / threads for k, s in seconds.items()}
    total = sum(spent.values())
    if total <= 0:
        return "its time was not measured"
    transfer = spent.pop("transfer", 0.0)
    slowest = (
        "transfer" if transfer > sum(spent.values()) else max(spent, key=lambda stage: spent[stage])
    )
    stages = sorted({**spent, "transfer": transfer}.items(), key=lambda stage: -stage[1])
    shares = ", ".join(f"{name} {s / total:.0%}" for name, s in stages)
    return f"{shares}; {_advice(slowest, data, cores or _cores())}"


def _advice(slowest: str, data: Data, cores: int) -> str:
    if slowest == "reading":
        return (
            f"more than {data.workers} data.workers, or a data set prepared on a local disk "
            "(python -m sdnjax.data.prepare), would help"
        )
    if slowest != "transfer" and data.workers * max(1, data.processes) < cores:
        if data.workers < _PER_PROCESS:
            return f"data.workers={min(cores, _PER_PROCESS)} would use more cores"
        return f"data.processes={-(-cores // data.workers)} would use all cores"
    if slowest != "decoding" and data.augment_on == "host":
        return "data.augment_on=device would help if all images have one size"
    if slowest == "transfer":
        return "smaller image files would help"
    return f"all {cores} cores are busy; smaller image files would help"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
