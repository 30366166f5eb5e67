"""The training loop: it drives a pure step and looks after what surrounds it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from sdnjax.training.checkpoints import CheckpointWriter
from sdnjax.training.feed import Feed
from sdnjax.training.metrics_log import MetricsLog
from sdnjax.training.progress import Progress
from sdnjax.training.state import TrainState
from sdnjax.training.step import TrainStep


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
) -> TrainState:
    """Trains from `state.step` to `steps`, or to the step at which it is asked to stop.

    Args:
      state: where to begin; donated.
      step: a compiled step, see `compile_step`.
      batches: this process's rows of the batches of step `state.step` and on. Its attribute
        `seconds`, if there is one, says what making them took.
      evaluate: called every `evaluate_every` steps and at the end (0: only then); what it
        returns is logged under `val`.
      report: takes each line meant for people.
      explain: makes words of the seconds spent on making and transferring batches, for lines
        of steps that waited for them.
      learning_rate: of the step after t steps, for the log.
      enough: asked after each evaluation; if so the run ends there, as at its last step.

    The batch of the next step is fetched and transferred while a step runs. Returns the last
    state. Ctrl-C or SIGTERM ends the step at hand, saves and returns: the
    caller sees it by `state.step < steps`.

    Raises:
      RunError: a loss or gradient is not finite, or a checkpoint cannot be written. Nothing
        that is not finite is ever saved.
    """
    at = saved = int(state.step)
    progress = Progress(at, steps, log, report, explain=explain, learning_rate=learning_rate)
    feed = Feed(batches, mesh, steps - at)
    before = metrics = None

    def save() -> None:
        progress.check()
        if checkpoints is not None:
            with progress.pause():
                checkpoints.save(state)

    with contextlib.closing(progress), contextlib.closing(feed), _stop_signal() as stop_asked:
        while at < steps:
            if not feed.ready:
                # While a step runs, nobody waits for the next batch.
                jax.block_until_ready(metrics)
            first = metrics is None
            with progress.starting() if first else contextlib.nullcontext():
                with progress.waiting():
                    batch = next(feed)
                jax.block_until_ready(before)  # more steps under way would only hold more batches
                before = metrics
                state, metrics = step(state, batch)
                if first:
                    jax.block_until_ready(metrics)
            at += 1
            progress.add(at, metrics)

            last = at == steps
            if last or at % log_every == 0:
                spent = getattr(batches, "seconds", {}) | feed.seconds
                progress.line(at, len(batch["label"]), spent)
            if last or at % checkpoint_every == 0:
                save()
                saved = at
            if evaluate is not None and (last or (evaluate_every and at % evaluate_every == 0)):
                progress.check()
                with progress.pause():
                    results = evaluate(state)
                if log is not None:
                    log.write(at, {"val": results})
                if enough():
                    break
            if stop_asked(at):
                break
        if saved < at:
            save()
        if checkpoints is not None:
            checkpoints.wait()
    return state


@contextlib.contextmanager
def _stop_signal() -> Iterator[Callable[[int], bool]]:
    """Turns the first SIGINT or SIGTERM into a question that is asked after each step.

    A second one acts as usual. With several processes the runtime agrees on one step at
    which all of them stop; it watches SIGTERM by itself.
    """
    asked = False
    before: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        for s, handler in before.items():
            signal.signal(s, handler)

    def stop(at: int) -> bool:
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(at)
        return asked

    try:
        for kind in (signal.SIGINT, signal.SIGTERM):
            before[kind] = signal.signal(kind, ask)
    except ValueError:
        before = {}  # not in the main thread: signals are the caller's business
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
