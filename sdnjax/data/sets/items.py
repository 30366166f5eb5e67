"""One item of a data set before it is decoded: a pair of files, or whatever takes its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

from sdnjax.errors import InputError
from sdnjax.files import read_bytes


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An example as encoded files.

    Attributes:
      name: of the example, within its split.
      image, label: the content of an image file and of a label file (a MATLAB file if
        `label_name` ends with `.mat`).
      image_name, label_name: what errors call them.
      superpixels: a 16-bit PNG of the superpixels, if there are any.
      is_computed: whether the label was worked out, so that reading it again is work.
    """

    name: str
    image: bytes
    label: bytes
    image_name: str
    label_name: str
    superpixels: bytes | None = None
    is_computed: bool = False


class Item(Protocol):
    """What a data set finds of an example without opening a file. It can be pickled.

    Attributes:
      name: of the example, within its split.
    """

    @property
    def name(self) -> str: ...

    def read(self) -> Encoded:
        """Reads the files; InputError that names the one that cannot be read."""

    def state(self) -> list[Any]:
        """`[name, *files]`, for JSON; a file is `[path, bytes, time of change]`, or `[path]`
        if it is missing. Items of equal states are taken to have equal content."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file."""

    name: str
    image: Path
    label: Path

    def read(self) -> Encoded:
        image, label = read_bytes(self.image), read_bytes(self.label)
        return Encoded(self.name, image, label, str(self.image), str(self.label))

    def state(self) -> list[Any]:
        return [self.name, _file_state(self.image), _file_state(self.label)]


@dataclasses.dataclass(frozen=True)
class Lone:
    """An image without its label, or a label without its image: nothing that can be read."""

    name: str
    file: Path
    problem: str

    def read(self) -> Encoded:
        raise InputError(self.problem)

    def state(self) -> list[Any]:
        return [self.name, _file_state(self.file), self.problem]


def _file_state(path: Path) -> list[Any]:
    try:
        facts = path.stat()
    except OSError:  # reading it will say why
        return [str(path)]
    return [str(path), facts.st_size, facts.st_mtime_ns]
