"""What SegFix learns (Yuan et al., ECCV 2020): from each pixel of a label map, where inside is.

`sdnjax.ops.offsets` numbers the directions.
"""

from __future__ import annotations

import numpy as np

from sdnjax.ops.labels import IGNORE
from sdnjax.ops.offsets import code_of

_RADIUS = 2  # of the derivative's filter


def direction_codes(
    label: np.ndarray,
    num_classes: int,
    *,
    least_pixels: int = 100,
    width: float = 6.0,
    left_out: int = IGNORE,
) -> np.ndarray:
    """`uint8 [H, W]`, 0…15 and 255: direction + 8 · boundary.

    For each class, d is the Euclidean distance of its pixels to the nearest pixel that is not of
    the class, 1 at the border; the image's edge is no border. A pixel is boundary if d < `width`
    (the released `floor(d) ≤ 5`). Its direction is that of d's gradient: uphill, into the object.

    Args:
      label: uint8 `[H, W]`, 0…num_classes − 1 and 255.
      least_pixels: smaller classes are left out.
      left_out: their code. 255, our choice, counts nowhere; the released code has 12 there:
        boundary, direction 4.
    """
    h, w = label.shape
    codes = np.full((h, w), IGNORE, np.uint8)
    counts = np.bincount(label.ravel(), minlength=256)
    for k in np.flatnonzero(counts[:num_classes]):
        mask = label == k
        if counts[k] < least_pixels:
            codes[mask] = left_out
            continue
        rows, columns = (_extent(mask.any(axis=axis)) for axis in (1, 0))
        # The nearest pixel outside the class lies in the box of the class or one beyond it.
        grown = tuple(
            slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in ((rows, h), (columns, w))
        )
        inside = mask[grown]
        distance = _distance(inside)
        here = codes[grown]
        own = code_of(distance < width, _directions(distance))
        here[inside] = own[inside]
    return codes


def _extent(occupied: np.ndarray) -> slice:
    found = np.flatnonzero(occupied)
    return slice(int(found[0]), int(found[-1]) + 1)


def _distance(inside: np.ndarray) -> np.ndarray:
    """float64 `[H, W]`: distance to the nearest pixel that is not inside; 0 outside.

    Infinite everywhere if nothing is outside: all is interior, and flat.
    """
    # Settings name data sets also where nothing is read.
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415

    if inside.all():
        return np.full(inside.shape, np.inf)
    return distance_transform_edt(inside)


def _directions(distance: np.ndarray) -> np.ndarray:
    """int `[H, W]`: the classes of d's gradient, by correlation with `(dx, dy)/(dx² + dy²)` over
    5×5 pixels, zeros beyond the array; 4 where it is 0."""
    if np.isinf(distance).any():
        return np.full(distance.shape, 4)
    # Differences of opposite pixels first, in one order on both sides: the mirror image's gradient
    # is then the mirrored one to the last bit, also where it is 0 or straight.
    right = _slope(distance)
    down = _slope(distance.T).T
    theta = np.degrees(np.arctan2(down, right))
    # Class i ends at −157.5 + 45·i, included; above 157.5 class 0 begins again.
    return np.ceil((theta + 157.5) / 45).astype(int) % 8


def _slope(d: np.ndarray) -> np.ndarray:
    """The part of the gradient along the last axis."""
    h, w = d.shape
    r = _RADIUS
    wide = np.pad(d, r)
    total = np.zeros((h, w))
    for x in range(1, r + 1):
        difference = wide[:, r + x : r + x + w] - wide[:, r - x : r - x + w]
        part = difference[r : r + h] / x
        for y in range(1, r + 1):
            both = difference[r - y : r - y + h] + difference[r + y : r + y + h]
            part += both * (x / (x * x + y * y))
        total += part
    return total
