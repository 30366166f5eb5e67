"""Cityscapes: `leftImg8bit` and `gtFine`, unpacked side by side; the splits hold cities.

19 of the 34 label ids of `*_labelIds.png` are evaluated.
"""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import base, matched, missing_beside, scan
from sdnjax.data.sets.items import Pair
from sdnjax.data.sets.label_space import IGNORE, from_rows

# The label id of each class, then its colour; the other ids below 34 are void.
_ROWS = (
    (7, "road", 128, 64, 128),
    (8, "sidewalk", 244, 35, 232),
    (11, "building", 70, 70, 70),
    (12, "wall", 102, 102, 156),
    (13, "fence", 190, 153, 153),
    (17, "pole", 153, 153, 153),
    (19, "traffic light", 250, 170, 30),
    (20, "traffic sign", 220, 220, 0),
    (21, "vegetation", 107, 142, 35),
    (22, "terrain", 152, 251, 152),
    (23, "sky", 70, 130, 180),
    (24, "person", 220, 20, 60),
    (25, "rider", 255, 0, 0),
    (26, "car", 0, 0, 142),
    (27, "truck", 0, 0, 70),
    (28, "bus", 0, 60, 100),
    (31, "train", 0, 80, 100),
    (32, "motorcycle", 0, 0, 230),
    (33, "bicycle", 119, 11, 32),
)
_CLASS_OF_ID = {row[0]: k for k, row in enumerate(_ROWS)}

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


CITYSCAPES = DataSet(
    name="cityscapes",
    label_space=from_rows(
        "cityscapes",
        [row[1:] for row in _ROWS],
        [(i, _CLASS_OF_ID.get(i, IGNORE)) for i in range(34)],
    ),
    splits=splits,
    items=pairs,
    expected=f"leftImg8bit/{{train,val}}/CITY/*{_IMAGE} with gtFine/{{train,val}}/CITY/*{_LABEL}",
    missing=lambda root: missing_beside(_base(root), _HALVES),
    counts={"train": 2975, "val": 500, "test": 1525},
    archives=tuple(_HALVES.values()),
    version="1.0.0",
    description="""
Street scenes of 50 cities from a driving car, 2048×1024 pixels, finely annotated. Label files
hold the 34 label ids, of which the benchmark evaluates 19.
""",
    homepage="https://www.cityscapes-dataset.com/",
    license="Cityscapes' own terms: non-commercial use after registration",
    citation="""
@inproceedings{cordts2016cityscapes,
  title = {The {Cityscapes} Dataset for Semantic Urban Scene Understanding},
  author = {Cordts, Marius and Omran, Mohamed and Ramos, Sebastian and Rehfeld, Timo and
            Enzweiler, Markus and Benenson, Rodrigo and Franke, Uwe and Roth, Stefan and
            Schiele, Bernt},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2016}
}
""",
)
