"""Several folders of one's own as one data set, some of them seen more often than others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.folder import FOLDER
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError


def mixed(name: str, times: Mapping[str, int], *, train_split: str = "train") -> DataSet:
    """The `folder` data sets in the folders that are the keys of `times`, as one.

        Data(name=mixed("fields", {"drone": 1, "tractor": 3}), dir="all")

    An epoch shows each example of `train_split` as often as `times` says; every other split has
    each once. So the examples of a batch are a function of seed and step as ever. Examples are
    called by folder and name.

    Args:
      name: in messages.
      times: folder below `--data.dir` → whole number from 1 on.

    Raises:
      InputError: for no folder, or a number below 1; when they are read, for a folder that is none,
        and for class files that differ.
    """
    if not times:
        raise InputError(f"{name}: mixed() needs folders")
    for folder, count in times.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"{name}: {folder!r} must be shown 1 or more times, not {count!r}")

    def splits(root: Path) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for folder in times:
            if not (here := FOLDER.splits(root / folder)):
                return ()
            found |= dict.fromkeys(here)
        return tuple(sorted(found))

    def items(root: Path, split: str) -> list[Pair]:
        pairs = []
        for folder, count in sorted(times.items()):
            if split not in FOLDER.splits(root / folder):
                continue
            for item in FOLDER.find(root / folder, split):
                assert isinstance(item, Pair)  # what FOLDER holds
                named = dataclasses.replace(item, name=f"{folder}/{item.name}")
                pairs += [named] * (count if split == train_split else 1)
        return pairs

    def label_space(root: Path) -> LabelSpace:
        spaces = {folder: FOLDER.label_space_in(root / folder) for folder in times}
        first, space = next(iter(spaces.items()))
        for folder, other in spaces.items():
            if other != space:
                raise InputError(
                    f"{name}: the class files of {root / first} and {root / folder} differ: mixed "
                    "folders have the same classes, values and colours"
                )
        return dataclasses.replace(space, name=name)

    def missing(root: Path) -> str:
        for folder in times:
            if not (root / folder).is_dir():
                return f"{root / folder} does not exist"
            if not FOLDER.splits(root / folder):
                return FOLDER.absence(root / folder)
        return ""

    listing = ", ".join(times)
    expected = f"the folders {listing}, each of them with {FOLDER.expected}"
    return DataSet(name, label_space, splits, items, expected=expected, missing=missing)
