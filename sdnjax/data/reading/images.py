"""Image files as arrays, without TensorFlow.

Every way in which a file can be wrong ends in an InputError of one line that names it. A
JPEG whose compressed data was altered without being cut short still decodes: the format
has no checksum, and nothing here can tell.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from sdnjax.data.pixels import MOST_PIXELS, STORED, Pixels
from sdnjax.data.reading.bands import bands, fitted, tag_of, turned
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

_BITS, _BANDS = 258, 277  # tags of TIFF
_NUMPY = b"\x93NUMPY"
# Pillow's limit is one of the whole process. It also warns at half of it, which is not for users.
_LIMIT = threading.RLock()
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# What Pillow's decoders raise for damaged data, besides OSError.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def decode_image(data: bytes, name: str, pixels: Pixels = STORED) -> np.ndarray:
    """Decodes a picture to uint8 [H, W, C], RGB unless `pixels` says otherwise.

    Grey is repeated, palettes are looked up, CMYK is converted, and an opaque alpha is dropped.
    An array of NumPy's (`.npy`), `[H, W]` or `[H, W, C]`, is a picture too. What else a file may
    hold is read as `pixels` declares it, or refused.

    Raises: InputError that names the file (`name`) if it is empty, damaged, no image, or none
      that fits `pixels`.
    """
    if data.startswith(_NUMPY):
        return fitted(_array(data, name), pixels, name)
    # PNG keeps an orientation in a chunk of this name.
    plain = pixels.is_plain and (pixels.orientation == "stored" or b"eXIf" not in data)
    if plain and (decoded := _by_tensorflow(data)) is not None:
        return decoded
    image, tag, deep = _open(data, name, pixels.most_pixels)
    return bands(turned(image, tag, pixels), deep, pixels, name)


def orientation_of(data: bytes) -> int:
    """The EXIF orientation of a picture file, 1 if it has none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "PNG" and b"eXIf" not in data:
                return 1
            return tag_of(image)
    except Exception:  # whatever is wrong with it is told when it is decoded
        return 1


def read_image(path: str | Path, pixels: Pixels = STORED) -> np.ndarray:
    """`decode_image` of a file; InputError if it is missing."""
    return decode_image(read_bytes(path), str(path), pixels)


def picture_of(source: Any, pixels: Pixels = STORED) -> np.ndarray:
    """uint8 `[H, W, C]` of a file's path, a Pillow image or an array `[H, W]` or `[H, W, C]`.

    All are read by one rule: an array as a `.npy` file, an image as the file that it comes from.

    Raises: InputError for what is none of them, or no picture that fits `pixels`.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_image(Path(source), pixels)
    if isinstance(source, Image.Image):
        return _of_pillow(source, pixels)
    if isinstance(source, np.ndarray):
        form = f"an array {source.dtype} {list(source.shape)}"
        source = source[..., None] if source.ndim == 2 else source
        if source.ndim != 3 or source.dtype.kind not in "uif":
            raise InputError(f"{form} is no picture: [H, W] or [H, W, bands] of numbers are")
        return fitted(source, pixels, form)
    raise InputError(
        "a picture is a path, a Pillow image or an array [H, W, bands], not "
        f"{type(source).__name__}"
    )


def _of_pillow(image: Image.Image, pixels: Pixels) -> np.ndarray:
    name = str(getattr(image, "filename", "") or "the image")
    if image.width * image.height > pixels.most_pixels:
        raise InputError(_too_many(name, image, pixels.most_pixels))
    # Where Pillow cuts deep bands off, its decoder tells as long as it has not run.
    args = [str(tile[3]) for tile in getattr(image, "tile", ())]
    deep = any(";16" in arg for arg in args) or _is_deep(image, b"")
    tag = tag_of(image)
    try:
        image.load()
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: the image is truncated or damaged ({reason})") from None
    return bands(turned(image, tag, pixels), deep, pixels, name)


def _too_many(name: str, image: Image.Image, most_pixels: int) -> str:
    return (
        f"{name} has {image.width}×{image.height} pixels, more than data.max_pixels "
        f"{most_pixels}: raise it, or cut the picture"
    )


def _by_tensorflow(data: bytes) -> np.ndarray | None:
    """What the faster decoder of plain PNG files makes of one, where TensorFlow is loaded."""
    tf_png = sys.modules.get("sdnjax.data.reading.tf_png")
    return None if tf_png is None else tf_png.decode_png(data)


def open_image(data: bytes, name: str) -> Image.Image:
    """A fully decoded Pillow image; InputError that names the file (`name`) if there is none."""
    return _open(data, name)[0]


def _open(data: bytes, name: str, most_pixels: int = MOST_PIXELS) -> tuple[Image.Image, int, bool]:
    """A fully decoded Pillow image, the orientation that its file has, and whether its values
    have more than 8 bits."""
    if not data:
        raise InputError(f"{name}: the file is empty")
    try:
        image, tag, deep = _loaded(data, name, most_pixels)
    except Image.DecompressionBombError:
        with _without_pillows_limit():
            return _open(data, name, most_pixels)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name}: {_no_image(data)}") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "unknown pixel mode" in reason or "unknown raw mode" in reason:
            raise InputError(
                f"{name}: its bands or their type cannot be read ({reason}): save it as an array "
                "[H, W, bands] (.npy), or with 1 to 4 bands of 8 bits"
            ) from None
        raise InputError(f"{name}: the image is truncated or damaged ({reason})") from None
    return image, tag, deep


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a file of several bands has more than 8 bits in each, which Pillow cuts off."""
    if image.format == "PNG":
        return len(data) > 24 and data[24] == 16
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    return False


