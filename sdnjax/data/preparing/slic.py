"""Superpixels, computed once, while a data set is prepared, by SLIC (Achanta et al., 2012).

E-CRF (Zhu et al., 2023) uses 200 segments for ADE20K and Pascal Context and 600 for
Cityscapes and says nothing else of them. The choices here: scikit-image's defaults, on the
RGB image of 0–255 in its own size.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from sdnjax.errors import InputError

MOST_SEGMENTS = 2**16  # what a 16-bit PNG can tell apart
_INSTALL = 'pip install "scikit-image>=0.25,<0.27"'


def slic(image: np.ndarray, segments: int) -> np.ndarray:
    """About `segments` superpixels of an image, never more.

    SLIC starts from a grid that may have more cells than it was asked for, mostly in small
    or flat images. Then it is asked for fewer, so that `segments` bounds the number of sums
    over segments everywhere.

    Args:
      image: uint8 [H, W, 3], RGB.
      segments: the number of segments that SLIC aims at, 1 to `MOST_SEGMENTS`.

    Returns: int32 [H, W] of 0…n−1 for some n ≤ segments; every number occurs.
    """
    from skimage.segmentation import slic as skimage_slic  # noqa: PLC0415 (optional, slow)

    asked = segments
    while True:
        found = skimage_slic(image, n_segments=asked, start_label=0)
        count = int(found.max()) + 1
        if count <= segments:
            return found.astype(np.int32)
        if asked == 1:
            return np.zeros(found.shape, np.int32)
        asked = max(1, asked * segments // count)


def require_scikit_image() -> None:
    """InputError with the command that installs scikit-image if it is missing."""
    if importlib.util.find_spec("skimage") is None:
        raise InputError(f"superpixels are computed by scikit-image, which is missing: {_INSTALL}")
