"""Training batches as a pure function of (seed, step).

Sample g = step · batch_size + row belongs to epoch g // n and shows the example at place
g % n of that epoch's permutation. Nothing is counted, buffered or shuffled on the way, so a
run resumes anywhere at once, and any number of processes sees the same global batches.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sdnjax.data.data_settings import Data, wants_superpixels
from sdnjax.data.pipeline.augmentation import example_draws, finisher
from sdnjax.data.pipeline.interrupts import interrupted_afterwards
from sdnjax.data.pipeline.loader import STAGES, Loader
from sdnjax.data.pipeline.processes import ProcessBatches
from sdnjax.data.pipeline.sampling import COLOUR_DRAWS
from sdnjax.data.reading.source import Source
from sdnjax.data.sources import open_source
from sdnjax.data.tf_setup import as_written, tf
from sdnjax.errors import InputError

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
    source: Source | None = None,
    extras: tuple[str, ...] = (),
) -> TrainBatches | ProcessBatches:
    """The batches of steps start_step … stop_step − 1 (without end by default).

    Args:
      data: the data set and its augmentation.
      seed: decides order and augmentation, with the step alone.
      batch_size: of all processes together.
      process_index, process_count: this process gets rows index · b … (index + 1) · b − 1
        of every global batch, b = batch_size / process_count.
      source: examples of your own in place of the data set that `data` names.
      extras: what the network asks for besides images. With "superpixels" among them, those
        that `data.superpixels` names are read, augmented with the labels, and in the batch;
        "picture" needs nothing here.

    Returns: an iterator of {"image": float32 [b, h, w, 3], "label": int32 [b, h, w]},
      normalised, labels 0…K−1 and 255. Under `transfer="uint8"` both are uint8, not normalised,
      with what of them is covered, {"extent": int32 [b, 2]}, for
      `Normalization.batch`. Under `augment_on="device"` they are as in the files instead, {"image":
      uint8 [b, H, W, 3], "label": uint8 [b, H, W]}, with what `sdnjax.ops.augment_batch` needs
      besides, {"epoch": int32 [b], "index": int32 [b]}.
      Both with "superpixels" int32 [b, h, w] or [b, H, W] if they are among `extras`, −1
      beyond a small image. The arrays are read-only. Close it, or use it in a `with`
      statement.
    Raises:
      InputError: here for settings, extras and a missing data set, and while iterating, at the step
        that needs it, for a bad file (under `on_bad_image="raise"`) and for one whose size differs
        (under `augment_on="device"`).
    """
    if batch_size < 1 or batch_size % process_count:
        raise InputError(
            f"batch size {batch_size} must be a positive multiple of {process_count} processes"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}")
    if start_step < 0 or (stop_step is not None and stop_step < start_step):
        raise ValueError(f"steps {start_step} to {stop_step}")
    superpixels = wants_superpixels(data, extras)
    share = batch_size // process_count
    stop = _MANY if stop_step is None else stop_step * share
    if data.processes and source is None:
        options = {
            "seed": seed,
            "batch_size": batch_size,
            "start_step": start_step,
            "stop_step": stop_step,
            "process_index": process_index,
            "process_count": process_count,
            "extras": extras,
        }
        return ProcessBatches(data, open_source(data, data.train_split), options)
    source = open_source(data, data.train_split) if source is None else source
    loader = Loader(source, data, superpixels)
    # The m-th sample of this process is in step m // share. Numbering the samples of all
    # processes together makes the global batch the same for any number of them.
    samples = tf.data.Dataset.range(start_step * share, stop).map(
        as_written(lambda m: (m // share) * batch_size + process_index * share + m % share)
    )
    return TrainBatches(_dataset(samples, loader, data, seed).batch(share), loader)


class TrainBatches(Iterator[Batch]):
    """Iterator of training batches; see `train_batches`.

    Attributes:
      failures: examples that were replaced under `on_bad_image="skip"`.
      num_examples: examples in the split, which is what an epoch has.
      label_space: of the data set.
      seconds: what the workers' time went into so far, for the batches that were taken:
        "reading" files, "decoding" and "augmentation". Seconds of all workers together.
    """

    def __init__(self, dataset: tf.data.Dataset, loader: Loader):
        self.failures = loader.failures
        self.num_examples = len(loader.source)
        self.label_space = loader.source.label_space
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._loader = loader
        self._held = [iter(dataset.prefetch(2))]
        # Also at interpreter exit: TensorFlow's threads must not call Python after that.
        self._finalizer = weakref.finalize(self, _stop, self._held, loader)

    def __next__(self) -> Batch:
        if not self._held:
            raise StopIteration
        try:
            with interrupted_afterwards():
                fields, number, seconds, loaded = next(self._held[0])
        except StopIteration:
            self.close()
            raise
        if not (loaded := loaded.numpy()).all():
            error = self._loader.errors[int(number.numpy()[~loaded][0])]
            self.close()
            raise error
        for stage, spent in zip(STAGES, seconds.numpy().sum(0), strict=True):
            self.seconds[stage] += float(spent)
        # Not `.numpy()`, which would copy.
        return {name: np.asarray(values) for name, values in fields.items()}

    def close(self) -> None:
        """Stops reading ahead; the iterator is then exhausted."""
        self._finalizer()

    def __enter__(self) -> TrainBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def shuffled_index(position: Any, epoch: Any, seed: Any, count: int) -> tf.Tensor:
    """The example at a position of an epoch's permutation of 0…count−1: int64.

    Stateless: any position of any epoch is computed by itself, which is why a run resumes
    anywhere at once. `index_shuffle` has no more than 256 permutations of a given count, with
    a bias that shows, so two of them are composed, each followed by a rotation.
    """
    # The constant ("order") keeps these numbers apart from those of the augmentation.
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


def _dataset(samples: tf.data.Dataset, loader: Loader, data: Data, seed: int) -> tf.data.Dataset:
    """Sample numbers → what a batch holds of each, and its marks."""
    count = len(loader.source)
    marks = (tf.float32, tf.bool)

    def cropped(
        finish: Callable[..., tf.Tensor], number: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor
    ) -> tuple[Any, ...]:
        draws = example_draws(seed, epoch, index)
        types = (tf.uint8, tf.float32, tf.float32, tf.int32, tf.uint8, tf.int32, *marks)
        *crop, label, superpixels, seconds, loaded = tf.numpy_function(
            loader.cropped, [number, index, draws], types
        )
        # The dependencies put the two timestamps before and after the work; without them
        # TensorFlow may take them in any order.
        begin = tf.timestamp()
        with tf.control_dependencies([begin]):
            image = finish(*crop, draws[COLOUR_DRAWS])
        with tf.control_dependencies([image]):
            seconds += [0.0, 0.0, tf.cast(tf.timestamp() - begin, tf.float32)]
        label = tf.ensure_shape(label, data.crop_size)
        if data.transfer == "uint8":
            fields = {"image": image, "label": label, "extent": tf.ensure_shape(crop[3], (2,))}
        else:
            fields = {"image": image, "label": tf.cast(label, tf.int32)}
        return fields, superpixels, seconds, loaded

    def whole(number: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor) -> tuple[Any, ...]:
        types = (tf.uint8, tf.uint8, tf.int32, *marks)
        image, label, superpixels, seconds, loaded = tf.numpy_function(
            loader.whole, [number, index], types
        )
        image = tf.ensure_shape(image, (None, None, data.channels))
        label = tf.ensure_shape(label, (None, None))
        identity = {"epoch": tf.cast(epoch, tf.int32), "index": tf.cast(index, tf.int32)}
        return {"image": image, "label": label, **identity}, superpixels, seconds, loaded

    on_host = data.augment_on == "host"
    load = functools.partial(cropped, finisher(data)) if on_host else whole

    def example(number: tf.Tensor) -> tuple[Any, ...]:
        epoch, position = number // count, number % count
        index = shuffled_index(position, epoch, seed, count)
        fields, superpixels, seconds, loaded = load(number, epoch, index)
        if loader.superpixels:
            fields["superpixels"] = tf.ensure_shape(superpixels, (None, None))
        return fields, number, tf.ensure_shape(seconds, (3,)), tf.ensure_shape(loaded, ())

    options = tf.data.Options()
    options.deterministic = True
    # Autotuning would change the number of workers, which the user has set.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = data.workers
    options.threading.max_intra_op_parallelism = 1
    return samples.map(as_written(example), num_parallel_calls=data.workers).with_options(options)


def _stop(held: list[Any], loader: Loader) -> None:
    """Lets calls under way return at once, then drops the iterator, which waits for them."""
    loader.stopped.set()
    with contextlib.suppress(IndexError):
        held.pop()
