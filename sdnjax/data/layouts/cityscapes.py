"""Cityscapes: `leftImg8bit` and `gtFine`, unpacked side by side; the splits hold cities."""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.layouts.files import base, missing_beside, scan
from sdnjax.data.layouts.layout import Layout, Pair, matched

_HALVES = {
    "leftImg8bit": "leftImg8bit_trainvaltest.zip",
    "gtFine": "gtFine_trainvaltest.zip",
}
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


def _base(root: Path) -> Path:
    return base(root, ["cityscapes"], _HALVES)


def splits(root: Path) -> tuple[str, ...]:
    folder = _base(root)
    return tuple(
        split
        for split in ("train", "val", "test")
        if all((folder / half / split).is_dir() for half in _HALVES)
    )


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = (_base(root) / half / split for half in _HALVES)
    return matched(
        _scan_cities(images, _IMAGE),
        _scan_cities(labels, _LABEL),
        lambda name: images / name.split("_")[0] / (name + _IMAGE),
        lambda name: labels / name.split("_")[0] / (name + _LABEL),
    )


def _scan_cities(folder: Path, ending: str) -> dict[str, Path]:
    """CITY_SEQUENCE_FRAME → file, over all cities."""
    cities = sorted(city for city in folder.iterdir() if city.is_dir())
    return {name: file for city in cities for name, file in scan(city, ending).items()}


CITYSCAPES = Layout(
    expected=f"leftImg8bit/{{train,val}}/CITY/*{_IMAGE} with gtFine/{{train,val}}/CITY/*{_LABEL}",
    splits=splits,
    pairs=pairs,
    missing=lambda root: missing_beside(_base(root), _HALVES),
    counts={"train": 2975, "val": 500, "test": 1525},
    archives=tuple(_HALVES.values()),
)
