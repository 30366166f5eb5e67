"""One example: its files, what decoding makes of them, and random access to many."""

from __future__ import annotations

import abc
import dataclasses
import io

import numpy as np
from PIL import Image

from sdnjax.data.images import decode_image, decode_label, read_bytes
from sdnjax.data.label_spaces import LabelSpace
from sdnjax.data.layouts import Pair
from sdnjax.data.mat import decode_mat
from sdnjax.data.superpixels import decode_superpixels
from sdnjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Example:
    """One example: image uint8 [H, W, 3] RGB, label uint8 [H, W] of 0…K−1 and 255, name, and
    superpixels int32 [H, W] of 0…N−1 if the data set was prepared with them."""

    image: np.ndarray
    label: np.ndarray
    name: str
    superpixels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An example's files as bytes, and what errors call them."""

    name: str
    image: bytes
    label: bytes
    image_name: str
    label_name: str
    superpixels: bytes | None = None


class Source(abc.ABC):
    """A split of a data set: `len(source)` examples, `source[i]` for 0 ≤ i < len.

    Reading is safe from several threads. `source[i]` raises InputError that names the file
    if it is damaged, if sizes differ or if a label value has no meaning.
    """

    def __init__(self, space: LabelSpace, split: str):
        self.label_space = space
        self.split = split

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """What failures call example `index`; works when the example cannot be decoded."""

    @abc.abstractmethod
    def encoded(self, index: int) -> Encoded:
        """The undecoded files of example `index`."""

    def __getitem__(self, index: int) -> Example:
        return decode(self.encoded(index), self.label_space)


def decode(encoded: Encoded, space: LabelSpace) -> Example:
    """Decodes, checks and maps one example; the only place where labels are mapped."""
    image = decode_image(encoded.image, encoded.image_name)
    raw = _stored_labels(encoded, space)
    if image.shape[:2] != raw.shape[:2]:
        raise InputError(
            f"{encoded.image_name} is {_size(image)} but {encoded.label_name} is {_size(raw)}: "
            "an image and its label must have one size"
        )
    label, superpixels = space.map_labels(raw, encoded.label_name), None
    if encoded.superpixels is not None:
        superpixels = decode_superpixels(encoded.superpixels, encoded.image_name)
    return Example(image, label, encoded.name, superpixels)


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
    """uint8 [H, W] or [H, W, 3]: what an image file of the data set holds, not yet mapped."""
    if _is_mat(encoded):
        return space.values_of_ids(
            decode_mat(encoded.label, encoded.label_name), encoded.label_name
        )
    return decode_label(
        encoded.label,
        encoded.label_name,
        values=bool(space.file_values),
        colors=bool(space.file_colors),
    )


def read_pair(pair: Pair) -> Encoded:
    """The files of a pair; InputError that names the one that cannot be read."""
    image, label = read_bytes(pair.image), read_bytes(pair.label)
    return Encoded(pair.name, image, label, str(pair.image), str(pair.label))


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
