"""Examples read from inside the tf.data graph, what went wrong, and how long it took."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.sampling import sample
from sdnjax.data.reading import tf_png  # noqa: F401 (decode_image uses it once it is there)
from sdnjax.data.reading.examples import Example
from sdnjax.data.reading.source import Failures, Source, load_example
from sdnjax.data.sets.items import Encoded
from sdnjax.data.sets.label_space import mirror_table
from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE

# What a worker's seconds are spent on, in the order of `seconds` below.
STAGES = ("reading", "decoding", "augmentation")


class Loader:
    """Reads examples and keeps what went wrong.

    An exception that passes through TensorFlow arrives as a page of text of another type.
    So none does: a failed sample is marked, and the consumer raises the original.

    Attributes:
      superpixels: whether examples come with them.
      failures: examples that were replaced under `on_bad_image="skip"`.
      errors: sample number → the exception that ended it.
      stopped: once set, samples are marked as failed without being read.
    """

    def __init__(self, source: Source, data: Data, superpixels: bool = False):
        self.source = source
        self.superpixels = superpixels
        self.failures = Failures()
        self.errors: dict[int, Exception] = {}
        self.stopped = threading.Event()
        self._data = data
        self._mirror = mirror_table(source.label_space.mirrored)
        self._size: tuple[int, int] | None = None
        if data.augment_on == "device":
            # One size for all, which a sample that failed has too, so that batches can be made.
            first = load_example(source, 0, "skip", Failures(), read=self._read)
            assert first is not None  # see `_load`
            self._size = first.label.shape

    def cropped(self, number: np.int64, index: np.int64, draws: np.ndarray) -> tuple[Any, ...]:
        """Example `index` as sampled for sample `number`: a `Crop`'s fields and `_marks`."""
        example, loaded, seconds = self._load(int(number), int(index), blank=(1, 1))
        begin = time.perf_counter()
        crop = sample(
            example.image,
            example.label,
            draws,
            self._data,
            example.superpixels,
            mirror=self._mirror,
        )
        seconds[2] = time.perf_counter() - begin
        return *crop[:5], _present(crop.superpixels), *_marks(seconds, loaded)

    def whole(self, number: np.int64, index: np.int64) -> tuple[Any, ...]:
        """Example `index` as it is: image, label, superpixels, `_marks`."""
        assert self._size is not None  # whole examples are of one size
        example, loaded, seconds = self._load(int(number), int(index), blank=self._size)
        superpixels = _present(example.superpixels)
        return example.image, example.label, superpixels, *_marks(seconds, loaded)

    def _read(self, index: int) -> Example:
        return self.source.decode(self.source.read(index), superpixels=False)

    def _load(
        self, number: int, index: int, blank: tuple[int, int]
    ) -> tuple[Example, bool, np.ndarray]:
        """The example, or an empty one of the size `blank` after a failure; whether it was
        loaded; and float32 [3], seconds spent on `STAGES`."""
        seconds = np.zeros(len(STAGES), np.float32)

        def read(position: int) -> Example:
            begin = time.perf_counter()
            what = self.source.read(position)
            between = time.perf_counter()
            seconds[0] += between - begin
            try:
                example = self.source.decode(what, superpixels=self.superpixels)
            finally:
                seconds[1] += time.perf_counter() - between
            self._check(example, what.image_name if isinstance(what, Encoded) else what.name)
            return example

        if not self.stopped.is_set():
            try:
                args = self.source, index, self._data.on_bad_image, self.failures
                example = load_example(*args, read=read)
                assert example is not None  # one that cannot be read is replaced
                return example, True, seconds
            except _Unsuitable as error:
                self.errors[number] = InputError(str(error))
            except Exception as error:  # a defect, too, is the consumer's to see
                self.errors[number] = error
        return _blank((*blank, self.source.pixels.channels)), False, seconds

    def _check(self, example: Example, name: str) -> None:
        if self._size is not None and example.label.shape != self._size:
            (h, w), (height, width) = example.label.shape, self._size
            raise _Unsuitable(
                f"{name} is {w}×{h}, other images are {width}×{height}: data.augment_on=device "
                "needs images of one size, data.augment_on=host does not"
            )
        if self.superpixels and example.superpixels is None:
            raise _Unsuitable(f"{name} comes without superpixels, which data.superpixels asks for")


class _Unsuitable(Exception):
    """A file that is sound but does not suit the settings: no reason to skip it."""


def _blank(shape: tuple[int, int, int]) -> Example:
    return Example(np.zeros(shape, np.uint8), np.full(shape[:2], IGNORE, np.uint8), "")


def _present(superpixels: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 0), np.int32) if superpixels is None else superpixels


def _marks(seconds: np.ndarray, loaded: bool) -> tuple[np.ndarray, np.bool_]:
    """float32 [3], seconds spent on `STAGES`, and whether the sample was loaded."""
    return seconds, np.bool_(loaded)
