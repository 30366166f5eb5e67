"""A data set as SegFix learns it (Yuan et al., ECCV 2020): its pictures, with codes as labels."""

from __future__ import annotations

import colorsys
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.directions import direction_codes
from sdnjax.data.sets.items import Encoded, Item
from sdnjax.data.sets.label_space import IGNORE, Color, LabelSpace
from sdnjax.ops.offsets import DIRECTIONS, NUM_CODES, mirrored_codes

# What people read: the direction into the object, as it is seen in the picture.
_NAMES = ("left", "up left", "up", "up right", "right", "down right", "down", "down left")
_RULE = "directions 1"  # to be counted up when `direction_codes` gives others


def _color(code: int) -> Color:
    """Hues by direction; the boundary is bright, the interior dark."""
    boundary, direction = divmod(code, len(DIRECTIONS))
    rgb = colorsys.hsv_to_rgb(direction / len(DIRECTIONS), 0.75, 0.95 if boundary else 0.45)
    red, green, blue = (round(255 * x) for x in rgb)
    return red, green, blue


CODES = LabelSpace(
    "segfix",
    classes=tuple(f"{part}, {name}" for part in ("interior", "boundary") for name in _NAMES),
    palette=tuple(map(_color, range(NUM_CODES))),
    file_values=(*((k, k) for k in range(NUM_CODES)), (IGNORE, IGNORE)),
    mirrored=mirrored_codes(),
)


@dataclasses.dataclass(frozen=True)
class Coded:
    """An item whose label becomes its codes when it is read.

    Attributes:
      item: of the data set.
      space: the classes of its labels.
      left_out: the code of classes that are too small; see `direction_codes`.
    """

    item: Item
    space: LabelSpace
    left_out: int = IGNORE

    @property
    def name(self) -> str:
        return self.item.name

    def read(self) -> Encoded:
        # The reader stands above the sets, which name files and open none; these have to be opened.
        from PIL import Image  # noqa: PLC0415

        from sdnjax.data.reading.examples import decode_classes  # noqa: PLC0415

        encoded = self.item.read()
        label = decode_classes(encoded, self.space)
        codes = direction_codes(label, self.space.num_classes, left_out=self.left_out)
        buffer = io.BytesIO()
        Image.fromarray(codes).save(buffer, "PNG")
        return dataclasses.replace(
            encoded,
            label=buffer.getvalue(),
            label_name=f"{encoded.label_name} (its directions)",
            is_computed=True,
        )

    def state(self) -> list[Any]:
        rule = hashlib.sha256(repr((self.space, self.left_out)).encode()).hexdigest()[:16]
        return [*self.item.state(), [f"{_RULE} {rule}"]]


def segfix_targets(data_set: DataSet, *, left_out: int = IGNORE) -> DataSet:
    """The same pictures with codes as labels: 8 directions × (interior, boundary).

    `named("cityscapes_segfix")` is this of a data set of the library. Codes are computed at the
    labels' full size, when an example is read or, once and for all, when the data set is prepared.

    Args:
      left_out: the code of classes that are too small; see `direction_codes`.
    """
    space = dataclasses.replace(CODES, name=f"{data_set.name}_segfix")

    def items(root: Path | None, split: str) -> list[Coded]:
        classes = data_set.label_space_in(root)
        return [Coded(item, classes, left_out) for item in data_set.find(root, split)]

    return dataclasses.replace(
        data_set,
        name=space.name,
        # A user's own data set stays one, whose prepared form is checked against its files.
        label_space=(lambda root: space) if data_set.is_own else space,
        items=items,
        description=f"{data_set.description.strip()} Labels are SegFix's directions.",
    )
