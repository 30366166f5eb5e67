"""Boundary IoU: intersection over union inside the inner boundary bands."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from sdnjax.metrics.inputs import check_classes, check_map, check_pair, class_codes
from sdnjax.metrics.ratios import known_mean, quotient


def band_width(ratio_of_diagonal: float, height: int, width: int) -> int:
    """d = max(1, round(ratio · √(H² + W²))) pixels."""
    return max(1, round(ratio_of_diagonal * math.hypot(height, width)))


def boundary_band(classes: np.ndarray, width: int) -> np.ndarray:
    """Pixels that an erosion of their own class's mask would remove.

    The erosion is by a 3×3 square, `width` times, with everything beyond the image background:
    one (2·width + 1)² square. A pixel survives iff that square lies in the image and holds a
    single value, so one running minimum and maximum serve all classes.

    Args:
      classes: integers [H, W]; every value is a mask of its own.
      width: d, at least 1.

    Returns:
      bool [H, W].
    """
    window = 2 * width + 1
    band = np.ones(classes.shape, bool)
    if min(classes.shape) >= window:
        lowest, highest = (
            _running(_running(classes, window, pick).T, window, pick).T
            for pick in (np.minimum, np.maximum)
        )
        band[width:-width, width:-width] = lowest != highest
    return band


def _running(values: np.ndarray, window: int, pick: np.ufunc) -> np.ndarray:
    """Running `pick` down the columns: [H, W] → [H − window + 1, W], by doubling the span."""
    span = 1
    while span < window:
        step = min(span, window - span)
        values = pick(values[:-step], values[step:])
        span += step
    return values


def boundary_iou_counts(
    label: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ratio_of_diagonal: float = 0.02,
    *,
    ignore: int = 255,
    name: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in the intersection and union of the boundary bands of each class, in one image.

    With G_d the pixels of the true mask G that an erosion by d removes, P_d those of the
    predicted mask P: |G_d ∩ P_d| and |G_d ∪ P_d|. The image border counts as boundary.

    Source: Cheng et al., Boundary IoU, CVPR 2021, which uses ratio 0.02, and 0.005 on
    Cityscapes. A choice of this library: void pixels are background in both maps before the
    bands are taken, as they are for the boundary F-measure.

    Args:
      label: integers [H, W], classes 0…K−1 or `ignore`.
      prediction: integers [H, W] in 0…K−1.
      num_classes: K.
      ratio_of_diagonal: d in parts of the image diagonal.
      ignore: label of the void pixels; not a real class.
      name: the file that the label came from, for error messages.

    Returns:
      `(intersection, union)`, each int64 [K].

    Raises:
      InputError: a label is neither in 0…K−1 nor `ignore`.
      ValueError: anything else that is wrong with the arguments.
    """
    label, prediction, void = check_pair(label, prediction, num_classes, ignore, name)
    check_map(label)
    width = band_width(ratio_of_diagonal, *label.shape)
    true = class_codes(label, void, num_classes)
    predicted = class_codes(prediction, void, num_classes)
    true_band, predicted_band = boundary_band(true, width), boundary_band(predicted, width)

    def per_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(values, minlength=num_classes + 1)[:num_classes].astype(np.int64)

    intersection = per_class(true[true_band & predicted_band & (true == predicted)])
    sizes = per_class(true[true_band]) + per_class(predicted[predicted_band])
    return intersection, sizes - intersection


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryIoU:
    """Boundary IoU of a set.

    A choice of this library: intersections and unions are summed over the whole set before the
    quotient, as mIoU does; the mean is over classes whose union is not empty.

    Attributes:
      intersections, unions: int64 [K], pixels summed over the images.
      ratio: band width in parts of the image diagonal.
      ignore: label of the void pixels.
    """

    intersections: np.ndarray
    unions: np.ndarray
    ratio: float
    ignore: int

    @classmethod
    def empty(cls, num_classes: int, ratio: float = 0.02, ignore: int = 255) -> BoundaryIoU:
        """The state before the first image. Raises ValueError for settings that make no sense."""
        check_classes(num_classes, ignore)
        if not 0 < ratio < 1:
            raise ValueError(f"boundary IoU ratio must lie in (0, 1), got {ratio!r}")
        zeros = np.zeros(num_classes, np.int64)
        return cls(zeros, zeros, ratio, ignore)

    @property
    def num_classes(self) -> int:
        return self.unions.shape[0]

    def update(
        self, label: np.ndarray, prediction: np.ndarray, name: str | None = None
    ) -> BoundaryIoU:
        """The state with one more image, both maps [H, W]; see `boundary_iou_counts`."""
        intersection, union = boundary_iou_counts(
            label, prediction, self.num_classes, self.ratio, ignore=self.ignore, name=name
        )
        return dataclasses.replace(
            self,
            intersections=self.intersections + intersection,
            unions=self.unions + union,
        )

    def merge(self, other: BoundaryIoU) -> BoundaryIoU:
        """The state of both sets together. Raises ValueError if their settings differ."""
        mine = (self.num_classes, self.ratio, self.ignore)
        theirs = (other.num_classes, other.ratio, other.ignore)
        if mine != theirs:
            raise ValueError(f"cannot merge (num_classes, ratio, ignore) = {mine} with {theirs}")
        return dataclasses.replace(
            self,
            intersections=self.intersections + other.intersections,
            unions=self.unions + other.unions,
        )

    def compute(self) -> dict[str, float | np.ndarray]:
        """`mean`, a float, and `per_class` [K], in 0…1; NaN for a class that never occurred."""
        per_class = quotient(self.intersections, self.unions)
        return {"mean": known_mean(per_class), "per_class": per_class}
