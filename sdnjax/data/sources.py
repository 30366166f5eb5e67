"""Where examples come from: plain folders, prepared data sets, generated scenes.

Plain folders are read as they are. A data set that was prepared (`sdnjax.data.prepare`) is
read from its ArrayRecord files. Both give the same examples in the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from sdnjax.data.data_settings import Data
from sdnjax.data.examples import Encoded, Example, Source, read_pair
from sdnjax.data.label_spaces import FOLDER, LabelSpace, label_space
from sdnjax.data.label_spaces.class_file import read_classes
from sdnjax.data.layouts import LAYOUTS, Layout
from sdnjax.data.prepared import VERSIONS, open_prepared, prepared_dir
from sdnjax.errors import InputError


def label_space_of(data: Data) -> LabelSpace:
    """The classes of the data set that `data` names; a user's own are read from its class file.

    Raises: InputError for a class file that is missing or has a mistake.
    """
    if data.name == FOLDER:
        return read_classes(_root(data) / "classes.csv")
    return label_space(data.name)


def open_source(data: Data, split: str) -> Source:
    """Opens a split of the data set that `data` names.

    Without `data.dir`, shapes lives in `$XDG_CACHE_HOME/sdnjax` (or `~/.cache/sdnjax`) and
    is generated there on first use, which takes a few seconds. For every other, `data.dir`
    holds the files in the layout of its archives (see `sdnjax.data.layouts`), or a prepared
    data set in `NAME/VERSION`, which has precedence. With `data.superpixels`, or in a bucket
    (`gs://…`), only a prepared one is read.

    Raises: InputError if there is nothing there or the split does not exist.
    """
    if (prepared := open_prepared(data, split)) is not None:
        return prepared
    root, layout = _root(data), LAYOUTS[data.name]
    if not layout.splits(root):
        known = data.name in VERSIONS
        prepared = f", or a prepared {prepared_dir(root, data.name)}" if known else ""
        raise InputError(f"--data.dir {layout.absence(root, prepared)}")
    return FolderSource(root, label_space_of(data), split, layout)


def _root(data: Data) -> Path:
    if data.dir is None:
        raise InputError(f"{data.name} needs --data.dir, the folder that holds it")
    return Path(data.dir).expanduser()


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
        return read_pair(self._pairs[index])


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
