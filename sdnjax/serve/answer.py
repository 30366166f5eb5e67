"""What the page gets of one picture.

A short description, then arrays and the picture, in one piece of bytes:

    4 bytes    how long the description is, little-endian, a multiple of 8 less 4
    JSON       the description, filled up with spaces
    labels     [h, w]       uint8, or uint16 where there are more than 256 classes ("wide")
    classes    [N, h, w]    the same type; the likeliest classes, in falling order
    percents   [N, h, w]    uint8, their probabilities
    boundaries [h, w]       uint8, 0 or 1
    picture    PNG or JPEG, h × w
"""

from __future__ import annotations

import io
import json
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sdnjax.metrics.class_bits import boundary_words
from sdnjax.visualize import shown

# How many classes the page can show of a pixel.
LIKELIEST = 5
# What browsers draw without complaint, phones included, and hold with N classes of each pixel.
_MOST_PIXELS = 2**22
_LONGEST = 8192
_LOSSLESS = 2**20  # pixels; larger pictures are sent as JPEG


class Segmented(NamedTuple):
    """What a network says of a picture.

    Attributes:
      picture: uint8 `[H, W, C]` as the network saw it.
      labels: integers `[H, W]`.
      likeliest: uint16 `[H, W, 2, N]`, classes and their probabilities in whole percent.
    """

    picture: np.ndarray
    labels: np.ndarray
    likeliest: np.ndarray


def packed(found: Segmented, num_classes: int, *, most_pixels: int = _MOST_PIXELS) -> bytes:
    """The answer. Of a picture that is larger than what browsers draw every second, third … pixel
    in both directions is sent; boundaries between these are kept."""
    size = height, width = found.labels.shape
    every = math.ceil(max(math.sqrt(height * width / most_pixels), max(size) / _LONGEST))
    start = [min(every // 2, n - 1) for n in size]
    at = tuple(slice(first, None, every) for first in start)
    labels, likeliest = found.labels[at], found.likeliest[at]
    h, w = labels.shape
    wide = num_classes > 256
    number = np.dtype("<u2" if wide else "u1")
    edges = boundary_words(found.labels) != 0
    for axis, count in enumerate((h, w)):
        edges = np.logical_or.reduceat(edges, np.arange(count) * every, axis=axis)
    kind, picture = _encoded(shown(found.picture), every, (h, w))
    shares = np.bincount(found.labels.ravel(), minlength=num_classes) / found.labels.size
    description: dict[str, Any] = {
        "size": [h, w],
        "of": list(size),
        "start": start,
        "every": every,
        "likeliest": likeliest.shape[-1],
        "wide": wide,
        "picture": kind,
        "shares": {int(k): round(float(shares[k]), 6) for k in np.flatnonzero(shares)},
    }
    head = json.dumps(description, separators=(",", ":")).encode()
    head += b" " * (-(len(head) + 4) % 8)
    planes = [
        labels.astype(number),
        np.moveaxis(likeliest[..., 0, :], -1, 0).astype(number),
        np.moveaxis(likeliest[..., 1, :], -1, 0).astype(np.uint8),
        edges.astype(np.uint8),
    ]
    length = len(head).to_bytes(4, "little")
    return b"".join([length, head, *(plane.tobytes() for plane in planes), picture])


def _encoded(picture: np.ndarray, every: int, size: tuple[int, int]) -> tuple[str, bytes]:
    """A picture whose squares of `every` pixels are averaged, as a file of the type named first."""
    image = Image.fromarray(np.ascontiguousarray(picture)).reduce(every)
    image = image.crop((0, 0, size[1], size[0]))
    buffer = io.BytesIO()
    if size[0] * size[1] <= _LOSSLESS:
        image.save(buffer, "PNG", compress_level=1)
        return "image/png", buffer.getvalue()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return "image/jpeg", buffer.getvalue()
