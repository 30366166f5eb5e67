"""Pictures on disk."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sdnjax.files import replacing
from sdnjax.places import make_folder, place


def save_png(
    path: str | os.PathLike,
    array: np.ndarray,
    palette: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    """Write a PNG as a whole or not at all; missing parent folders are made.

    The picture is written beside its place and moved there, so a reader never finds half of it
    and a failure leaves what was there before.

    Args:
      path: where it goes.
      array: uint8, [H, W] (grey, or a label map) or [H, W, 3] (RGB).
      palette: colours of a label map, by value: viewers show them, readers get the values.

    Raises:
      ValueError: the array is none of these.
      OSError: the place cannot be written.
    """
    array = np.asarray(array)
    grey, color = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not array.size or not (grey or color):
        raise ValueError(
            f"need uint8 [H, W] or [H, W, 3] for a PNG, got {array.dtype} {array.shape}"
        )
    path = place(path)
    make_folder(path.parent)
    picture = Image.fromarray(np.ascontiguousarray(array))
    if palette is not None:
        picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
