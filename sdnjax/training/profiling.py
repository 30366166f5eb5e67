"""A profiler trace of chosen steps, to see what the devices and the host do in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from sdnjax.training.step import TrainStep


class TracedStep:
    """A train step of whose calls some are written into JAX's profiler trace.

    XProf and TensorBoard's profiler read it: kernels and their times, memory, what waits for what.
    """

    def __init__(
        self,
        step: TrainStep,
        start: int,
        traced: tuple[int, int],
        folder: Path,
        report: Callable[[str], None],
    ):
        """`start`: steps that are done already; `traced`: first and last, counted from 1."""
        self._step, self._done, self._traced = step, start, traced
        self._folder, self._report = folder, report
        self._running = False
        if start >= traced[0]:
            report(f"no profiler trace: step {traced[0]} is done already")

    def __call__(self, *arguments: Any) -> Any:
        """The step; of the last that is traced the result is waited for."""
        first, last = self._traced
        self._done += 1
        if self._done == first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        if not self._running:
            return self._step(*arguments)
        with jax.profiler.StepTraceAnnotation("train", step_num=self._done):
            result = self._step(*arguments)
        if self._done == last:
            jax.block_until_ready(result)
            self.close()
        return result

    def close(self) -> None:
        """Ends a trace that is under way: the run may stop within it."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._report(
                f"profiler trace up to step {self._done} in {self._folder}; XProf and "
                "TensorBoard's profiler show it"
            )
