"""Classes, colours and file values of every data set.

A label file holds values that its data set defined long ago; everything behind the reader
sees 0…K−1 and `IGNORE`. The mapping is applied once, by `LabelSpace.map_labels`.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from sdnjax.config import nearest
from sdnjax.errors import InputError

IGNORE = 255


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """The K classes of a data set.

    `palette` has one RGB colour (0–255) for each class. `file_values` lists pairs (value in
    the label file, class or `IGNORE`); a value that is not listed is an error.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    file_values: tuple[tuple[int, int], ...]

    def __post_init__(self):
        if len(self.classes) != len(self.palette):
            raise ValueError(
                f"{self.name}: {len(self.classes)} classes, {len(self.palette)} colours"
            )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """int16 [256]: file value → class or IGNORE, −1 where there is none."""
        table = np.full(256, -1, np.int16)
        for value, target in self.file_values:
            table[value] = target
        return table

    def map_labels(self, raw: np.ndarray, name: str) -> np.ndarray:
        """Maps file values to classes.

        Args:
          raw: uint8 [H, W], the values of a label file.
          name: what errors call the file.

        Returns: uint8 [H, W] of 0…K−1 and `IGNORE`.
        Raises: InputError that names the file, its first wrong value and the right ones.
        """
        mapped = self._table[raw]
        if mapped.size and mapped.min() < 0:
            wrong = np.unique(raw[mapped < 0])
            raise InputError(
                f"{name}: label value {wrong[0]} at {np.count_nonzero(mapped < 0)} pixels; "
                f"{self.name} label files hold {_ranges(v for v, _ in self.file_values)}"
            )
        return mapped.astype(np.uint8)


def label_space(name: str) -> LabelSpace:
    """The label space called `name`; InputError with the nearest name if there is none."""
    if name not in _SPACES:
        hint = nearest(name, _SPACES) or f"; there are {', '.join(_SPACES)}"
        raise InputError(f"unknown data set {name!r}{hint}")
    return _SPACES[name]


def _ranges(values) -> str:
    """0, 1, 2, 255 → '0-2, 255'."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in runs)


def _space(name, rows, file_values=None) -> LabelSpace:
    """From rows (class, r, g, b); by default class k is stored as k and nothing is void."""
    classes = tuple(row[0] for row in rows)
    palette = tuple(row[1:] for row in rows)
    if file_values is None:
        file_values = tuple((k, k) for k in range(len(rows)))
    return LabelSpace(name, classes, palette, tuple(file_values))


_SHAPES = (
    ("ground", 112, 108, 100),
    ("disc", 214, 92, 78),
    ("bar", 232, 178, 60),
    ("triangle", 92, 172, 96),
    ("ring", 70, 132, 206),
    ("hexagon", 158, 104, 190),
)

# Order and colours of the SegNet distribution, whose twelfth value is unlabelled.
_CAMVID = (
    ("sky", 128, 128, 128),
    ("building", 128, 0, 0),
    ("pole", 192, 192, 128),
    ("road", 128, 64, 128),
    ("pavement", 60, 40, 222),
    ("tree", 128, 128, 0),
    ("sign", 192, 128, 128),
    ("fence", 64, 64, 128),
    ("car", 64, 0, 128),
    ("pedestrian", 64, 64, 0),
    ("bicyclist", 0, 128, 192),
)

# The label id of each class, then its colour; the other ids below 34 are void.
_CITYSCAPES = (
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
_CITYSCAPES_IDS = {row[0]: k for k, row in enumerate(_CITYSCAPES)}

_SPACES = {
    "shapes": _space("shapes", _SHAPES),
    "camvid": _space("camvid", _CAMVID, [(k, k) for k in range(11)] + [(11, IGNORE)]),
    "cityscapes": _space(
        "cityscapes",
        [row[1:] for row in _CITYSCAPES],
        [(i, _CITYSCAPES_IDS.get(i, IGNORE)) for i in range(34)],
    ),
}
