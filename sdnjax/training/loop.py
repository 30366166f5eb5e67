"""The training loop: it drives a pure step and looks after what surrounds it."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from sdnjax.errors import RunError
from sdnjax.training.checkpoints import CheckpointWriter
from sdnjax.training.metrics_log import MetricsLog
from sdnjax.training.sharding import replicated, split_by_batch, to_global
from sdnjax.training.state import TrainState
from sdnjax.training.step import Batch, Metrics

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def compile_step(step: TrainStep, mesh: Mesh) -> TrainStep:
    """The data-parallel step: the batch is split, the state is everywhere and donated."""
    state, batch = replicated(mesh), split_by_batch(mesh)
    return jax.jit(
        step,
        in_shardings=(state, batch),
        out_shardings=(state, state),
        donate_argnums=0,
    )


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
) -> TrainState:
    """Trains from `state.step` to `steps`, or to the step at which it is asked to stop.

    Args:
      state: where to begin; donated.
      step: a compiled step, see `compile_step`.
      batches: this process's rows of the batches of step `state.step` and on.
      evaluate: called every `evaluate_every` steps and at the end (0: only then); what it
        returns is logged under `val`.
      report: takes each line meant for people.

    Returns the last state. Ctrl-C or SIGTERM ends the step at hand, saves and returns: the
    caller sees it by `state.step < steps`.

    Raises:
      RunError: a loss or gradient is not finite, or a checkpoint cannot be written. Nothing
        that is not finite is ever saved.
    """
    first = at = int(state.step)
    images, interval = 0, _Interval()
    unread: list[tuple[int, Metrics]] = []

    def read(reason_to_log: bool) -> None:
        """Fetches the metrics of the steps since the last reading."""
        values = [(n, {k: float(v) for k, v in jax.device_get(m).items()}) for n, m in unread]
        unread.clear()
        _check_finite(values)
        interval.values += [v for _, v in values]
        if reason_to_log and interval.values:
            line = interval.close(images)
            if log is not None:
                log.write(at, {"train": line})
            bar.set_postfix_str(_short(line))
            if bar.disable:
                left = (steps - at) * line["seconds_per_step"]
                report(f"step {at}/{steps}  {_short(line)}  ETA {tqdm.format_interval(left)}")

    def save() -> None:
        read(reason_to_log=False)
        if checkpoints is not None:
            checkpoints.save(state)

    saved = at
    with (
        _stop_signal() as stop_asked,
        tqdm(total=steps, initial=first, unit="step", dynamic_ncols=True, disable=None) as bar,
    ):
        while at < steps:
            begin = time.perf_counter()
            batch = next(batches)
            interval.waited += time.perf_counter() - begin
            images = len(batch["label"]) * jax.process_count()

            state, metrics = step(state, to_global(batch, mesh))
            at += 1
            unread.append((at, metrics))
            bar.update()

            if at % log_every == 0 or at == steps:
                read(reason_to_log=True)
            if at % checkpoint_every == 0 or at == steps:
                save()
                saved = at
            if evaluate is not None and (
                at == steps or (evaluate_every and at % evaluate_every == 0)
            ):
                read(reason_to_log=False)
                begin = time.perf_counter()
                results = evaluate(state)
                interval.begin += time.perf_counter() - begin
                if log is not None:
                    log.write(at, {"val": results})
            if stop_asked(at):
                break
        if saved < at:
            save()
        if checkpoints is not None:
            checkpoints.wait()
    return state


class _Interval:
    """Time and metrics since the last line of the log."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.waited = 0.0
        self.begin = time.perf_counter()

    def close(self, images: int) -> dict[str, float]:
        now, n = time.perf_counter(), len(self.values)
        seconds = max(now - self.begin, 1e-9)
        line = {k: sum(v[k] for v in self.values) / n for k in self.values[0]}
        line["seconds_per_step"] = seconds / n
        line["images_per_second"] = images * n / seconds
        line["data_wait_share"] = min(1.0, self.waited / seconds)
        self.values, self.waited, self.begin = [], 0.0, now
        return line


def _short(line: dict[str, float]) -> str:
    return (
        f"loss {line['loss']:.4f}  {line['images_per_second']:.1f} images/s  "
        f"waiting for data {line['data_wait_share']:.0%}"
    )


def _check_finite(values: list[tuple[int, Metrics]]) -> None:
    """Raises with the steps at which the loss or gradient was no number."""
    bad = [n for n, v in values if not (math.isfinite(v["loss"] + v["gradient_norm"]))]
    if bad:
        listing = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        first = next(v for n, v in values if n == bad[0])
        raise RunError(
            f"not finite at step {listing}: loss {first['loss']:g}, gradient norm "
            f"{first['gradient_norm']:g}; the run stopped and saved nothing after it: try a "
            "lower optimizer.learning_rate, optimizer.warmup_steps or optimizer.clip_norm"
        )


@contextmanager
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
        for s in (signal.SIGINT, signal.SIGTERM):
            before[s] = signal.signal(s, ask)
    except ValueError:
        before = {}  # not in the main thread: signals are the caller's business
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
