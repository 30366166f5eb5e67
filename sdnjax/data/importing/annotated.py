"""What the readers of labelling tools' files find."""

from __future__ import annotations

import dataclasses
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from sdnjax.data.reading.images import open_image
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

BACKGROUND, VOID = "background", "void"
_ORIENTATION = 0x0112  # tag of EXIF


class Region(NamedTuple):
    """Pixels of one class: its name, and a function size (height, width) → bool [H, W]."""

    label: str
    mask: Callable[[tuple[int, int]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with its regions; later ones lie over earlier ones.

    Attributes:
      name: its path within the split, without ending.
      image: the content of an image file.
      ending: of its file.
      where: what errors call the file with the regions.
      size: (height, width) that the regions were drawn on; None if it does not say.
      upright: whether they were drawn on the picture as EXIF turns it; None if nobody knows.
    """

    split: str
    name: str
    image: bytes
    ending: str
    where: str
    regions: tuple[Region, ...]
    size: tuple[int, int] | None = None
    upright: bool | None = None


@dataclasses.dataclass
class Found:
    """All pictures of a source, its classes in order, and what cannot be a region."""

    pictures: list[Picture] = dataclasses.field(default_factory=list)
    classes: list[str] = dataclasses.field(default_factory=list)
    left_out: Counter = dataclasses.field(default_factory=Counter)


def drawn_on(picture: Picture) -> tuple[bytes, str, tuple[int, int]]:
    """The picture as its regions were drawn on it: content, ending, (height, width).

    One that EXIF turns is stored anew, as PNG without EXIF, turned or as it is.

    Raises: InputError if the sizes differ, or if it is open whether it was turned.
    """
    image = open_image(picture.image, picture.where)
    turn = image.getexif().get(_ORIENTATION, 1)
    stored = image.size[::-1]
    if turn not in range(2, 9):
        _check_size(picture, stored, stored)
        return picture.image, picture.ending, stored
    turned = stored[::-1] if turn >= 5 else stored
    upright = picture.upright
    if upright is None and stored != turned and picture.size in (stored, turned):
        upright = picture.size == turned
    if upright is None:
        raise InputError(
            f"{picture.where}: the picture {picture.name} is turned by its EXIF orientation, and "
            "it is open whether its regions are: save it turned, without EXIF"
        )
    _check_size(picture, turned if upright else stored, stored)
    pixels = ImageOps.exif_transpose(image) if upright else image
    return _png(pixels), ".png", turned if upright else stored


def read_json(path: Path) -> Any:
    """The content of a JSON file; InputError that names it."""
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except ValueError:
        raise InputError(f"{path}: not JSON") from None


def split_name(folder: str) -> str:
    """`train`, `val` or `test` for what tools call them, otherwise the name itself."""
    known = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
    return known.get(folder.lower(), folder)


def _check_size(picture: Picture, size: tuple[int, int], stored: tuple[int, int]) -> None:
    if picture.size is not None and picture.size != size:
        (h, w), (height, width) = picture.size, stored
        raise InputError(
            f"{picture.where}: its regions were drawn on {w}×{h} pixels, but the picture "
            f"{picture.name} has {width}×{height}"
        )


def _png(image: Image.Image) -> bytes:
    clean = Image.new(image.mode, image.size)  # a copy without EXIF
    clean.paste(image)
    buffer = io.BytesIO()
    clean.save(buffer, "PNG")
    return buffer.getvalue()
