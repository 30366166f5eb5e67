"""DifNet's training examples (Jiang et al., NeurIPS 2018), as its released code makes them.

Mirror, scale, crop: pictures by PIL's bilinear filter, which averages when it shrinks, labels and
superpixels by its nearest. What lies beyond a small picture is black *before* the mean is taken
off, and of class 0: unlike mmsegmentation's, these pixels count in the loss.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)


def difnet_crop(
    image: np.ndarray,
    label: np.ndarray,
    draws: np.ndarray,
    crop_size: tuple[int, int],
    *,
    flip: bool,
    superpixels: np.ndarray | None = None,
    mirror: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Image uint8 `[h, w, C]`, label uint8 `[h, w]` and superpixels int32 `[h, w]`, −1 beyond.

    Args:
      draws: four uniform numbers in [0, 1): they decide the scale, the mirror, and where the crop
        lies, from above and from the left.
      mirror: uint8 [256], what a label is in the mirror image; None: the same.
    """
    if flip and draws[1] < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
        superpixels = None if superpixels is None else superpixels[:, ::-1]
        label = label if mirror is None else mirror[label]
    scale = SCALES[int(draws[0] * len(SCALES))]
    size = tuple(max(1, int(side * scale)) for side in label.shape)
    places = [_place(n, c, d) for n, c, d in zip(size, crop_size, draws[2:4], strict=True)]

    def crop(x: np.ndarray, how: Image.Resampling, beyond: int) -> np.ndarray:
        canvas = np.full((*crop_size, *x.shape[2:]), beyond, x.dtype)
        (rows, row), (columns, column) = places
        part = _resized(x, size, how)[rows, columns]
        canvas[row : row + part.shape[0], column : column + part.shape[1]] = part
        return canvas

    nearest = Image.Resampling.NEAREST
    return (
        crop(image, Image.Resampling.BILINEAR, 0),
        crop(label, nearest, 0),
        None if superpixels is None else crop(superpixels.astype(np.int32), nearest, -1),
    )


def _place(size: int, crop: int, draw: float) -> tuple[slice, int]:
    """Which pixels of the scaled picture are seen along one axis, and where in the crop they begin.

    A larger picture's crop begins at 1…size − crop, never at 0, and a smaller one lies at
    0…crop − size − 1: both are how the released code draws its integers.
    """
    margin = abs(size - crop)
    drawn = min(int(draw * margin), margin - 1) if margin else 0
    if size > crop:
        return slice(1 + drawn, 1 + drawn + crop), 0
    return slice(0, size), drawn


def _resized(x: np.ndarray, size: tuple[int, ...], how: Image.Resampling) -> np.ndarray:
    height, width = size
    if x.ndim == 3 and x.shape[2] != 3:  # PIL knows no other number of 8-bit bands
        return np.stack([_resized(band, size, how) for band in np.moveaxis(x, 2, 0)], axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(x))
    return np.asarray(picture.resize((width, height), how))
