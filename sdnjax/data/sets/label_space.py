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
      mirrored: class → the class that it is in the picture's mirror image (left hand, right hand);
        None if every class stays what it is.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    file_values: tuple[tuple[int, int], ...]
    file_colors: tuple[tuple[Color, int], ...] = ()
    mat_values: tuple[tuple[int, int], ...] | None = None
    mirrored: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(
                f"{self.name}: {len(self.classes)} classes, {len(self.palette)} colours"
            )
        if self.mirrored is not None:
            check_mirrored(self.mirrored, len(self.classes))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to_json(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> LabelSpace:
        """What `to_json` gave, after it was JSON; ValueError, TypeError or KeyError otherwise."""
        return cls(**{key: _tuples(value) for key, value in fields.items()})

    def map_labels(self, raw: np.ndarray, name: str) -> np.ndarray:
        """Maps what a label file holds to classes.

        Args:
          raw: the values [H, W], of any integer type, or the colours uint8 [H, W, 3] of a
            label file. Where values and colours are both listed and red, green and blue are
            equal everywhere, it may be either.
          name: what errors call the file.

        Returns: uint8 [H, W] of 0…K−1 and `IGNORE`.
        Raises: InputError that names the file, its first wrong value and the right ones, or
          that it can be read in two ways.
        """
        if raw.ndim == 3:
            return self._map_colors_or_grey(raw, name)
        mapped = self._classes_of_values(raw)
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

    def check_palette(self, values: np.ndarray, palette: np.ndarray, name: str) -> None:
        """InputError if a palette image shows a value in the colour of another class.

        Colours that no class has say nothing: tools choose them as they like.

        Args:
          values: [H, W], what the file `name` holds.
          palette: uint8 [N, 3], the colours that it shows the values 0…N−1 in.
        """
        if not self.file_colors:
            return
        of_value, of_color = dict(self.file_values), dict(self.file_colors)
        for value in np.unique(values).tolist():
            if value >= len(palette):
                continue
            r, g, b = palette[value].tolist()
            shown, meant = of_color.get((r, g, b)), of_value.get(value)
            if None not in (shown, meant) and shown != meant:
                raise InputError(
                    f"{name}: value {value} is {self._called(meant)}, but the file's palette "
                    f"paints it #{r:02x}{g:02x}{b:02x}, the color of {self._called(shown)}: one of "
                    "the two is wrong; without a color column values alone count"
                )

    def _called(self, target: int | None) -> str:
        return "void" if target in (None, IGNORE) else repr(self.classes[target])

    def _classes_of_values(self, raw: np.ndarray) -> np.ndarray:
        """int16: class or IGNORE of each value, −1 where there is none."""
        table = self._value_table
        if raw.dtype == np.uint8 and len(table) >= 256:
            return table[raw]
        if len(table):
            inside = (raw >= 0) & (raw < len(table))
            return np.where(inside, table.take(raw, mode="clip"), np.int16(-1))
        keys, targets = self._sorted_values
        places = np.minimum(np.searchsorted(keys, raw), len(keys) - 1)
        return np.where(keys[places] == raw, targets[places], np.int16(-1))

    @functools.cached_property
    def _value_table(self) -> np.ndarray:
        """int16: file value → class or IGNORE, −1 where there is none; empty if values are too
        large for a table."""
        size = max([256, *(value + 1 for value, _ in self.file_values)])
        return _table(self.file_values, size) if size <= 65536 else np.empty(0, np.int16)

    @functools.cached_property
    def _sorted_values(self) -> tuple[np.ndarray, np.ndarray]:
        """File values int64 [N], ascending, and their classes int16 [N]."""
        pairs = sorted(self.file_values)
        return np.array([v for v, _ in pairs], np.int64), np.array([k for _, k in pairs], np.int16)

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

    def _map_colors_or_grey(self, raw: np.ndarray, name: str) -> np.ndarray:
        """By colour; a grey image in three channels by value, if only that has a meaning."""
        grey = raw[..., 0]
        if not self.file_values or not (raw == grey[..., None]).all():
            return self._map_colors(raw, name)
        by_value = self._classes_of_values(grey)
        if by_value.size and by_value.min() < 0:
            return self._map_colors(raw, name)
        try:
            by_color = self._map_colors(raw, name)
        except InputError:
            return by_value.astype(np.uint8)
        if (differ := by_value != by_color).any():
            value = int(grey[differ][0])
            raise InputError(
                f"{name}: can be read in two ways: {value} in red, green and blue is value {value} "
                f"({self._called(int(by_value[differ][0]))}) or color "
                f"#{value:02x}{value:02x}{value:02x} ({self._called(int(by_color[differ][0]))}): "
                "leave one of the columns value and color empty"
            )
        return by_color

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


def check_mirrored(mirrored: Sequence[int], num_classes: int) -> None:
    """ValueError unless every class has its mirror image, whose mirror image it is."""
    twice = [mirrored[k] if 0 <= k < len(mirrored) else -1 for k in mirrored]
    if twice != list(range(num_classes)):
        raise ValueError(
            f"mirrored must be the {num_classes} classes, twice mirrored the same: {mirrored}"
        )


def mirror_table(mirrored: Sequence[int] | None) -> np.ndarray | None:
    """uint8 [256]: label → label in the mirror image, for labels of 0…K−1 and `IGNORE`."""
    if mirrored is None:
        return None
    table = np.arange(256, dtype=np.uint8)
    table[: len(mirrored)] = mirrored
    return table


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


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


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
