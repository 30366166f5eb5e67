"""Boundary F-measure, as Gated-SCNN evaluates it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdnjax.metrics.class_bits import boundary_words, class_words, count_bits, dilated_at
from sdnjax.metrics.inputs import IGNORE, Pair, check_pair
from sdnjax.metrics.metric import sum_field
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
    ignore: int = IGNORE,
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
    return _scores(check_pair(label, prediction, num_classes, ignore, name), thresholds, absent)


def _scores(pair: Pair, thresholds: Sequence[float], absent: str) -> np.ndarray:
    """`boundary_f_scores` of a checked pair."""
    codes, num_classes = pair.codes, pair.num_classes
    radii = [threshold_radius(threshold, *codes[0].shape) for threshold in thresholds]
    scores = np.full((num_classes, len(radii)), 1.0 if absent == "one" else np.nan)
    if not radii:
        return scores
    for classes, true_words, predicted_words in class_words(codes, num_classes):
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


@dataclasses.dataclass(frozen=True)
class BoundaryF:
    """Boundary F-measure of a set: mean over images per class, then over classes.

    Scores: `boundary_f`, {threshold: F}, of the set and of each class; a class that was never
    counted is left out of the mean.

    Attributes:
      thresholds, absent: as in `boundary_f_scores`.
      scores: float64 [K, T], F of each class and threshold summed over the images.
      images: int64 [K], in how many images the class was counted.

    Raises: ValueError for settings that make no sense.
    """

    thresholds: tuple[float, ...] = (1, 3)
    absent: str = "one"
    scores: np.ndarray = sum_field()
    images: np.ndarray = sum_field()

    def __post_init__(self) -> None:
        _check_absent(self.absent)
        for threshold in self.thresholds:
            threshold_radius(threshold, 1, 1)
        if len(set(map(threshold_name, self.thresholds))) != len(self.thresholds):
            raise ValueError(f"boundary thresholds must differ, got {self.thresholds}")

    def empty(self, num_classes: int) -> BoundaryF:
        """The state before the first image."""
        scores = np.zeros((num_classes, len(self.thresholds)), np.float64)
        return dataclasses.replace(self, scores=scores, images=np.zeros(num_classes, np.int64))

    def update(self, pair: Pair) -> BoundaryF:
        """The state with one more image, maps [H, W]; see `boundary_f_scores`."""
        if not self.thresholds:
            return self
        scores = _scores(pair, self.thresholds, self.absent)
        return dataclasses.replace(
            self,
            scores=self.scores + np.nan_to_num(scores, nan=0.0),
            images=self.images + ~np.isnan(scores[:, 0]),  # counted at one radius, counted at all
        )

    def compute(self) -> dict[str, Any]:
        """`boundary_f` of the set and, as arrays [K], `per_class`."""
        per_class = quotient(self.scores, self.images[:, None])
        columns = dict(zip(map(threshold_name, self.thresholds), per_class.T, strict=True))
        mean = {name: known_mean(column) for name, column in columns.items()}
        return {"boundary_f": mean, "per_class": {"boundary_f": columns}}
