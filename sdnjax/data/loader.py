"""Examples read from inside the tf.data graph, what went wrong, and how long it took."""

from __future__ import annotations

import threading
import time

import numpy as np

from sdnjax.data import tf_png  # noqa: F401 (decode_image uses it once it is there)
from sdnjax.data.data_settings import Data
from sdnjax.data.examples import Example, Source, decode
from sdnjax.data.label_spaces import IGNORE
from sdnjax.data.sampling import sample
from sdnjax.data.sources import Failures, load_example
from sdnjax.errors import InputError

# What a worker's seconds are spent on, in the order of `seconds` below.
STAGES = ("reading", "decoding", "augmentation")


class Loader:
    """Reads examples and keeps what went wrong.

    An exception that passes through TensorFlow arrives as a page of text of another type.
    So none does: a failed sample is marked, and the consumer raises the original.

    Attributes:
      failures: examples that were replaced under `on_bad_image="skip"`.
      errors: sample number → the exception that ended it.
      stopped: once set, samples are marked as failed without being read.
    """

    def __init__(self, source: Source, data: Data):
        self.source = source
        self.failures = Failures()
        self.errors: dict[int, Exception] = {}
        self.stopped = threading.Event()
        self._data = data
        self._size = None
        if data.augment_on == "device":
            first = load_example(source, 0, "skip", Failures())
            self._size = first.label.shape

    def cropped(self, number, index, draws) -> tuple[np.ndarray, ...]:
        """Example `index` as sampled for sample `number`: a `Crop`'s fields and `_marks`."""
        example, seconds = self._load(int(number), int(index))
        begin = time.perf_counter()
        loaded = example is not None
        if not loaded:
            example = _blank((1, 1))
        crop = sample(example.image, example.label, draws, self._data, example.superpixels)
        seconds[2] = time.perf_counter() - begin
        return *crop[:5], _present(crop.superpixels), *_marks(seconds, loaded)

    def whole(self, number, index) -> tuple[np.ndarray, ...]:
        """Example `index` as it is: image, label, superpixels, `_marks`."""
        example, seconds = self._load(int(number), int(index))
        loaded = example is not None
        if not loaded:
            example = _blank(self._size)
        superpixels = _present(example.superpixels)
        return example.image, example.label, superpixels, *_marks(seconds, loaded)

    def _load(self, number: int, index: int) -> tuple[Example | None, np.ndarray]:
        """The example, or None after a failure, and float32 [3], seconds spent on `STAGES`."""
        seconds = np.zeros(len(STAGES), np.float32)

        def read(position: int) -> Example:
            begin = time.perf_counter()
            encoded = self.source.encoded(position)
            between = time.perf_counter()
            seconds[0] += between - begin
            try:
                example = decode(encoded, self.source.label_space)
            finally:
                seconds[1] += time.perf_counter() - between
            self._check(example, encoded.image_name)
            return example

        if not self.stopped.is_set():
            try:
                args = self.source, index, self._data.on_bad_image, self.failures
                return load_example(*args, read=read), seconds
            except _Unsuitable as error:
                self.errors[number] = InputError(str(error))
            except Exception as error:  # a defect, too, is the consumer's to see
                self.errors[number] = error
        return None, seconds

    def _check(self, example: Example, name: str) -> None:
        if self._size is not None and example.label.shape != self._size:
            (h, w), (height, width) = example.label.shape, self._size
            raise _Unsuitable(
                f"{name} is {w}×{h}, other images are {width}×{height}: data.augment_on=device "
                "needs images of one size, data.augment_on=host does not"
            )
        if self._data.superpixels is not None and example.superpixels is None:
            raise _Unsuitable(f"{name} comes without superpixels, which data.superpixels asks for")


class _Unsuitable(Exception):
    """A file that is sound but does not suit the settings: no reason to skip it."""


def _blank(size: tuple[int, int]) -> Example:
    return Example(np.zeros((*size, 3), np.uint8), np.full(size, IGNORE, np.uint8), "")


def _present(superpixels: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 0), np.int32) if superpixels is None else superpixels


def _marks(seconds: np.ndarray, loaded: bool) -> tuple[np.ndarray, np.bool_]:
    """float32 [3], seconds spent on `STAGES`, and whether the sample was loaded."""
    return seconds, np.bool_(loaded)
