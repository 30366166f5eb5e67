"""Trimap mIoU: mIoU inside bands around the true boundaries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sdnjax.metrics.confusion import MeanIoU
from sdnjax.metrics.inputs import check_classes, check_map, check_pair, class_codes


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


@dataclasses.dataclass(frozen=True, eq=False)
class Trimap:
    """mIoU of a set inside bands of several widths around the true boundaries.

    Void is a value like any other when boundaries are looked for, as in the boundary F-measure
    and as in VOC, where void marks the boundaries; its pixels count nowhere. (A choice of this
    library: Kohli et al., IJCV 2009, and Krähenbühl & Koltun, NeurIPS 2011, who introduced
    trimaps, worked with VOC's.)

    Attributes:
      regions: a `MeanIoU` for each width.
      widths: in pixels, see `trimap_bands`.
    """

    regions: tuple[MeanIoU, ...]
    widths: tuple[int, ...]

    @classmethod
    def empty(cls, num_classes: int, widths: Sequence[int], ignore: int = 255) -> Trimap:
        """The state before the first image. Raises ValueError for settings that make no sense."""
        check_classes(num_classes, ignore)
        whole = all(isinstance(width, int) and width >= 1 for width in widths)
        if not whole or len(set(widths)) != len(widths):
            raise ValueError(f"trimap widths must be different whole pixels, got {tuple(widths)}")
        return cls(tuple(MeanIoU.empty(num_classes, ignore) for _ in widths), tuple(widths))

    def update(self, label: np.ndarray, prediction: np.ndarray, name: str | None = None) -> Trimap:
        """The state with one more image.

        Args:
          label: integers [H, W], classes 0…K−1 or `ignore`.
          prediction: integers [H, W] in 0…K−1.
          name: the file that the label came from, for error messages.

        Raises:
          InputError: a label is neither in 0…K−1 nor `ignore`.
          ValueError: anything else that is wrong with the arguments.
        """
        if not self.widths:
            return self
        regions = self.regions[0]
        classes, ignore = regions.num_classes, regions.ignore
        label, prediction, void = check_pair(label, prediction, classes, ignore, name)
        check_map(label)
        bands = trimap_bands(class_codes(label, void, classes), self.widths)
        updated = (
            regions.update(label[band], prediction[band], name)
            for regions, band in zip(self.regions, bands, strict=True)
        )
        return dataclasses.replace(self, regions=tuple(updated))

    def merge(self, other: Trimap) -> Trimap:
        """The state of both sets together. Raises ValueError if their settings differ."""
        if self.widths != other.widths:
            raise ValueError(f"cannot merge trimap widths {self.widths} with {other.widths}")
        merged = (a.merge(b) for a, b in zip(self.regions, other.regions, strict=True))
        return dataclasses.replace(self, regions=tuple(merged))

    def compute(self) -> dict[str, np.ndarray]:
        """`mean` [T] and `per_class` [K, T], IoU in 0…1; NaN for a class that a band lacks."""
        scores = [regions.compute() for regions in self.regions]
        return {
            "mean": np.array([s["mIoU"] for s in scores], np.float64),
            "per_class": np.stack([s["iou"] for s in scores], axis=1),
        }
