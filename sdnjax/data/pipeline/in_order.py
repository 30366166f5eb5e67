"""The examples of a split in order, as they are; without TensorFlow for plain folders."""

from __future__ import annotations

import collections
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from sdnjax.data.data_settings import Data, wants_superpixels
from sdnjax.data.reading.examples import Example
from sdnjax.data.reading.source import Failures, Source, load_example
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError


class EvaluationExamples(Iterator[Example]):
    """Iterates once over a process's share of a split, reading ahead in threads.

    Attributes:
      total: examples in this share, the unreadable ones included.
      failures: those left out under `on_bad_image="skip"`.
      label_space: of the data set.
    """

    def __init__(
        self,
        data: Data,
        split: str,
        process_index: int,
        process_count: int,
        extras: tuple[str, ...] = (),
    ):
        superpixels = wants_superpixels(data, extras)
        source = open_source(data, split)
        indices = range(process_index, len(source), process_count)
        self.total = len(indices)
        self.failures = Failures()
        self.label_space = source.label_space
        self._examples = self._read(source, indices, data, superpixels)

    def __next__(self) -> Example:
        return next(self._examples)

    def close(self) -> None:
        """Stops reading ahead; the iterator is then exhausted."""
        self._examples.close()

    def __enter__(self) -> EvaluationExamples:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(
        self, source: Source, indices: range, data: Data, superpixels: bool
    ) -> Generator[Example]:
        def read(index: int) -> Example:
            return source.decode(source.read(index), superpixels=superpixels)

        pool = ThreadPoolExecutor(data.workers, thread_name_prefix="sdnjax-read")
        waiting: collections.deque[Future[Example | None]] = collections.deque()
        try:
            for index in indices:
                arguments = source, index, data.on_bad_image, self.failures
                waiting.append(pool.submit(load_example, *arguments, replace=False, read=read))
                # Enough for every thread to have a next example, and no more in memory.
                if len(waiting) > 2 * data.workers:
                    yield from _present(waiting.popleft())
            while waiting:
                yield from _present(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def evaluation_examples(
    data: Data,
    split: str | None = None,
    process_index: int = 0,
    process_count: int = 1,
    *,
    extras: tuple[str, ...] = (),
) -> EvaluationExamples:
    """The examples of a split in order: own sizes, uint8, undistorted, not normalised.

    Args:
      data: the data set; `workers` threads read ahead.
      split: `data.val_split` by default.
      process_index, process_count: this process gets examples index, index + count, ….
      extras: what the network asks for besides images: with "superpixels" among them, each
        example has those that `data.superpixels` names; otherwise they are not even decoded.

    Raises:
      InputError: here for a missing data set or superpixels that are not set, and while iterating
        for a bad file (under `on_bad_image="raise"`; under "skip" it is left out and counted).
    """
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}")
    split = split or data.val_split
    if split is None:
        raise InputError("data.val_split is none: name the split that is to be evaluated")
    return EvaluationExamples(data, split, process_index, process_count, extras)


def _present(future: Future[Example | None]) -> Iterator[Example]:
    example = future.result()
    if example is not None:
        yield example
