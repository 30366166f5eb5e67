"""A user's own data set: `images/SPLIT/…`, `labels/SPLIT/…` and `classes.csv`."""

from __future__ import annotations

import os
from pathlib import Path

from sdnjax.data.sets.class_file import find_class_file, read_classes
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import matched
from sdnjax.data.sets.items import Pair
from sdnjax.errors import InputError

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_LABELS = (".png",)


def splits(root: Path) -> tuple[str, ...]:
    images, labels = _folders(root / "images"), _folders(root / "labels")
    return tuple(sorted(images & labels))


def missing(root: Path) -> str:
    if not root.is_dir():
        return ""
    for half, other in (("images", "labels"), ("labels", "images")):
        if (root / other).is_dir() and not (root / half).is_dir():
            return f"{root / half} is missing beside {root / other}"
    for half, other in (("images", "labels"), ("labels", "images")):
        if lone := sorted(_folders(root / other) - _folders(root / half)):
            return f"{root / half / lone[0]} is missing beside {root / other / lone[0]}"
    return ""


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = root / "images" / split, root / "labels" / split
    return matched(
        _files(images, _IMAGES),
        _files(labels, _LABELS),
        lambda name: images / f"{name}.jpg (or {', '.join(_IMAGES[1:])})",
        lambda name: labels / f"{name}.png",
    )


def _folders(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {e.name for e in entries if e.is_dir() and not e.name.startswith(".")}


def _files(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Path below `folder` without its ending → file, at every depth."""
    found: dict[str, Path] = {}
    for place, _, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for file in names:
            stem, ending = os.path.splitext(file)  # noqa: PTH122 (ten times as fast as Path)
            if ending.lower() not in endings or file.startswith("."):
                continue
            name = (inside / stem).as_posix()
            if name in found:
                raise InputError(f"{found[name]} and {Path(place, file)} have one name")
            found[name] = Path(place, file)
    return found


FOLDER = DataSet(
    name="folder",
    label_space=lambda root: read_classes(find_class_file(root)),
    splits=splits,
    items=pairs,
    expected="images/{train,val}/… with labels/{train,val}/… of the same names (.png), "
    "and classes.csv",
    missing=missing,
)
