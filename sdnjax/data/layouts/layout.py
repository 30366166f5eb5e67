"""What a layout is: how the pairs of a data set's splits are found below a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from sdnjax.config import nearest
from sdnjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file; `name` says which, within the split."""

    name: str
    image: Path
    label: Path


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a data set lies on a disk.

    Attributes:
      expected: the files that are looked for, for people: follows "expected" in errors.
      splits: root → the splits that are there, `()` if it is no such folder; reads no file.
      pairs: root, split → its pairs in order of their names. Raises InputError if one half
        of a pair is missing.
      counts: pairs in each split as published.
      archives: the names of the archives that people download, each unpacked into one root.
    """

    expected: str
    splits: Callable[[Path], tuple[str, ...]]
    pairs: Callable[[Path, str], list[Pair]]
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    archives: tuple[str, ...] = ()

    def find(self, root: Path, split: str) -> list[Pair]:
        """The pairs of a split, at least one.

        Raises: InputError if the split does not exist or is empty, or a file is missing.
        """
        splits = self.splits(root)
        if not splits:
            there = "" if root.is_dir() else " does not exist"
            raise InputError(f"{root}{there}: expected {self.expected}")
        if split not in splits:
            hint = nearest(split, splits) or f"; it has {', '.join(splits)}"
            raise InputError(f"{root} has no split {split!r}{hint}")
        pairs = self.pairs(root, split)
        if not pairs:
            raise InputError(f"{root}: split {split!r} is empty; expected {self.expected}")
        return pairs


def matched(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    image_of: Callable[[str], Path],
    label_of: Callable[[str], Path],
) -> list[Pair]:
    """Pairs of equal names, in order; InputError that names the file without a partner.

    `image_of` and `label_of` say where the missing half would lie.
    """
    for lone, theirs, what, where in (
        (images, labels, "label", label_of),
        (labels, images, "image", image_of),
    ):
        for name in sorted(lone.keys() - theirs.keys()):
            raise InputError(f"{lone[name]} has no {what}: expected {where(name)}")
    return [Pair(name, images[name], labels[name]) for name in sorted(images)]
