"""What a run tells while it goes: metrics read in bulk, a bar or lines, rates, waiting time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        explain: Callable[[dict[str, float]], str] | None = None,
    ):
        self._log, self._report, self._explain = log, report, explain
        self._bar = tqdm(total=steps, initial=first, unit="step", dynamic_ncols=True, disable=None)
        self._unread: list[tuple[int, Metrics]] = []
        self._values: list[dict[str, float]] = []
        self._waited = 0.0
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

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes a step's metrics, still on the device."""
        self._unread.append((step, metrics))
        self._bar.update()

    def check(self) -> None:
        """Fetches what was added; raises RunError that names the steps if any is not finite."""
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
        means = {k: sum(v[k] for v in self._values) / n for k in self._values[0]}
        rates = {
            "seconds_per_step": seconds / n,
            "images_per_second": images * n / seconds,
            "data_wait_share": min(1.0, self._waited / seconds),
        }
        spent_now = {k: s - self._spent.get(k, 0.0) for k, s in spent.items()}
        self._values, self._waited, self._begin, self._spent = [], 0.0, now, dict(spent)
        if self._log is not None:
            per_step = {k: s / n for k, s in spent_now.items()}
            self._log.write(step, {"train": {**means, **rates, "data_seconds": per_step}})
        text = (
            f"loss {means['loss']:.4f}  {rates['images_per_second']:.1f} images/s  "
            f"waiting for data {rates['data_wait_share']:.0%}"
        )
        if self._explain is not None and rates["data_wait_share"] > _TOLERABLE_WAIT:
            text += f" ({self._explain(spent_now)})"
        self._bar.set_postfix_str(text)
        if self._bar.disable:
            left = (self._bar.total - step) * rates["seconds_per_step"]
            eta = tqdm.format_interval(left)
            self._report(f"step {step}/{self._bar.total}  {text}  ETA {eta}")

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
