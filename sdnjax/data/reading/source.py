"""Random access to the examples of a split, and what happens to those that cannot be read."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable, Sequence

from sdnjax.data.pixels import STORED, Pixels
from sdnjax.data.reading.examples import Example, checked, decode
from sdnjax.data.sets.items import Encoded, Item, Pair
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError


class Source(abc.ABC):
    """A split of a data set: `len(source)` examples, `source[i]` for 0 ≤ i < len.

    Whoever has no files writes a subclass whose `read` returns finished examples. Reading must
    be safe from several threads. `source[i]` raises InputError that names the file if it is
    damaged, if sizes differ or if a label value has no meaning.

    Attributes:
      note: what people should know of how its examples were found, or nothing.
    """

    note: str = ""

    def __init__(self, space: LabelSpace, split: str, pixels: Pixels = STORED):
        self.label_space = space
        self.split = split
        self.pixels = pixels

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """What failures call example `index`; works when the example cannot be decoded."""

    @abc.abstractmethod
    def read(self, index: int) -> Encoded | Example:
        """The undecoded files of example `index`, or the example if there are none."""

    def decode(self, what: Encoded | Example, *, superpixels: bool = True) -> Example:
        """What `read` returned as an example, with superpixels only if they are wanted."""
        if isinstance(what, Encoded):
            return decode(what, self.label_space, superpixels=superpixels, pixels=self.pixels)
        return checked(what, self.label_space, self.pixels.channels)

    def __getitem__(self, index: int) -> Example:
        return self.decode(self.read(index))


class ItemSource(Source):
    """The items of a data set, read directly."""

    def __init__(
        self, space: LabelSpace, split: str, items: Sequence[Item], pixels: Pixels = STORED
    ):
        super().__init__(space, split, pixels)
        self._items = items
        self.note = _naming(items[0]) if items else ""

    def __len__(self) -> int:
        return len(self._items)

    def name(self, index: int) -> str:
        return self._items[index].name

    def read(self, index: int) -> Encoded:
        return self._items[index].read()


def _naming(item: Item) -> str:
    """How labels are named, if not as their pictures."""
    if not isinstance(item, Pair):
        return ""
    picture, label = item.image.stem, item.label.stem
    # Benchmarks with names of their own are described in their records.
    if picture != label and label.startswith(picture):
        return f"labels are named {item.label.name} for {item.image.name}"
    return ""


class Part(Source):
    """Some examples of another source, in its order."""

    def __init__(self, source: Source, split: str, indices: Sequence[int], note: str):
        super().__init__(source.label_space, split, source.pixels)
        self._source, self._indices = source, indices
        self.note = "; ".join(filter(None, (source.note, note)))

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        return self._source.name(self._indices[index])

    def read(self, index: int) -> Encoded | Example:
        return self._source.read(self._indices[index])


class Failures:
    """The examples that could not be read, each counted once; safe from several threads."""

    def __init__(self) -> None:
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
