"""Where the pictures and the labels of a split lie in a user's own folder.

    images/SPLIT/…   labels/SPLIT/…       ours
    SPLIT/images/…   SPLIT/labels/…
    SPLIT/a.jpg      SPLIT/a_mask.png     both in one folder
    images/…         labels/…             one split, called `all`

`masks` and `annotations` serve in place of `labels`. A label has the path of its picture, or that
and a suffix which is the same for all: `a_mask.png` for `a.jpg`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sdnjax.errors import InputError

LABELS = ("labels", "masks", "annotations")
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".npy")
LABEL_ENDINGS = (".png", ".tif", ".tiff", ".bmp")  # what keeps values as they are
WHOLE = "all"  # the split of a folder that has none


class Halves(NamedTuple):
    """The folder of the pictures of a split, and that of its labels."""

    images: Path
    labels: Path


def layouts(root: Path) -> dict[str, Halves]:
    """Split → its two folders, for the splits that have both; reads no file.

    Raises: InputError if a split lies in two ways.
    """
    if not root.is_dir():
        return {}
    found: dict[str, Halves] = {}
    inside = folders(root)
    halves = [name for name in LABELS if name in inside]
    if "images" in inside:
        images = root / "images"
        for name in halves:
            for split in folders(images) & folders(root / name):
                _add(found, split, Halves(images / split, root / name / split))
    for split in inside - {"images", *LABELS}:
        below = folders(root / split)
        for name in LABELS:
            if {"images", name} <= below:
                _add(found, split, Halves(root / split / "images", root / split / name))
    if found:
        return found
    for split in sorted(inside - {"images", "lists", *LABELS}):
        if _is_flat(root / split):
            _add(found, split, Halves(root / split, root / split))
    for name in halves:
        if "images" in inside and _pictures(root / "images"):
            _add(found, WHOLE, Halves(root / "images", root / name))
    return found


def label_suffix(images: Iterable[str], labels: Iterable[str]) -> str:
    """What the names of labels have and those of their pictures have not: `_mask`, or nothing.

    Args: names without endings.
    Raises: InputError if it can be read in two ways.
    """
    pictures = set(images)
    labels = sorted(labels)
    plain = [name for name in labels if name in pictures]
    suffixes: dict[str, str] = {}
    for name in labels:
        if name in pictures:
            continue
        for cut in range(len(name) - 1, 0, -1):  # the longest picture's name first
            if name[cut] in "_-." and name[:cut] in pictures:
                suffixes.setdefault(name[cut:], name)
                break
    if not suffixes:
        return ""
    if plain or len(suffixes) > 1:
        several = [*plain[:1], *suffixes.values()][:3]
        raise InputError(
            f"labels are named in several ways ({', '.join(several)}): it is open which of them "
            "belong to which pictures; name all of them alike, and move away what is no label"
        )
    return next(iter(suffixes))


def without_suffix(labels: Mapping[str, Path], suffix: str) -> dict[str, Path]:
    """The labels by the names of their pictures; those of other names keep their own."""
    if not suffix:
        return dict(labels)
    return {name.removesuffix(suffix): path for name, path in labels.items()}


def divided(files: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The pictures and the labels of a folder that holds both.

    A label is lossless, and has the name of a picture and a suffix.
    """
    labels = {}
    for name, path in files.items():
        if not path.name.lower().endswith(LABEL_ENDINGS):
            continue
        cuts = (cut for cut in range(len(name) - 1, 0, -1) if name[cut] in "_-.")
        if any(name[:cut] in files for cut in cuts):
            labels[name] = path
    return {name: path for name, path in files.items() if name not in labels}, labels


def folders(folder: Path) -> set[str]:
    """The names of the folders in a folder, without hidden ones."""
    return {e.name for e in _entries(folder) if e.is_dir()}


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, without what is hidden; nothing if it is none, or not ours to read."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _add(found: dict[str, Halves], split: str, halves: Halves) -> None:
    if split in found:
        raise InputError(
            f"the labels of {split!r} may lie in {found[split].labels} or in {halves.labels}: "
            "move one of them away"
        )
    found[split] = halves


def _pictures(folder: Path) -> dict[str, Path]:
    """Name without ending → file, for the pictures of a folder, not of those below it."""
    names = [e.name for e in _entries(folder)]
    return {
        name.rpartition(".")[0]: folder / name
        for name in names
        if name.lower().endswith(PICTURE_ENDINGS)
    }


def _is_flat(folder: Path) -> bool:
    """Whether a folder holds pictures and, beside them, labels with a suffix."""
    return bool(divided(_pictures(folder))[1])
