"""What a label space is: the classes of a data set and what its label files hold.

A label file holds values that its data set defined long ago; everything behind the reader
sees 0…K−1 and `IGNORE`. The mapping is applied once, by `LabelSpace.map_labels`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE

__all__ = ["IGNORE", "Color", "LabelSpace", "from_rows", "voc_color"]

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """The K classes of a data set, and what its label files hold.

    What a file holds and no table lists is an error.

    Attributes:
      palette: one RGB colour (0–255) for each class, for pictures.
      file_values: pairs (value in a grey or palette image, class or `IGNORE`); empty if the
        files are coded by colour alone.
      file_colors: pairs (colour in an RGB image, class or `IGNORE`); empty if the files are
        not coded by colour.
      mat_values: pairs (id in a MATLAB file, value in an image file); None if they are equal.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    file_values: tuple[tuple[int, int], ...]
    file_colors: tuple[tuple[Color, int], ...] = ()
    mat_values: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(
                f"{self.name}: {len(self.classes)} classes, {len(self.palette)} colours"
            )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def map_labels(self, raw: np.ndarray, name: str) -> np.ndarray:
        """Maps what a label file holds to classes.

        Args:
          raw: uint8, the values [H, W] or the colours [H, W, 3] of a label file.
          name: what errors call the file.

        Returns: uint8 [H, W] of 0…K−1 and `IGNORE`.
        Raises: InputError that names the file, its first wrong value and the right ones.
        """
        if raw.ndim == 3:
            return self._map_colors(raw, name)
        mapped = self._value_table[raw]
        if mapped.size and mapped.min() < 0:
            wrong = np.unique(raw[mapped < 0])
            raise InputError(
                f"{name}: label value {wrong[0]} at {np.count_nonzero(mapped < 0)} pixels; "
                f"{self.name} label files hold {_ranges(v for v, _ in self.file_values)}"
            )
        return mapped.astype(np.uint8)

    def values_of_ids(self, ids: np.ndarray, name: str) -> np.ndarray:
        """The ids of a MATLAB file as uint8 [H, W], the values that an image file would hold.

        Raises: InputError that names the file, its first unknown id and the known ones.
        """
        table = self._id_table
        values = np.where((ids >= 0) & (ids < len(table)), table.take(ids, mode="clip"), -1)
        if values.size and values.min() < 0:
            wrong = np.unique(ids[values < 0])
            raise InputError(
                f"{name}: label id {wrong[0]} at {np.count_nonzero(values < 0)} pixels; "
                f"{self.name} .mat files hold {_ranges(np.flatnonzero(table >= 0).tolist())}"
            )
        return values.astype(np.uint8)

    @functools.cached_property
    def _value_table(self) -> np.ndarray:
        """int16 [256]: file value → class or IGNORE, −1 where there is none."""
        return _table(self.file_values, 256)

    @functools.cached_property
    def _id_table(self) -> np.ndarray:
        """int16: id in a MATLAB file → value in an image file, −1 where there is none."""
        pairs = self.mat_values or [(value, value) for value, _ in self.file_values]
        return _table(pairs, 1 + max(i for i, _ in pairs))

    @functools.cached_property
    def _color_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Packed colours int32 [N], ascending, and their classes uint8 [N]."""
        pairs = sorted((r << 16 | g << 8 | b, k) for (r, g, b), k in self.file_colors)
        return np.array([p for p, _ in pairs], np.int32), np.array([k for _, k in pairs], np.uint8)

    def _map_colors(self, raw: np.ndarray, name: str) -> np.ndarray:
        colors, classes = self._color_table
        r, g, b = np.moveaxis(raw.astype(np.int32), 2, 0)
        packed = r << 16 | g << 8 | b
        places = np.minimum(np.searchsorted(colors, packed), len(colors) - 1)
        wrong = colors[places] != packed
        if wrong.any():
            raise InputError(
                f"{name}: colour #{packed[wrong][0]:06x}, which no class has, "
                f"at {np.count_nonzero(wrong)} pixels"
            )
        return classes[places]


def from_rows(
    name: str,
    rows: Sequence[tuple[Any, ...]],
    file_values: Iterable[tuple[int, int]] | None = None,
    **more: Any,
) -> LabelSpace:
    """From rows (class, r, g, b); by default class k is stored as k and nothing is void."""
    if file_values is None:
        file_values = [(k, k) for k in range(len(rows))]
    return LabelSpace(
        name,
        classes=tuple(row[0] for row in rows),
        palette=tuple(tuple(row[1:]) for row in rows),
        file_values=tuple(file_values),
        **more,
    )


def voc_color(index: int) -> Color:
    """Colour `index` of the VOC devkit: its bits, three at a time, are the high bits of r, g, b."""
    r = g = b = 0
    for shift in range(7, -1, -1):
        r |= (index & 1) << shift
        g |= (index >> 1 & 1) << shift
        b |= (index >> 2 & 1) << shift
        index >>= 3
    return r, g, b


def _table(pairs: Iterable[tuple[int, int]], size: int) -> np.ndarray:
    table = np.full(size, -1, np.int16)
    for key, target in pairs:
        table[key] = target
    return table


def _ranges(values: Iterable[int]) -> str:
    """0, 1, 2, 255 → '0-2, 255'."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in runs)
