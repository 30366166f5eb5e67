"""ADE20K's scene-parsing benchmark, as `ADEChallengeData2016.zip` unpacks it."""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.layouts.files import base, missing_beside, scan
from sdnjax.data.layouts.layout import Layout, Pair, matched

_ARCHIVE = "ADEChallengeData2016.zip"
_HALVES = {"images": _ARCHIVE, "annotations": _ARCHIVE}
_FOLDER_OF = {"train": "training", "val": "validation"}


def _base(root: Path) -> Path:
    return base(root, ["ADEChallengeData2016"], _HALVES)


def splits(root: Path) -> tuple[str, ...]:
    folder = _base(root)
    return tuple(
        split
        for split, name in _FOLDER_OF.items()
        if all((folder / h / name).is_dir() for h in _HALVES)
    )


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = (_base(root) / half / _FOLDER_OF[split] for half in _HALVES)
    return matched(
        scan(images, ".jpg"),
        scan(labels, ".png"),
        lambda name: images / f"{name}.jpg",
        lambda name: labels / f"{name}.png",
    )


ADE20K = Layout(
    expected="images/{training,validation}/*.jpg with annotations/{training,validation}/*.png, "
    f"as {_ARCHIVE} unpacks them",
    splits=splits,
    pairs=pairs,
    missing=lambda root: missing_beside(_base(root), _HALVES),
    counts={"train": 20210, "val": 2000},
    archives=(_ARCHIVE,),
)
