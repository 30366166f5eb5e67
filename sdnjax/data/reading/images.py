"""Image files as arrays, without TensorFlow.

Every way in which a file can be wrong ends in an InputError of one line that names it. A
JPEG whose compressed data was altered without being cut short still decodes: the format
has no checksum, and nothing here can tell.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sdnjax.errors import InputError
from sdnjax.files import read_bytes

# What Pillow's decoders raise for damaged data, besides OSError.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def decode_image(data: bytes, name: str, *, exif_orientation: bool = False) -> np.ndarray:
    """Decodes a picture to uint8 [H, W, 3], RGB.

    Grey is repeated, palettes are looked up, transparency is dropped, CMYK is converted,
    and of 16-bit values the high byte is kept. `exif_orientation` turns a photograph
    upright; data sets leave it off, because their labels were drawn on the stored pixels.

    Raises: InputError that names the file (`name`) if it is empty, damaged or no image.
    """
    if not exif_orientation and (pixels := _by_tensorflow(data)) is not None:
        return pixels
    image = open_image(data, name)
    if exif_orientation:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        grey = (np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path: str | Path, *, exif_orientation: bool = False) -> np.ndarray:
    """`decode_image` of a file; InputError if it is missing."""
    return decode_image(read_bytes(path), str(path), exif_orientation=exif_orientation)


def _by_tensorflow(data: bytes) -> np.ndarray | None:
    """What the faster decoder of plain PNG files makes of one, where TensorFlow is loaded."""
    tf_png = sys.modules.get("sdnjax.data.reading.tf_png")
    return None if tf_png is None else tf_png.decode_png(data)


def open_image(data: bytes, name: str) -> Image.Image:
    """A fully decoded Pillow image; InputError that names the file (`name`) if there is none."""
    if not data:
        raise InputError(f"{name}: the file is empty")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError:
        raise InputError(f"{name}: not an image (PNG and JPEG are read)") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: the image is truncated or damaged ({reason})") from None
    return image