def _no_image(data: bytes) -> str:
    """What a file is that Pillow does not know."""
    known = (
        (b"<", "not an image but a page of the web or XML"),
        (
            b"version https://git-lfs",
            "not an image but a pointer of Git LFS",
        ),
        (b"%PDF", "not an image but a PDF"),
        (b"\x89HDF", "not an image but an HDF5 file"),
        (b"II+\0", "a BigTIFF, which is not read: save it as a TIFF or .npy [H, W, bands]"),
    )
    if data.startswith((b"II*\0", b"MM\0*")):
        return f"{_tiff(data)} cannot be read: save it as an array [H, W, bands] (.npy)"
    for beginning, what in known:
        if data.startswith(beginning):
            return what
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF or a video, which are not read here: save it as PNG or JPEG"
    return "not an image of a kind that is read (PNG, JPEG, TIFF, WebP, BMP, GIF, .npy)"


def _loaded(data: bytes, name: str, most_pixels: int) -> tuple[Image.Image, int, bool]:
    image = Image.open(io.BytesIO(data))
    if image.width * image.height > most_pixels:
        raise InputError(_too_many(name, image, most_pixels))
    # Pillow turns a TIFF file while it loads it and drops the tag; of a PNG file it finds the tag
    # by loading it, which must not happen where errors are ignored.
    tag = tag_of(image) if image.format == "TIFF" else None
    image.load()
    return image, tag_of(image) if tag is None else tag, _is_deep(image, data)


def _tiff(data: bytes) -> str:
    """Bands and bits of a TIFF file that Pillow cannot open, as far as it tells them."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bands, bits = tags.get(_BANDS, 1), tags.get(_BITS, (1,))
        bits = bits[0] if isinstance(bits, tuple) else bits
    except Exception:  # whatever a damaged directory does
        return "a TIFF of this form"
    return f"a TIFF of {bands} band{'s' * (bands != 1)} of {bits} bits"


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow calls large pictures an attack; here `Pixels.most_pixels` decides."""
    with _LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _array(data: bytes, name: str) -> np.ndarray:
    """An array `[H, W, bands]` of a `.npy` file, of which nothing is executed."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{name}: the array is damaged ({reason})") from None
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.dtype.kind not in "uif":
        form = f"{array.dtype} {list(array.shape)}"
        raise InputError(f"{name} holds {form}, a picture is [H, W] or [H, W, bands] of numbers")
    return array
