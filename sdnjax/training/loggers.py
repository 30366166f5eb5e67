"""Where the numbers of a run go besides `metrics.jsonl`: TensorBoard, W&B, MLflow, one's own.

A logger is a function of the run to a writer: an object with `write(step, values)` and `close()`.
Those below are frozen settings that are called with the run; a class whose constructor takes the
run is a logger too. They import their packages when a run begins, and only then.

A logger that fails never stops a run: it is left out from there on, with one line that says so.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sdnjax.errors import InputError
from sdnjax.files import write_atomically
from sdnjax.places import in_bucket
from sdnjax.settings import check_types, setting

# Names that other systems know the run by, so that what goes on goes on there too.
IDENTITIES = "loggers.json"


class Writer(Protocol):
    """What takes the numbers of one run."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Takes what was measured after `step`, by name: `train/loss`, `val/boundary_f/1px`."""

    def close(self) -> None:
        """Called once, at the end of the run or when it is interrupted."""


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told.

    Attributes:
      name: of the experiment.
      workdir: a folder, or a place in a bucket.
      start_step: of the state that the run begins with; what was written for later steps is
        repeated.
      config: the settings by dotted key, as JSON has them.
      report: takes a line meant for people.
    """

    name: str
    workdir: Path
    start_step: int
    config: Mapping[str, Any]
    report: Callable[[str], None]

    def identity(self, logger: str) -> str | None:
        """What `remember` was told by an earlier start of this run; None at the first."""
        found = self._identities().get(logger)
        return found if isinstance(found, str) else None

    def remember(self, logger: str, identity: str) -> None:
        """Keeps in the work directory what `logger` calls this run."""
        found = {**self._identities(), logger: identity}
        write_atomically(self.workdir / IDENTITIES, json.dumps(found, indent=1) + "\n")

    def _identities(self) -> dict[str, Any]:
        try:
            found = json.loads((self.workdir / IDENTITIES).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


# The run → what takes its numbers; None for a logger that has nothing to do there.
Logger = Callable[[LoggedRun], Writer | None]


@dataclass(frozen=True)
class TensorBoard:
    """Event files in `WORKDIR/tensorboard`; none in a bucket."""

    def __call__(self, run: LoggedRun) -> Writer | None:
        if in_bucket(run.workdir):
            run.report("no TensorBoard files are written in a bucket: metrics.jsonl holds the same")
            return None
        return _Events(run)


class _Events:
    def __init__(self, run: LoggedRun):
        from tensorboardX import SummaryWriter  # noqa: PLC0415  (only where it is used)

        self._events = SummaryWriter(
            str(run.workdir / "tensorboard"), purge_step=run.start_step + 1, write_to_disk=True
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._events.add_scalar(key, value, step)
        self._events.flush()

    def close(self) -> None:
        self._events.close()


@dataclass(frozen=True)
class WandB:
    """Weights & Biases. Its own environment variables decide the rest, such as WANDB_MODE=offline.

    A run that goes on goes on there too. Steps that are repeated after an interruption are there
    twice: values are drawn over `step`, and nothing that was sent can be taken back. Its own files
    are in `WORKDIR/wandb`, or where WANDB_DIR says if the work directory is in a bucket.
    """

    project: str = setting("sdnjax", "project of Weights & Biases", run_only=True)
    entity: str | None = setting(None, "user or team; none: your own", run_only=True)
    tags: tuple[str, ...] = setting((), "tags of the run", run_only=True)

    def __post_init__(self) -> None:
        check_types(self)

    def check(self) -> None:
        """InputError if the package is missing."""
        _needs("wandb")

    def __call__(self, run: LoggedRun) -> Writer:
        identity = run.identity("wandb") or uuid.uuid4().hex[:12]
        writer = _WandBRun(self, run, identity)
        run.remember("wandb", identity)
        return writer


class _WandBRun:
    def __init__(self, settings: WandB, run: LoggedRun, identity: str):
        import wandb  # noqa: PLC0415  (only where it is used)

        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            tags=list(settings.tags),
            name=run.name,
            id=identity,
            resume="allow",
            config=dict(run.config),
            allow_val_change=True,  # the number of steps, of a run that goes on
            dir=None if in_bucket(run.workdir) else str(run.workdir),
        )
        # W&B's own count only rises, and would drop the steps that a resumed run repeats.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()


@dataclass(frozen=True)
class MLflow:
    """MLflow: settings as parameters, numbers as metrics. A run that goes on goes on there too."""

    experiment: str = setting("sdnjax", "experiment of MLflow", run_only=True)
    tracking_uri: str | None = setting(
        None, "server, data base or folder; none: what MLFLOW_TRACKING_URI says", run_only=True
    )

    def __post_init__(self) -> None:
        check_types(self)

    def check(self) -> None:
        """InputError if the package is missing."""
        _needs("mlflow")

    def __call__(self, run: LoggedRun) -> Writer:
        return _MLflowRun(self, run)


class _MLflowRun:
    _LONGEST = 500  # characters of a parameter, which every version takes
    _MOST = 100  # parameters, or metrics, in one request

    def __init__(self, settings: MLflow, run: LoggedRun):
        from mlflow import entities  # noqa: PLC0415  (only where it is used)
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        self._metric = entities.Metric
        self._client = client = MlflowClient(tracking_uri=settings.tracking_uri)
        known = run.identity("mlflow")
        if known is not None:
            self._id = known
            client.update_run(known, status="RUNNING")
            return
        there = client.get_experiment_by_name(settings.experiment)
        where = there.experiment_id if there else client.create_experiment(settings.experiment)
        self._id = client.create_run(where, run_name=run.name).info.run_id
        run.remember("mlflow", self._id)
        # Written once: MLflow refuses another value, as `steps` may have when a run goes on.
        params = [
            entities.Param(_allowed(key), str(value)[: self._LONGEST])
            for key, value in run.config.items()
        ]
        for i in range(0, len(params), self._MOST):
            client.log_batch(self._id, params=params[i : i + self._MOST])

    def write(self, step: int, values: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(_allowed(key), value, now, step) for key, value in values.items()]
        for i in range(0, len(metrics), self._MOST):
            self._client.log_batch(self._id, metrics=metrics[i : i + self._MOST])

    def close(self) -> None:
        self._client.set_terminated(self._id)


def _allowed(key: str) -> str:
    """A name of MLflow: what it does not allow becomes an underscore."""
    return re.sub(r"[^\w\-. /]", "_", key)


def check_loggers(loggers: Sequence[Logger]) -> None:
    """InputError, before a run begins, if a logger's package is missing."""
    for logger in loggers:
        if (check := getattr(logger, "check", None)) is not None:
            check()


class Writers:
    """The writers of a run. The first failure of one ends it, not the run."""

    def __init__(self, loggers: Sequence[Logger], run: LoggedRun):
        self._report = run.report
        self._writers: dict[str, Writer] = {}
        for i, logger in enumerate(loggers):
            name = getattr(logger, "__name__", type(logger).__name__)
            name = f"{name} (loggers.{i})" if name in self._writers else name
            self._guarded(name, functools.partial(self._begin, name, logger, run))

    def _begin(self, name: str, logger: Logger, run: LoggedRun) -> None:
        if (writer := logger(run)) is not None:
            self._writers[name] = writer

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, writer in list(self._writers.items()):
            self._guarded(name, functools.partial(writer.write, step, values))

    def close(self) -> None:
        for name, writer in list(self._writers.items()):
            self._guarded(name, writer.close)
        self._writers.clear()

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # of a package, a network, a service: anything
            self._writers.pop(name, None)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            self._report(
                f"{name} failed and is left out from here on ({reason}); metrics.jsonl has "
                "everything"
            )


def _needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(f"loggers: {package} is not installed: pip install 'sdnjax[{package}]'")
