"""What a run tells while it goes: metrics read in bulk, a bar or lines, rates, waiting time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from tqdm import tqdm

from sdnjax.errors import RunError
from sdnjax.training.metrics_log import MetricsLog
from sdnjax.training.step import Metrics

# What is waited less than this share of the time is not worth an explanation.
_TOLERABLE_WAIT = 0.05


class Progress:
    """Collects the metrics of steps on the device and fetches them a few steps at a time.

    On a terminal it shows a bar, elsewhere it reports a line at each logged step.
    """

    def __init__(
        self,
        first: int,
        steps: int,
        log: MetricsLog | None,
        report: Callable[[str], None],
        *,
        explain: Callable[[dict[str, float]], str] | None = None,
        learning_rate: Callable[[int], Any] | None = None,
    ):
        self._log, self._report, self._explain = log, report, explain
        self._learning_rate = learning_rate
        self._bar = tqdm(total=steps, initial=first, unit="step", dynamic_ncols=True, disable=None)
        self._unread: list[tuple[int, Metrics]] = []
        self._values: list[dict[str, float]] = []
        self._waited = 0.0
        self._start_seconds: float | None = None
        self._spent: dict[str, float] = {}
        self._begin = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for data."""
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside counts for no rate."""
        begin = time.perf_counter()
        yield
        self._begin += time.perf_counter() - begin

    @contextmanager
    def starting(self) -> Iterator[None]:
        """The first step is made inside: it waits for the first batch, and is compiled."""
        if self._bar.disable:
            self._report("compiling the training step ...")
        else:
            self._bar.set_postfix_str("compiling")
        begin = time.perf_counter()
        with self.pause():
            yield
        self._start_seconds, self._waited = time.perf_counter() - begin, 0.0

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes a step's metrics, still on the device."""
        self._unread.append((step, metrics))
        self._bar.update()

    def check(self, *, keep: bool = False) -> None:
        """Fetches what was added; raises RunError that names the steps if any is not finite.

        With `keep` the lines so far are then where the log is kept: before a checkpoint
        is saved, behind which a run would go on without them.
        """
        fetched = [
            (step, {k: float(v) for k, v in jax.device_get(metrics).items()})
            for step, metrics in self._unread
        ]
        self._unread.clear()
        bad = [(n, v) for n, v in fetched if not math.isfinite(v["loss"] + v["gradient_norm"])]
        if bad:
            listing = ", ".join(str(n) for n, _ in bad[:5]) + (", …" if len(bad) > 5 else "")
            first = bad[0][1]
            raise RunError(
                f"not finite at step {listing}: loss {first['loss']:g}, gradient norm "
                f"{first['gradient_norm']:g}; nothing after it was saved: try a lower "
                "optimizer.learning_rate, optimizer.warmup_steps or optimizer.clip_norm"
            )
        self._values += [v for _, v in fetched]
        if keep and self._log is not None:
            self._log.save()

    def line(self, step: int, images: int, spent: dict[str, float]) -> None:
        """Writes means and rates since the last line.

        Args:
          images: those of one step.
          spent: seconds that batches took so far, by stage; explained if steps waited for them.
        """
        self.check()
        if not self._values:
            return
        now, n = time.perf_counter(), len(self._values)
        seconds = max(now - self._begin, 1e-9)
        # The first step's time is that of compiling: it counts only if there is no other.
        timed = n
        if self._start_seconds is not None:
            timed = n - 1 or 1
            seconds += self._start_seconds if n == 1 else 0.0
            self._start_seconds = None
        means = {k: sum(v[k] for v in self._values) / n for k in self._values[0]}
        rates: dict[str, float] = {
            "seconds_per_step": seconds / timed,
            "images_per_second": images * timed / seconds,
            "data_wait_share": min(1.0, self._waited / seconds),
        }
        if self._learning_rate is not None:
            rates["learning_rate"] = float(self._learning_rate(step - 1))  # the step that was made
        if (most := device_memory()) is not None:
            rates["device_memory_gb"] = most
        spent_now = {k: s - self._spent.get(k, 0.0) for k, s in spent.items()}
        self._values, self._waited, self._begin, self._spent = [], 0.0, now, dict(spent)
        if self._log is not None:
            per_step = {k: s / n for k, s in spent_now.items()}
            self._log.write(step, {"train": {**means, **rates, "data_seconds": per_step}})
        rate = f"  lr {rates['learning_rate']:.3g}" if "learning_rate" in rates else ""
        memory = f"{most:.1f} GB of device memory  " if most is not None else ""
        text = (
            f"loss {means['loss']:.4f}{rate}  {rates['images_per_second']:.1f} images/s  {memory}"
            f"waiting for data {rates['data_wait_share']:.0%}"
        )
        if self._explain is not None and rates["data_wait_share"] > _TOLERABLE_WAIT:
            text += f" ({self._explain(spent_now)})"
        if means["loss"] == 0 and means["gradient_norm"] == 0:
            self._report(
                f"ATTENTION: nothing was learnt up to step {step}: no pixel had a label; check.py "
                "shows what the labels hold"
            )
        self._bar.set_postfix_str(text)
        if self._bar.disable:
            left = (self._bar.total - step) * rates["seconds_per_step"]
            eta = tqdm.format_interval(left)
            self._report(f"step {step}/{self._bar.total}  {text}  ETA {eta}")

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


def device_memory() -> float | None:
    """Most gigabytes (10⁹ bytes) that were in use on any of this process's devices so far; None
    where they do not tell, as CPUs."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s]
    return max(peaks) / 1e9 if peaks else None
