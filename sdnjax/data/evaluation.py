"""The examples of a split in order, as they are; without TensorFlow for plain folders."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from sdnjax.data.data_settings import Data
from sdnjax.data.examples import Example
from sdnjax.data.sources import Failures, load_example, open_source


class EvaluationExamples(Iterator[Example]):
    """Iterates once over a process's share of a split, reading ahead in threads.

    Attributes:
      total: examples in this share, the unreadable ones included.
      failures: those left out under `on_bad_image="skip"`.
      label_space: of the data set.
    """

    def __init__(self, data: Data, split: str, process_index: int, process_count: int):
        source = open_source(data, split)
        indices = range(process_index, len(source), process_count)
        self.total = len(indices)
        self.failures = Failures()
        self.label_space = source.label_space
        self._examples = self._read(source, indices, data)

    def __next__(self) -> Example:
        return next(self._examples)

    def close(self) -> None:
        """Stops reading ahead; the iterator is then exhausted."""
        self._examples.close()

    def __enter__(self) -> EvaluationExamples:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _read(self, source, indices, data: Data) -> Iterator[Example]:
        pool = ThreadPoolExecutor(data.workers, thread_name_prefix="sdnjax-read")
        waiting: collections.deque[Future] = collections.deque()
        try:
            for index in indices:
                arguments = source, index, data.on_bad_image, self.failures
                waiting.append(pool.submit(load_example, *arguments, replace=False))
                if len(waiting) > 2 * data.workers:
                    yield from _present(waiting.popleft())
            while waiting:
                yield from _present(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def evaluation_examples(
    data: Data, split: str | None = None, process_index: int = 0, process_count: int = 1
) -> EvaluationExamples:
    """The examples of a split in order: own sizes, uint8, undistorted, not normalised.

    Args:
      data: the data set; `workers` threads read ahead.
      split: `data.val_split` by default.
      process_index, process_count: this process gets examples index, index + count, ….

    Raises: InputError, here for a missing data set and while iterating for a bad file
      (under `on_bad_image="raise"`; under "skip" it is left out and counted).
    """
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}")
    return EvaluationExamples(data, split or data.val_split, process_index, process_count)


def _present(future: Future) -> Iterator[Example]:
    example = future.result()
    if example is not None:
        yield example
