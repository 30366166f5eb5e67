"""What a layout is: how the pairs of a data set's splits are found below a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from sdnjax.errors import InputError, did_you_mean


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
      missing: root → what has to be added, one phrase, if a part of the data set is there and
        another is not; else "".
      counts: pairs in each split as published.
      archives: the names of the archives that people download, each unpacked into one root.
    """

    expected: str
    splits: Callable[[Path], tuple[str, ...]]
    pairs: Callable[[Path, str], list[Pair]]
    missing: Callable[[Path], str] = lambda _: ""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    archives: tuple[str, ...] = ()

    def find(self, root: Path, split: str) -> list[Pair]:
        """The pairs of a split, at least one.

        Raises: InputError if the split does not exist or is empty, or a file is missing.
        """
        splits = self.splits(root)
        if not splits:
            raise InputError(self.absence(root))
        if split not in splits:
            hint = did_you_mean(split, splits) or f"; it has {', '.join(splits)}"
            if lacks := self.missing(root):
                hint += f"; {lacks}"
            raise InputError(f"{root} has no split {split!r}{hint}")
        pairs = self.pairs(root, split)
        if not pairs:
            raise InputError(f"{root}: split {split!r} is empty; expected {self.expected}")
        return pairs

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
