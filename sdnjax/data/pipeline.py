"""Training batches as a pure function of (seed, step).

Sample g = step · batch_size + row belongs to epoch g // n and shows the example at place
g % n of that epoch's permutation. Nothing is counted, buffered or shuffled on the way, so a
run resumes anywhere at once, and any number of processes sees the same global batches.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator

import numpy as np

from sdnjax.data.augment import augment, example_key
from sdnjax.data.config import Data
from sdnjax.data.evaluation import EvaluationExamples, evaluation_examples
from sdnjax.data.examples import Source
from sdnjax.data.sources import Failures, load_example, open_source
from sdnjax.data.tf_setup import tf
from sdnjax.errors import InputError

__all__ = [
    "EvaluationExamples",
    "TrainBatches",
    "evaluation_examples",
    "shuffled_index",
    "train_batches",
]

Batch = dict[str, np.ndarray]
_MANY = 2**62


def train_batches(
    data: Data,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    stop_step: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainBatches:
    """The batches of steps start_step … stop_step − 1 (without end by default).

    Args:
      data: the data set and its augmentation.
      seed: decides order and augmentation, with the step alone.
      batch_size: of all processes together.
      process_index, process_count: this process gets rows index · b … (index + 1) · b − 1
        of every global batch, b = batch_size / process_count.

    Returns: an iterator of {"image": float32 [b, h, w, 3], "label": int32 [b, h, w]},
      normalised, labels 0…K−1 and 255. The arrays may be read-only. Close it, or use it
      in a `with` statement.
    Raises: InputError, here for settings and a missing data set, and while iterating, at
      the step that needs it, for a bad file (under `on_bad_image="raise"`).
    """
    if batch_size < 1 or batch_size % process_count:
        raise InputError(
            f"batch size {batch_size} must be a positive multiple of {process_count} processes"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}")
    if start_step < 0 or (stop_step is not None and stop_step < start_step):
        raise ValueError(f"steps {start_step} to {stop_step}")
    share = batch_size // process_count
    stop = _MANY if stop_step is None else stop_step * share
    source = open_source(data, data.train_split)
    loader = _Loader(source, data.on_bad_image)
    samples = tf.data.Dataset.range(start_step * share, stop).map(
        lambda m: (m // share) * batch_size + process_index * share + m % share
    )
    return TrainBatches(_dataset(samples, loader, data, seed).batch(share), loader)


class TrainBatches(Iterator[Batch]):
    """Iterator of training batches; see `train_batches`.

    Attributes:
      failures: examples that were replaced under `on_bad_image="skip"`.
      num_examples: examples in the split, which is what an epoch has.
      label_space: of the data set.
    """

    def __init__(self, dataset: tf.data.Dataset, loader: _Loader):
        self.failures = loader.failures
        self.num_examples = len(loader.source)
        self.label_space = loader.source.label_space
        self._loader = loader
        self._held = [iter(dataset.prefetch(2))]
        # Also at interpreter exit: TensorFlow's threads must not call Python after that.
        self._finalizer = weakref.finalize(self, _stop, self._held, loader)

    def __next__(self) -> Batch:
        if not self._held:
            raise StopIteration
        try:
            image, label, sample, loaded = next(self._held[0])
        except StopIteration:
            self.close()
            raise
        if not (loaded := loaded.numpy()).all():
            error = self._loader.errors[int(sample.numpy()[~loaded][0])]
            self.close()
            raise error
        return {"image": image.numpy(), "label": label.numpy()}

    def close(self) -> None:
        """Stops reading ahead; the iterator is then exhausted."""
        self._finalizer()

    def __enter__(self) -> TrainBatches:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Loader:
    """Reads examples from inside the tf.data graph and keeps what went wrong.

    An exception that passes through TensorFlow arrives as a page of text of another type.
    So none does: a failed sample is marked, and the consumer raises the original.
    """

    def __init__(self, source: Source, on_bad_image: str):
        self.source = source
        self.failures = Failures()
        self.errors: dict[int, Exception] = {}
        self.stopped = threading.Event()
        self._on_bad_image = on_bad_image

    def __call__(self, sample, index):
        if not self.stopped.is_set():
            try:
                args = self.source, int(index), self._on_bad_image, self.failures
                example = load_example(*args)
            except Exception as error:  # a defect, too, is the consumer's to see
                self.errors[int(sample)] = error
            else:
                return example.image, example.label, np.True_
        return np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), np.False_


def shuffled_index(position, epoch, seed, count: int):
    """The example at a position of an epoch's permutation of 0…count−1: int64.

    `index_shuffle` knows no more than 256 permutations of a given count, with a bias that
    shows, so two of them are composed, each followed by a rotation.
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0x6F726465, tf.int64)])
    key = tf.random.fold_in(key, tf.cast(epoch, tf.int64), alg="philox")
    bits = tf.random.stateless_uniform(
        [6], key, minval=None, maxval=None, dtype=tf.int64, alg="philox"
    )
    index = tf.cast(position, tf.int64)
    for shuffle_seed, turn in ((bits[0:2], bits[2]), (bits[3:5], bits[5])):
        index = tf.random.experimental.index_shuffle(index, shuffle_seed, np.int64(count - 1))
        index = (index + tf.math.floormod(turn, count)) % count
    return index


def _dataset(samples: tf.data.Dataset, loader: _Loader, data: Data, seed: int) -> tf.data.Dataset:
    """Sample numbers → (image, label, sample, whether it was loaded)."""
    count = len(loader.source)

    def example(sample):
        epoch, position = sample // count, sample % count
        index = shuffled_index(position, epoch, seed, count)
        image, label, loaded = tf.numpy_function(
            loader, [sample, index], (tf.uint8, tf.uint8, tf.bool)
        )
        image, label = tf.ensure_shape(image, (None, None, 3)), tf.ensure_shape(label, (None, None))
        image, label = augment(image, label, example_key(seed, epoch, index), data)
        return image, label, sample, tf.ensure_shape(loaded, ())

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = data.workers
    options.threading.max_intra_op_parallelism = 1
    return samples.map(example, num_parallel_calls=data.workers).with_options(options)


def _stop(held: list, loader: _Loader) -> None:
    """Lets calls under way return at once, then drops the iterator, which waits for them."""
    loader.stopped.set()
    with contextlib.suppress(IndexError):
        held.pop()
