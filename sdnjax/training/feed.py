"""Batches that lie on the devices before the step that needs them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh

from sdnjax.training.sharding import to_global
from sdnjax.training.step import Batch


class Feed(Iterator[Batch]):
    """Fetches and transfers the next batches in a thread, while steps run.

    An exception from `batches` is raised when the batch that it belongs to is asked for, not
    earlier. Closing early is cheap: batches that were fetched ahead are dropped.

    Attributes:
      seconds: "transfer" of the batches that were taken, from host memory to the devices.
    """

    def __init__(
        self, batches: Iterator[dict[str, np.ndarray]], mesh: Mesh, count: int, *, ahead: int = 1
    ):
        """Will fetch `count` batches, this process's rows of each, `ahead` at a time."""
        self.seconds = {"transfer": 0.0}
        self._batches, self._mesh = batches, mesh
        self._left = count
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sdnjax-feed")
        self._futures: deque[Future] = deque()
        for _ in range(ahead):
            self._start()

    @property
    def ready(self) -> int:
        """Batches that lie on the devices, untaken."""
        return sum(future.done() for future in self._futures)

    def __next__(self) -> Batch:
        if not self._futures:
            raise StopIteration
        batch, seconds = self._futures[0].result()  # interrupted, it can be asked for again
        self._futures.popleft()
        self.seconds["transfer"] += seconds
        self._start()
        return batch

    def close(self) -> None:
        """Waits for what is under way."""
        self._thread.shutdown(cancel_futures=True)

    def _start(self) -> None:
        if self._left > 0:
            self._left -= 1
            self._futures.append(self._thread.submit(self._fetch))

    def _fetch(self) -> tuple[Batch, float]:
        batch = next(self._batches)
        begin = time.perf_counter()
        batch = jax.block_until_ready(to_global(batch, self._mesh))
        return batch, time.perf_counter() - begin
