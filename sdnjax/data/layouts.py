"""Where data sets keep their files, before any of them is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sdnjax.config import nearest
from sdnjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file; `name` says which, within the split."""

    name: str
    image: Path
    label: Path


def camvid_splits(root: Path) -> list[str]:
    """The splits below `root` that have both folders of the SegNet layout."""
    if not root.is_dir():
        return []
    folders = {p.name for p in root.iterdir() if p.is_dir()}
    return sorted(f for f in folders if f + "annot" in folders)


def camvid_pairs(root: Path, split: str) -> list[Pair]:
    """The pairs of one CamVid split in the SegNet layout, in order of their names.

    Raises: InputError if the split or one half of a pair is missing.
    """
    splits = camvid_splits(root)
    if split not in splits:
        hint = nearest(split, splits) or f"; it has {', '.join(splits) or 'none'}"
        raise InputError(f"{root} has no split {split!r} (a folder and its {split}annot){hint}")
    images = {p.stem: p for p in (root / split).glob("*.png")}
    labels = {p.stem: p for p in (root / f"{split}annot").glob("*.png")}
    for lone, theirs, other in ((images, labels, "label"), (labels, images, "image")):
        for name in sorted(lone.keys() - theirs.keys()):
            folder = f"{split}annot" if other == "label" else split
            raise InputError(
                f"{lone[name]} has no {other}: expected {root / folder / (name + '.png')}"
            )
    if not images:
        raise InputError(f"{root / split} holds no *.png")
    return [Pair(name, images[name], labels[name]) for name in sorted(images)]
