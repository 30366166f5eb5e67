"""A user's own data set: pictures, a label for each, and a class file; see `layouts.py`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sdnjax.data.sets.class_file import find_class_file, read_classes
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import paired, walk
from sdnjax.data.sets.items import Item
from sdnjax.data.sets.layouts import (
    LABEL_ENDINGS,
    LABELS,
    PICTURE_ENDINGS,
    divided,
    folders,
    label_suffix,
    layouts,
    without_suffix,
)
from sdnjax.data.sets.pair_lists import listed_pairs, lists
from sdnjax.errors import InputError

_LOSSY = (".jpg", ".jpeg", ".webp")


def splits(root: Path) -> tuple[str, ...]:
    found, named = layouts(root), lists(root)
    if both := sorted(found.keys() & named.keys()):
        raise InputError(
            f"split {both[0]!r} is listed in {named[both[0]]} and lies in {found[both[0]].images}: "
            "rename the list"
        )
    return tuple(sorted(found.keys() | named.keys()))


def missing(root: Path) -> str:
    if not root.is_dir():
        return ""
    labels = next((name for name in LABELS if (root / name).is_dir()), "labels")
    for half, other in (("images", labels), (labels, "images")):
        if (root / other).is_dir() and not (root / half).is_dir():
            return f"{root / half} is missing beside {root / other}"
    for half, other in (("images", labels), (labels, "images")):
        if lone := sorted(folders(root / other) - folders(root / half)):
            return f"{root / half / lone[0]} is missing beside {root / other / lone[0]}"
    return ""


def pairs(root: Path, split: str) -> Sequence[Item]:
    named = lists(root)
    if split in named:
        return listed_pairs(named[split], root)
    halves = layouts(root)[split]
    if halves.images == halves.labels:
        images, labels = divided(_files(halves.images, PICTURE_ENDINGS))
        suffix = "_mask"
    else:
        images = _files(halves.images, PICTURE_ENDINGS)
        labels = _files(halves.labels, LABEL_ENDINGS)
        suffix = ""
        if images and not labels:
            for name, path in sorted(_files(halves.labels, _LOSSY).items()):
                raise InputError(
                    f"{path}: labels cannot be {path.suffix[1:].upper()} files, which change "
                    f"values: export them as PNG ({halves.labels / name}.png)"
                )
    suffix = label_suffix(images, labels) or suffix
    return paired(
        images,
        without_suffix(labels, suffix),
        lambda name: halves.images / f"{name}.jpg (or {', '.join(PICTURE_ENDINGS[1:])})",
        lambda name: halves.labels / f"{name}{suffix}.png",
    )


def left_out(root: Path, split: str) -> list[Path]:
    """The files of a split that are no picture and no label by their endings."""
    halves = layouts(root).get(split)
    if halves is None or split in lists(root):
        return []
    both = (*PICTURE_ENDINGS, *LABEL_ENDINGS)
    return [
        file
        for folder in dict.fromkeys(halves)
        for file in walk(folder)
        if file.suffix.lower() not in both
    ]


def _files(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Path below `folder` without its ending → file, at every depth."""
    found: dict[str, Path] = {}
    for file in walk(folder):
        stem, ending = os.path.splitext(file.name)  # noqa: PTH122 (ten times as fast as Path)
        if ending.lower() not in endings:
            continue
        name = (file.parent.relative_to(folder) / stem).as_posix()
        if name in found:
            raise InputError(f"{found[name]} and {file} have one name")
        found[name] = file
    return found


FOLDER = DataSet(
    name="folder",
    label_space=lambda root: read_classes(find_class_file(root)),
    splits=splits,
    items=pairs,
    expected="images/{train,val}/… with labels/{train,val}/… of the same names (.png), "
    "and classes.csv",
    missing=missing,
    version="1.0.0",
    description="Pictures of a user's own, with a label for each.",
)
