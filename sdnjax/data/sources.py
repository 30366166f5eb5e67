"""Random access to the examples of a data set, wherever they are kept.

Plain folders are read as they are. A data set that was prepared (`sdnjax.data.prepare`) is
read from its ArrayRecord files. Both give the same examples in the same order.
"""

from __future__ import annotations

import abc
import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sdnjax.config import nearest
from sdnjax.data.config import Data
from sdnjax.data.images import decode_image, decode_label, read_bytes
from sdnjax.data.label_spaces import LabelSpace, label_space
from sdnjax.data.layouts import LAYOUTS, Layout
from sdnjax.errors import InputError

VERSIONS = {"camvid": "1.0.0", "shapes": "1.0.0"}


@dataclasses.dataclass(frozen=True)
class Example:
    """One example: image uint8 [H, W, 3] RGB, label uint8 [H, W] of 0…K−1 and 255, name, and
    superpixels int32 [H, W] of 0…N−1 if the data set was prepared with them."""

    image: np.ndarray
    label: np.ndarray
    name: str
    superpixels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An example's files as bytes, and what errors call them."""

    name: str
    image: bytes
    label: bytes
    image_name: str
    label_name: str
    superpixels: bytes | None = None


class Source(abc.ABC):
    """A split of a data set: `len(source)` examples, `source[i]` for 0 ≤ i < len.

    Reading is safe from several threads. `source[i]` raises InputError that names the file
    if it is damaged, if sizes differ or if a label value has no meaning.
    """

    def __init__(self, space: LabelSpace, split: str):
        self.label_space = space
        self.split = split

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """What failures call example `index`; works when the example cannot be decoded."""

    @abc.abstractmethod
    def encoded(self, index: int) -> Encoded:
        """The undecoded files of example `index`."""

    def __getitem__(self, index: int) -> Example:
        return decode(self.encoded(index), self.label_space)


def decode(encoded: Encoded, space: LabelSpace) -> Example:
    """Decodes, checks and maps one example; the only place where labels are mapped."""
    image = decode_image(encoded.image, encoded.image_name)
    raw = decode_label(encoded.label, encoded.label_name)
    if image.shape[:2] != raw.shape:
        raise InputError(
            f"{encoded.image_name} is {_size(image)} but {encoded.label_name} is {_size(raw)}: "
            "an image and its label must have one size"
        )
    return Example(image, space.map_labels(raw, encoded.label_name), encoded.name)


def open_source(data: Data, split: str) -> Source:
    """Opens a split of the data set that `data` names.

    Without `data.dir`, shapes lives in `$XDG_CACHE_HOME/sdnjax` (or `~/.cache/sdnjax`) and
    is generated there on first use, which takes a few seconds. For camvid, `data.dir`
    holds the SegNet layout, or a prepared data set in `camvid/1.0.0`, which has precedence.

    Raises: InputError if there is nothing there or the split does not exist.
    """
    space = label_space(data.name)
    if data.name not in VERSIONS:
        raise InputError(
            f"data.name {data.name!r} has no reader yet; there are {', '.join(VERSIONS)}"
        )
    if data.name == "shapes":
        root = Path(data.dir).expanduser() if data.dir else default_cache()
        if not is_prepared(root, "shapes"):
            from sdnjax.data.prepare import prepare  # noqa: PLC0415 (imports TensorFlow)

            prepare("shapes", root, progress=False)
        return _PreparedSource(root, space, split)
    if data.dir is None:
        raise InputError(f"{data.name} needs --data.dir, the folder that holds it")
    root, layout = Path(data.dir).expanduser(), LAYOUTS[data.name]
    if is_prepared(root, data.name):
        return _PreparedSource(root, space, split)
    if not layout.splits(root):
        raise InputError(
            f"--data.dir {root}{'' if root.is_dir() else ' does not exist'}: expected "
            f"{layout.expected}, or a prepared {root / data.name / VERSIONS[data.name]}"
        )
    return FolderSource(root, space, split, layout)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/sdnjax`, by default `~/.cache/sdnjax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sdnjax"


def prepared_dir(root: Path, name: str) -> Path:
    return root / name / VERSIONS[name]


def is_prepared(root: Path, name: str) -> bool:
    return (prepared_dir(root, name) / "dataset_info.json").is_file()


class FolderSource(Source):
    """The files of a layout, read directly."""

    def __init__(self, root: Path, space: LabelSpace, split: str, layout: Layout):
        super().__init__(space, split)
        self._pairs = layout.find(root, split)

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, index: int) -> str:
        return self._pairs[index].name

    def encoded(self, index: int) -> Encoded:
        pair = self._pairs[index]
        image, label = read_bytes(pair.image), read_bytes(pair.label)
        return Encoded(pair.name, image, label, str(pair.image), str(pair.label))


class _PreparedSource(Source):
    """ArrayRecord files that TFDS wrote; their images are decoded here, not by TFDS."""

    def __init__(self, root: Path, space: LabelSpace, split: str):
        super().__init__(space, split)
        from sdnjax.data.tfds_setup import tfds  # noqa: PLC0415 (imports TensorFlow)

        self._dir = prepared_dir(root, space.name)
        try:
            builder = tfds.builder_from_directory(self._dir)
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{self._dir}: damaged, prepare it again ({reason})") from error
        if split not in builder.info.splits:
            splits = list(builder.info.splits)
            hint = nearest(split, splits) or f"; it has {', '.join(splits)}"
            raise InputError(f"{self._dir} has no split {split!r}{hint}")
        skip = tfds.decode.SkipDecoding()
        self._records = builder.as_data_source(split, decoders={"image": skip, "label": skip})

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        return self._records[index]["name"].decode()

    def encoded(self, index: int) -> Encoded:
        record = self._records[index]
        name = record["name"].decode()
        place = f"{self._dir}, {self.split} {name}"
        return Encoded(name, record["image"], record["label"], f"{place} image", f"{place} label")


class Failures:
    """The examples that could not be read, each counted once; safe from several threads."""

    def __init__(self):
        self._messages: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, message: str) -> None:
        with self._lock:
            self._messages.setdefault(name, message)

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def messages(self) -> dict[str, str]:
        """Name of the example → the one line that says what is wrong with it."""
        with self._lock:
            return dict(self._messages)


def load_example(
    source: Source,
    index: int,
    on_bad_image: str,
    failures: Failures,
    *,
    replace: bool = True,
    read: Callable[[int], Example] | None = None,
) -> Example | None:
    """`source[index]`, or what stands for it when it cannot be read.

    Under `on_bad_image="raise"` the InputError propagates. Under "skip" the failure is
    recorded, and the result is the next readable example (index + 1, cyclically), so that
    training keeps its batch size, or None if `replace` is false, as in evaluation. `read`
    stands for `source.__getitem__`.

    Raises: InputError also if no example of the source can be read.
    """
    first: InputError | None = None
    for step in range(len(source)):
        position = (index + step) % len(source)
        try:
            return source[position] if read is None else read(position)
        except InputError as error:
            if on_bad_image == "raise":
                raise
            failures.add(source.name(position), str(error))
            if not replace:
                return None
            first = first or error
    raise InputError(f"no example of {source.split!r} can be read; the first failure: {first}")


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
