"""Label files as arrays: the numbers or the colours that they store, nothing made of them.

Pillow opens files to be looked at: it stretches 2-bit and 4-bit grey over 0-255, and halves
16-bit colours. A label is no picture, so here the stored numbers count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sdnjax.data.reading.images import open_image
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP")
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262  # tags of TIFF
_JPEG_IN_TIFF = (6, 7, 34712)


def decode_label(
    data: bytes, name: str, *, values: bool = True, colors: bool = False
) -> np.ndarray:
    """Decodes a label map: values [H, W] (uint8, uint16 or int32), or colours uint8 [H, W, 3].

    An RGB image whose three channels are equal everywhere holds values, unless `colors`.

    Args:
      values: whether grey images and the indices of palette images have a meaning.
      colors: whether RGB images have one; then so have the colours of a palette image whose
        indices have none.

    Raises: InputError that names the file if it is empty, damaged, no image, coded otherwise,
      or of a format that changes values.
    """
    return _decoded(open_image(data, name), data, name, values, colors)


def decode_label_and_palette(
    data: bytes, name: str, *, values: bool = True, colors: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """`decode_label`, and uint8 [N, 3], the colours that the file shows its N indices in.

    None if it has no palette, or one of greys that says nothing: index i in the grey i.
    """
    image = open_image(data, name)
    palette = None
    if image.mode == "P" and image.palette is not None:
        found = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        ramp = np.arange(len(found), dtype=np.uint8)[:, None]
        palette = None if (found == ramp).all() else found
    return _decoded(image, data, name, values, colors), palette


def read_label(path: str | Path) -> np.ndarray:
    """`decode_label` of a file; InputError if it is missing."""
    return decode_label(read_bytes(path), str(path))


def _decoded(image: Image.Image, data: bytes, name: str, values: bool, colors: bool) -> np.ndarray:
    depth = _stored_depth(image, data, name)
    if image.mode in ("RGBA", "LA") and np.asarray(image)[..., -1].min(initial=255) < 255:
        raise InputError(
            f"{name}: some pixels are transparent, so that their class is open: save labels "
            "without transparency"
        )
    if colors and (image.mode in ("RGB", "RGBA") or (image.mode == "P" and not values)):
        return np.array(image.convert("RGB"))
    if not values:
        raise InputError(f"{name}: a label must be an RGB image of class colours, not {image.mode}")
    if image.mode == "1":
        return np.array(image).astype(np.uint8)
    if image.mode == "P":
        return np.array(image)
    if image.mode == "L":
        # What Pillow has stretched over 0-255 goes back to 0-3 or 0-15.
        return np.array(image) // np.uint8(255 // (2**depth - 1))
    if image.mode == "LA":
        return np.array(image)[..., 0]
    if image.mode in ("RGB", "RGBA"):
        pixels = np.array(image)[..., :3]
        if (pixels == pixels[..., :1]).all():
            return pixels[..., 0]
        raise InputError(
            f"{name}: a label must be a grey or palette image of class values, not {image.mode} "
            "whose channels are not equal; colours mean something where a class file lists them"
        )
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        return deep.astype(np.uint16 if deep.dtype.itemsize == 2 else np.int32)
    raise InputError(
        f"{name}: a label must be a grey or palette image of class values, not {image.mode}"
    )


def _stored_depth(image: Image.Image, data: bytes, name: str) -> int:
    """Bits of a grey value in the file, at most 8 for Pillow's mode L.

    Raises: InputError for files that do not hold what was painted, or more than Pillow reads.
    """
    if image.format in _LOSSY:
        raise InputError(
            f"{name}: {image.format} changes the values of pixels, so labels cannot be read from "
            "it: export them as PNG"
        )
    depth = 8
    if image.format == "PNG":
        depth, kind = data[24], data[25]  # of IHDR, which is always first
        if depth == 16 and kind != 0:
            raise InputError(
                f"{name}: a 16-bit colour image; labels are grey (8 or 16 bits), palette or 8-bit "
                "RGB images"
            )
    elif image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(_COMPRESSION) in _JPEG_IN_TIFF:
            raise InputError(f"{name}: JPEG in TIFF changes the values of pixels: export as PNG")
        if tags.get(_PHOTOMETRIC) == 0:
            raise InputError(
                f"{name}: a TIFF in which 0 is white, so that its values may be meant either "
                "way: export it as PNG"
            )
        bits = tags.get(_BITS_PER_SAMPLE, (1,))
        depth = bits[0] if isinstance(bits, tuple) else bits
    return min(depth, 8)
