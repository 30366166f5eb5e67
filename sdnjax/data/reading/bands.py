"""How the numbers in a picture's file become what a network sees, as `Pixels` has it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from sdnjax.data.pixels import Pixels
from sdnjax.errors import InputError

_TAG = 0x0112  # EXIF's orientation
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def tag_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened image that is not loaded yet, 1…8; 1 if it has none."""
    try:
        tag = image.getexif().get(_TAG, 1)
    except Exception:  # a damaged block beside a sound picture
        return 1
    return tag if tag in _BACK else 1


def turned(image: Image.Image, tag: int, pixels: Pixels) -> Image.Image:
    """The image as `pixels.orientation` wants it; `tag` is what it had before it was loaded."""
    if tag == 1:
        return image
    # Pillow turns TIFF files while it loads them, and takes their tag away.
    is_upright = tag_of(image) == 1
    if pixels.orientation == "upright":
        return image if is_upright else ImageOps.exif_transpose(image)
    return image.transpose(_BACK[tag]) if is_upright else image


def bands(image: Image.Image, deep: bool, pixels: Pixels, name: str) -> np.ndarray:
    """uint8 `[H, W, channels]` of a loaded image.

    Raises: InputError that names the file and the setting that would read it.
    """
    if image.mode in {"P", "PA"}:
        transparent = "transparency" in image.info or image.mode == "PA"
        image = image.convert("RGBA" if transparent else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV") and pixels.channels == 3:
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if deep and array.dtype == np.uint8:
        raise InputError(
            f"{name} has more than 8 bits in each of {array.shape[2]} bands, of which the high "
            "ones alone can be read: save it as an array [H, W, bands] (.npy)"
        )
    return fitted(array, pixels, name)


def fitted(array: np.ndarray, pixels: Pixels, name: str) -> np.ndarray:
    """An array `[H, W, bands]` of any numbers as uint8 `[H, W, channels]`."""
    array = _scaled(array, pixels, name)
    found, wanted = array.shape[2], pixels.channels
    if found == wanted:
        return array
    if found == wanted + 1 and found in (2, 4):
        if (array[..., -1] == 255).all():  # opaque
            return array[..., :-1]
        raise InputError(
            f"{name} has {found} bands, and the last one is not empty: --data.channels {found} "
            "reads all of them; a picture with transparency must be flattened"
        )
    if found == 2 and wanted == 3 and (array[..., 1] == 255).all():
        return np.repeat(array[..., :1], 3, axis=2)
    if found == 1 and wanted == 3:
        return np.repeat(array, 3, axis=2)
    if found in (3, 4) and wanted == 1 and (array[..., :3] == array[..., :1]).all():
        return array[..., :1]
    raise InputError(f"{name} has {found} band(s), data.channels is {wanted}")


def _scaled(array: np.ndarray, pixels: Pixels, name: str) -> np.ndarray:
    if array.size == 0:
        raise InputError(f"{name} has no pixels")
    least, most = array.min(), array.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        raise InputError(f"{name} has values that are not finite")
    if pixels.value_range is None:
        if array.dtype == np.uint8:
            return array
        raise InputError(
            f"{name} holds {array.dtype} values, {least:g} to {most:g}: say which of them are "
            "black and white, --data.value_range LOW,HIGH (0,4095 for 12 bits)"
        )
    low, high = pixels.value_range
    if least < low or most > high:
        raise InputError(
            f"{name} holds values {least:g} to {most:g}, outside data.value_range {low:g},{high:g}"
        )
    scaled = (array.astype(np.float64) - low) * (255 / (high - low))
    return np.floor(scaled + 0.5).astype(np.uint8)
