"""The training loop: it drives a pure step and looks after what surrounds it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from sdnjax.training.checkpoints import CheckpointWriter
from sdnjax.training.feed import Feed
from sdnjax.training.metrics_log import MetricsLog
from sdnjax.training.progress import Progress
from sdnjax.training.state import TrainState
from sdnjax.training.step import TrainStep
from sdnjax.training.stopping import Stop, Stopped


def fit(
    state: TrainState,
    step: TrainStep,
    batches: Iterator[dict[str, np.ndarray]],
    *,
    mesh: Mesh,
    steps: int,
    checkpoints: CheckpointWriter | None = None,
    log: MetricsLog | None = None,
    evaluate: Callable[[TrainState], dict[str, Any]] | None = None,
    evaluate_every: int = 0,
    checkpoint_every: int = 500,
    log_every: int = 10,
    report: Callable[[str], None] = tqdm.write,
    explain: Callable[[dict[str, float]], str] | None = None,
    learning_rate: Callable[[int], Any] | None = None,
    enough: Callable[[], bool] = lambda: False,
    evaluated: bool = True,
    stop: Stop | None = None,
) -> TrainState:
    """Trains from `state.step` to `steps`, or to the step at which it is asked to stop.

    Args:
      state: where to begin; donated.
      step: a compiled step, see `compile_step`.
      batches: this process's rows of the batches of step `state.step` and on. Its attribute
        `seconds`, if there is one, says what making them took.
      evaluate: called every `evaluate_every` steps and at the end (0: only then); what it
        returns is logged under `val`, its seconds under `val_seconds`.
      report: takes each line meant for people.
      explain: makes words of the seconds spent on making and transferring batches, for lines
        of steps that waited for them.
      learning_rate: of the step after t steps, for the log.
      enough: asked after each evaluation; if so the run ends there, as at its last step.
      evaluated: whether the first state has been; if not, and it is one that `evaluate` is called
        for, it is evaluated before the first step.
      stop: the caller's, in use, who then takes `Stopped` before the first step is done, when there
        is nothing to save; None for one of the loop's own.

    The batch of the next step is fetched and transferred while a step runs. Returns the last
    state. A signal ends the step at hand, saves and returns, see `Stop`. An evaluation, before
    which the state is saved, ends at once and is made up for when the run goes on.

    Raises:
      RunError: a loss or gradient is not finite, or a checkpoint cannot be written. Nothing
        that is not finite is ever saved.
    """
    at = saved = int(state.step)
    progress = Progress(at, steps, log, report, explain=explain, learning_rate=learning_rate)
    feed = Feed(batches, mesh, steps - at)
    before = metrics = None
    writer = _Nowhere() if checkpoints is None else checkpoints

    def save() -> None:
        nonlocal saved
        progress.check(keep=True)
        if saved < at:
            with progress.pause():
                writer.save(state)
        saved = at

    def ends_after_evaluation() -> bool:
        """Whether it is enough, if an evaluation is due after this step, or it was stopped."""
        if evaluate is None or not _is_due(at, steps, evaluate_every):
            return False
        save()  # first: an evaluation may take an hour
        try:
            with progress.pause(), stopping.at_once():
                writer.wait()
                results, seconds = _timed(evaluate, state)
        except Stopped:
            return True
        if log is not None:
            log.write(at, {"val": results, "val_seconds": seconds})
        return enough()

    with (
        contextlib.closing(progress),
        contextlib.closing(feed),
        Stop() if stop is None else contextlib.nullcontext(stop) as stopping,
    ):
        done = not evaluated and ends_after_evaluation()
        while at < steps and not done:
            if not feed.ready:
                # While a step runs, nobody waits for the next batch.
                jax.block_until_ready(metrics)
            first = metrics is None
            with (
                progress.starting() if first else contextlib.nullcontext(),
                stop.at_once() if first and stop is not None else contextlib.nullcontext(),
            ):
                with progress.waiting():
                    batch = next(feed)
                jax.block_until_ready(before)  # more steps under way would only hold more batches
                before = metrics
                state, metrics = step(state, batch)
                if first:
                    jax.block_until_ready(metrics)
            at += 1
            progress.add(at, metrics)
            writer.check()  # hours may pass until the next one

            last = at == steps
            if last or at % log_every == 0:
                spent = getattr(batches, "seconds", {}) | feed.seconds
                progress.line(at, len(batch["label"]), spent)
            if last or at % checkpoint_every == 0:
                save()
            done = ends_after_evaluation() or stopping.asked(at)
        save()
        writer.wait()
    return state


class _Nowhere:
    """In place of a writer: nothing is saved."""

    def save(self, state: TrainState) -> None: ...

    def check(self) -> None: ...

    def wait(self) -> None: ...


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call returns, and how many seconds it took."""
    begin = time.perf_counter()
    return function(*arguments), time.perf_counter() - begin


def _is_due(at: int, steps: int, every: int) -> bool:
    """Whether something is done after step `at` that is done every few steps and after the last."""
    return at > 0 and (at == steps or (every > 0 and at % every == 0))
