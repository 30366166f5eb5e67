"""One decoded example, and how it is made of its encoded files."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from PIL import Image

from sdnjax.data.pixels import STORED, Pixels
from sdnjax.data.reading.images import decode_image, orientation_of
from sdnjax.data.reading.labels import decode_label_and_palette
from sdnjax.data.reading.mat import decode_mat
from sdnjax.data.reading.superpixels import decode_superpixels
from sdnjax.data.sets.items import Encoded
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class Example:
    """One example: image uint8 [H, W, 3] RGB, label uint8 [H, W] of 0…K−1 and 255, name, and
    superpixels int32 [H, W] of 0…N−1 if the data set was prepared with them."""

    image: np.ndarray
    label: np.ndarray
    name: str
    superpixels: np.ndarray | None = None


def decode(
    encoded: Encoded, space: LabelSpace, *, superpixels: bool = True, pixels: Pixels = STORED
) -> Example:
    """Decodes, checks and maps one example; the only place where labels are mapped.

    Without `superpixels` they are left out, and cost nothing.
    """
    image = decode_image(encoded.image, encoded.image_name, pixels)
    raw = _stored_labels(encoded, space)
    if image.shape[:2] != raw.shape[:2]:
        tag, hint = orientation_of(encoded.image), ""
        if tag != 1:
            other = "stored" if pixels.orientation == "upright" else "upright"
            hint = f" (its EXIF orientation is {tag}: --data.exif_orientation {other}?)"
        raise InputError(
            f"{encoded.image_name} is {_size(image)} but {encoded.label_name} is {_size(raw)}: "
            f"an image and its label must have one size{hint}"
        )
    label, segments = space.map_labels(raw, encoded.label_name), None
    if superpixels and encoded.superpixels is not None:
        segments = decode_superpixels(encoded.superpixels, encoded.image_name)
    return Example(image, label, encoded.name, segments)


def decode_classes(encoded: Encoded, space: LabelSpace) -> np.ndarray:
    """The label alone, as `decode` maps it: uint8 [H, W]."""
    return space.map_labels(_stored_labels(encoded, space), encoded.label_name)


def checked(example: Example, space: LabelSpace, channels: int = 3) -> Example:
    """An example that somebody made without files, if its arrays are what they must be.

    Raises: InputError that names the example.
    """
    image, label, segments = example.image, example.label, example.superpixels
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
        form = f"[H, W, {channels}]"
        raise InputError(f"{example.name}: image must be uint8 {form}, not {_form(image)}")
    if label.dtype != np.uint8 or label.shape != image.shape[:2]:
        raise InputError(
            f"{example.name}: label must be uint8 {list(image.shape[:2])}, not {_form(label)}"
        )
    wrong = label[(label >= space.num_classes) & (label != IGNORE)]
    if wrong.size:
        raise InputError(
            f"{example.name}: label value {wrong[0]} at {wrong.size} pixels; there are "
            f"0-{space.num_classes - 1} and {IGNORE}"
        )
    if segments is not None and (segments.dtype != np.int32 or segments.shape != label.shape):
        raise InputError(
            f"{example.name}: superpixels must be int32 {list(label.shape)}, not {_form(segments)}"
        )
    return example


def canonical_label(encoded: Encoded, space: LabelSpace) -> bytes:
    """The label as an image file: as it is, or, of a MATLAB file, the PNG in its place.

    The PNG holds the values of the data set's image files, so that `decode` gives the same
    classes for it.

    Raises: InputError that names the file if it is damaged or holds an unknown id.
    """
    if not _is_mat(encoded):
        return encoded.label
    buffer = io.BytesIO()
    Image.fromarray(_stored_labels(encoded, space)).save(buffer, "PNG")
    return buffer.getvalue()


def _is_mat(encoded: Encoded) -> bool:
    return encoded.label_name.endswith(".mat")


def _stored_labels(encoded: Encoded, space: LabelSpace) -> np.ndarray:
    """[H, W] or uint8 [H, W, 3]: what an image file of the data set holds, not yet mapped."""
    if _is_mat(encoded):
        return space.values_of_ids(
            decode_mat(encoded.label, encoded.label_name), encoded.label_name
        )
    raw, palette = decode_label_and_palette(
        encoded.label,
        encoded.label_name,
        values=bool(space.file_values),
        colors=bool(space.file_colors),
    )
    if raw.ndim == 2 and palette is not None:
        space.check_palette(raw, palette, encoded.label_name)
    return raw


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
