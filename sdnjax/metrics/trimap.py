"""Trimap mIoU: mIoU inside bands around the true boundaries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdnjax.metrics.confusion import count_pixels, intersection_over_union
from sdnjax.metrics.inputs import Pair
from sdnjax.metrics.metric import sum_field
from sdnjax.metrics.ratios import known_mean


def trimap_bands(codes: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """For each width d, the pixels that have another value at most d away (between centres).

    So d = 1 is the two pixels that meet at an edge, in general d to each side. A pixel is in
    the band iff the disk x² + y² ≤ d² around it holds two values: one minimum and one maximum
    over disks serve all classes. The image border is no boundary.

    Args:
      codes: integers [H, W].
      widths: whole numbers, at least 1.

    Returns:
      bool [H, W] for each width.
    """
    lowest, highest = (_over_disks(codes, widths, pick) for pick in (np.minimum, np.maximum))
    return [low != high for low, high in zip(lowest, highest, strict=True)]


def check_widths(widths: Sequence[int]) -> None:
    """Raises ValueError unless the widths of bands are whole pixels, all of them different."""
    whole = all(isinstance(width, int) and width >= 1 for width in widths)
    if not whole or len(set(widths)) != len(widths):
        raise ValueError(f"trimap widths must be different whole pixels, got {widths}")


def _over_disks(codes: np.ndarray, radii: Sequence[int], pick: np.ufunc) -> list[np.ndarray]:
    """`pick` over the disk around each pixel: a disk is a stack of spans, one for each row, and
    spans of every half width are made once, each from the one before."""
    height = codes.shape[0]
    found = [codes.copy() for _ in radii]
    spans = codes.copy()
    for half_width in range(max(radii, default=0) + 1):
        if half_width:
            for to, source in _shifted(half_width):
                pick(spans[:, to], codes[:, source], out=spans[:, to])
        for result, radius in zip(found, radii, strict=True):
            for dy in range(min(radius, height - 1) + 1):
                if math.isqrt(radius * radius - dy * dy) == half_width:
                    for to, source in _shifted(dy):
                        pick(result[to], spans[source], out=result[to])
    return found


def _shifted(step: int) -> tuple[tuple[slice, slice], ...]:
    """Pairs (to, from) that bring each neighbour `step` pixels away to a pixel."""
    later, earlier = slice(step, None), slice(None, -step or None)
    return (later, earlier), (earlier, later)


@dataclasses.dataclass(frozen=True)
class Trimap:
    """mIoU of a set inside bands of several widths around the true boundaries.

    Void is a value like any other when boundaries are looked for, as in the boundary F-measure
    and as in VOC, where void marks the boundaries; its pixels count nowhere. (A choice of this
    library: Kohli et al., IJCV 2009, and Krähenbühl & Koltun, NeurIPS 2011, who introduced
    trimaps, worked with VOC's.)

    Scores: `trimap_iou`, {width: mIoU}, of the set and of each class.

    Attributes:
      widths: in pixels, see `trimap_bands`.
      confusion: int64 [T, K, K], a confusion matrix for each width.

    Raises: ValueError for widths that make no sense.
    """

    widths: tuple[int, ...]
    confusion: np.ndarray = sum_field()

    def __post_init__(self) -> None:
        check_widths(self.widths)

    def empty(self, num_classes: int) -> Trimap:
        """The state before the first image."""
        shape = (len(self.widths), num_classes, num_classes)
        return dataclasses.replace(self, confusion=np.zeros(shape, np.int64))

    def update(self, pair: Pair) -> Trimap:
        """The state with one more image, maps [H, W]."""
        if not self.widths:
            return self
        bands = trimap_bands(pair.codes[0], self.widths)
        counts = np.stack([count_pixels(pair, band & ~pair.void) for band in bands])
        return dataclasses.replace(self, confusion=self.confusion + counts)

    def compute(self) -> dict[str, Any]:
        """`trimap_iou` of the set and, as arrays [K], `per_class`; NaN for a class that a band
        lacks."""
        names = [f"{width}px" for width in self.widths]
        columns = dict(zip(names, intersection_over_union(self.confusion), strict=True))
        mean = {name: known_mean(column) for name, column in columns.items()}
        return {"trimap_iou": mean, "per_class": {"trimap_iou": columns}}
