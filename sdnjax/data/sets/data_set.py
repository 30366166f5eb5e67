"""The record of a data set: everything that the library knows about it, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sdnjax.data.sets.items import Item
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError, did_you_mean

P = TypeVar("P")
Root = Any  # a Path, or None for a data set that is generated


def _aside(default: Any) -> Any:
    """A field that does not decide whether two records are the same data set."""
    return dataclasses.field(default=default, compare=False)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set: its classes, how its examples are found below a folder, and its facts.

    A configuration may hold one of its own, `Data(name=DataSet(…), dir=…)`. It needs the
    first four fields; `expected` helps those who give a wrong folder. Functions get the folder
    `root` that the user names; it is None for a data set that is `generated`.

    Attributes:
      name: in messages and in the names of folders.
      label_space: its classes, or a function root → classes that reads them from its folder.
      splits: root → the splits that are there, `()` if it is no such folder. Reads no file.
      items: root, split → the items of a split in order of their names; files are `Pair`s.
        Raises InputError if one half of a pair is missing.
      expected: the files that are looked for, for people: follows "expected" in errors.
      missing: root → what has to be added, one phrase, if a part of the data set is there and
        another is not; else "".
      counts: examples in each split as published.
      archives: the names of the archives that people download, each unpacked into one root.
      generated: whether items are computed. Then no folder is needed, and the data set is
        prepared when it is first opened if it has a version.
      version: of its prepared form; None for a data set that is always read from its files.
      description, homepage, license, citation: stored with its prepared form.
    """

    name: str
    label_space: LabelSpace | Callable[[Path], LabelSpace]
    splits: Callable[[Root], tuple[str, ...]] = dataclasses.field(compare=False)
    items: Callable[[Root, str], Sequence[Item]] = dataclasses.field(compare=False)
    expected: str = _aside("the files of the data set")
    missing: Callable[[Path], str] = _aside(lambda _: "")
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)
    archives: tuple[str, ...] = _aside(())
    generated: bool = False
    version: str | None = None
    description: str = _aside("")
    homepage: str = _aside("")
    license: str = _aside("")
    citation: str = _aside("")

    def label_space_in(self, root: Root) -> LabelSpace:
        """Its classes; InputError if they are read from `root` and cannot be."""
        space = self.label_space
        return space if isinstance(space, LabelSpace) else space(root)

    @property
    def is_own(self) -> bool:
        """Whether it is whatever lies in its folder, classes and all: a user's own."""
        return not isinstance(self.label_space, LabelSpace)

    def find(self, root: Root, split: str) -> Sequence[Item]:
        """The items of a split, at least one.

        Raises: InputError if the split does not exist or is empty, or a file is missing.
        """
        splits = self.splits(root)
        if not splits:
            raise InputError(self.absence(root))
        if split not in splits:
            hint = did_you_mean(split, splits) or f"; it has {', '.join(splits)}"
            if lacks := self.missing(root):
                hint += f"; {lacks}"
            raise InputError(f"{root or self.name} has no split {split!r}{hint}")
        items = self.items(root, split)
        if not items:
            raise InputError(
                f"{root or self.name}: split {split!r} is empty; expected {self.expected}"
            )
        return items

    def absence(self, root: Path, alternative: str = "") -> str:
        """Why `root` has no splits: what is missing, or what was expected and what was found.

        `alternative` is what may lie there instead.
        """
        if not root.is_dir():
            return f"{root} does not exist: expected {self.expected}{alternative}"
        if lacks := self.missing(root):
            return f"{root}: {lacks}"
        held = sorted(p.name for p in root.iterdir())
        listing = f"holds {', '.join(held[:4])}{', …' * (len(held) > 4)}" if held else "is empty"
        return f"{root} {listing}: expected {self.expected}{alternative}"

    def prepared_dir(self, root: P, superpixels: int | None = None) -> P:
        """Where its prepared form lies below `root`, a `Path` or anything with its `/`:
        `NAME/VERSION`, or `NAME/slicN/VERSION` with N superpixels."""
        folder = root / self.name  # type: ignore[operator]
        return (folder if superpixels is None else folder / f"slic{superpixels}") / self.version
