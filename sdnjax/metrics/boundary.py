"""Boundary F-measure, as Gated-SCNN evaluates it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sdnjax.metrics.class_bits import boundary_words, class_words, count_bits, dilated_at
from sdnjax.metrics.inputs import check_classes, check_map, check_pair
from sdnjax.metrics.ratios import known_mean, quotient

ABSENT_RULES = ("one", "skip")


def threshold_radius(threshold: float, height: int, width: int) -> int:
    """Radius in pixels: an integer threshold is that many pixels, one below 1 a part of the
    image diagonal, `ceil(threshold · √(H² + W²))`.

    Raises:
      ValueError: the threshold is not positive, or above 1 and not whole.
    """
    if not (0 < threshold < 1 or (threshold >= 1 and threshold == int(threshold))):
        raise ValueError(
            f"boundary threshold must be a whole number of pixels or a part of the diagonal "
            f"in (0, 1), got {threshold!r}"
        )
    if threshold >= 1:
        return int(threshold)
    return math.ceil(threshold * math.hypot(height, width))


def threshold_name(threshold: float) -> str:
    """Key of a threshold in results: `3px`, or `0.0075diagonal` for a part of the diagonal."""
    return f"{int(threshold)}px" if threshold >= 1 else f"{threshold:g}diagonal"


def boundary_f_scores(
    label: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    thresholds: Sequence[float] = (1, 3),
    *,
    absent: str = "one",
    ignore: int = 255,
    name: str | None = None,
) -> np.ndarray:
    """Boundary F-measure of every class in one image.

    Per class, both maps become binary masks with void set to 0 in both; a pixel is boundary
    where its mask differs from the right, lower or lower-right neighbour (the image border is
    no boundary). With B the boundary of the prediction, B* that of the truth and D_r the
    dilation by the disk x² + y² ≤ r²:

      P = |B ∩ D_r(B*)| / |B|,   R = |B* ∩ D_r(B)| / |B*|,   F = 2 P R / (P + R), 0 if P + R = 0.

    One of B, B* empty gives 0. Both empty give 1 with `absent="one"` (what is done on
    Cityscapes) and are not counted with `absent="skip"`.

    Source: Takikawa et al., Gated-SCNN, ICCV 2019, after the F-measure of the DAVIS benchmark
    (Perazzi et al., CVPR 2016).

    Args:
      label: integers [H, W], classes 0…K−1 or `ignore`.
      prediction: integers [H, W] in 0…K−1.
      num_classes: K.
      thresholds: pixels (whole numbers) or parts of the diagonal (below 1).
      absent: `"one"` or `"skip"`.
      ignore: label of the void pixels; not a real class.
      name: the file that the label came from, for error messages.

    Returns:
      float64 [K, len(thresholds)] in 0…1; NaN for a class that is not counted.

    Raises:
      InputError: a label is neither in 0…K−1 nor `ignore`.
      ValueError: anything else that is wrong with the arguments.
    """
    _check_absent(absent)
    label, prediction, void = check_pair(label, prediction, num_classes, ignore, name)
    check_map(label)
    radii = [threshold_radius(threshold, *label.shape) for threshold in thresholds]
    scores = np.full((num_classes, len(radii)), 1.0 if absent == "one" else np.nan)
    if not radii:
        return scores
    for classes, true_words, predicted_words in class_words(label, prediction, void, num_classes):
        true_edges, predicted_edges = boundary_words(true_words), boundary_words(predicted_words)
        precision = _share_near(predicted_edges, true_edges, radii, classes.size)
        recall = _share_near(true_edges, predicted_edges, radii, classes.size)
        f = quotient(2 * precision * recall, precision + recall)
        f[precision + recall == 0] = 0.0
        no_boundary, no_truth = np.isnan(precision), np.isnan(recall)
        f[no_boundary != no_truth] = 0.0
        f[no_boundary & no_truth] = 1.0 if absent == "one" else np.nan
        scores[classes] = f
    return scores


def _share_near(
    edges: np.ndarray, others: np.ndarray, radii: Sequence[int], bits: int
) -> np.ndarray:
    """[bits, radii]: the part of each class's `edges` within the disk of `others`; NaN if none."""
    positions = np.flatnonzero(edges)
    words = edges.reshape(-1)[positions]
    near = [count_bits(words & other, bits) for other in dilated_at(positions, others, radii)]
    return quotient(np.stack(near, axis=1), count_bits(words, bits)[:, None])


def _check_absent(absent: str) -> None:
    if absent not in ABSENT_RULES:
        raise ValueError(f"absent must be one of {ABSENT_RULES}, got {absent!r}")


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryF:
    """Boundary F-measure of a set: mean over images per class, then over classes.

    Attributes:
      scores: float64 [K, T], F of each class and threshold summed over the images.
      images: int64 [K], in how many images the class was counted.
      thresholds, absent, ignore: as in `boundary_f_scores`.
    """

    scores: np.ndarray
    images: np.ndarray
    thresholds: tuple[float, ...]
    absent: str
    ignore: int

    @classmethod
    def empty(
        cls,
        num_classes: int,
        thresholds: Sequence[float] = (1, 3),
        absent: str = "one",
        ignore: int = 255,
    ) -> BoundaryF:
        """The state before the first image. Raises ValueError for settings that make no sense."""
        check_classes(num_classes, ignore)
        _check_absent(absent)
        for threshold in thresholds:
            threshold_radius(threshold, 1, 1)
        names = [threshold_name(threshold) for threshold in thresholds]
        if len(set(names)) != len(names):
            raise ValueError(f"boundary thresholds must differ, got {tuple(thresholds)}")
        scores = np.zeros((num_classes, len(thresholds)), np.float64)
        return cls(scores, np.zeros(num_classes, np.int64), tuple(thresholds), absent, ignore)

    @property
    def num_classes(self) -> int:
        return self.scores.shape[0]

    def update(
        self, label: np.ndarray, prediction: np.ndarray, name: str | None = None
    ) -> BoundaryF:
        """The state with one more image, both maps [H, W]; see `boundary_f_scores`."""
        scores = boundary_f_scores(
            label,
            prediction,
            self.num_classes,
            self.thresholds,
            absent=self.absent,
            ignore=self.ignore,
            name=name,
        )
        if not self.thresholds:
            return self
        return dataclasses.replace(
            self,
            scores=self.scores + np.nan_to_num(scores, nan=0.0),
            images=self.images + ~np.isnan(scores[:, 0]),  # counted at one radius, counted at all
        )

    def merge(self, other: BoundaryF) -> BoundaryF:
        """The state of both sets together. Raises ValueError if their settings differ."""
        if self._settings() != other._settings():
            raise ValueError(
                f"cannot merge (num_classes, thresholds, absent, ignore) = {self._settings()} "
                f"with {other._settings()}"
            )
        return dataclasses.replace(
            self, scores=self.scores + other.scores, images=self.images + other.images
        )

    def compute(self) -> dict[str, np.ndarray]:
        """`mean` [T] and `per_class` [K, T], in 0…1; a class that was never counted is NaN and
        left out of the mean."""
        per_class = quotient(self.scores, self.images[:, None])
        mean = np.array([known_mean(column) for column in per_class.T], np.float64)
        return {"mean": mean, "per_class": per_class}

    def _settings(self) -> tuple:
        return self.num_classes, self.thresholds, self.absent, self.ignore
