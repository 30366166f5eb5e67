"""Polygons, circles and run-length codes as masks.

A pixel is inside if its centre is: pixel (0, 0) is the square from 0 to 1, its centre (½, ½).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_DIGIT, _MORE, _SIGN = 0x1F, 0x20, 0x10  # of a character of compressed run lengths


def polygon_mask(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of `size`: the inside of a polygon, by the even-odd rule.

    Args:
      points: float [N, 2], x and y of the corners, in pixels from the upper left.

    Raises: ValueError for fewer than three points, or coordinates that are no numbers.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError("a polygon needs at least three points of two coordinates")
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is no finite number")
    height, width = size
    mask = np.zeros(size, bool)
    (x, y), (x2, y2) = points.T, np.roll(points, -1, axis=0).T
    first, last = math.floor(y.min() - 0.5), math.ceil(y.max() + 0.5)
    for row in range(max(first, 0), min(last, height)):
        centre = row + 0.5
        edges = (y <= centre) != (y2 <= centre)
        slope = (x2[edges] - x[edges]) / (y2[edges] - y[edges])
        crossings = np.sort(x[edges] + (centre - y[edges]) * slope)
        bounds = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
        for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
            mask[row, start:stop] = ~mask[row, start:stop]
    return mask


def circle_mask(
    centre: Sequence[float], edge: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """bool [H, W]: the inside of the circle around `centre` through `edge`."""
    y, x = np.ogrid[: size[0], : size[1]]
    radius = math.hypot(edge[0] - centre[0], edge[1] - centre[1])
    return np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) <= radius


def run_mask(counts: str | Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of COCO's run lengths: pixels column by column, first those outside.

    Args:
      counts: the lengths, or the string that they are compressed to.

    Raises: ValueError if they are no lengths, or do not make up the picture.
    """
    lengths = _decompressed(counts) if isinstance(counts, str) else list(counts)
    if any(not isinstance(n, int) or n < 0 for n in lengths):
        raise ValueError("a run length is no whole number from 0 on")
    if sum(lengths) != size[0] * size[1]:
        raise ValueError(
            f"the runs make {sum(lengths)} pixels, the picture has {size[0] * size[1]}"
        )
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(size[1], size[0]).T


def _decompressed(text: str) -> list[int]:
    """Five bits a character, the lowest first, with a sign in the last; from the fourth on, what
    is stored is the difference to the length before the last."""
    lengths: list[int] = []
    value = place = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{letter!r} does not occur in compressed run lengths")
        value |= (code & _DIGIT) << place
        place += 5
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << place
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = place = 0
    if place:
        raise ValueError("the compressed run lengths are cut short")
    return lengths
