"""Confusion matrix and mean intersection over union of a whole set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sdnjax.metrics.inputs import IGNORE, Pair, check_pair
from sdnjax.metrics.metric import sum_field
from sdnjax.metrics.ratios import known_mean, quotient


def confusion_matrix(
    label: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore: int = IGNORE,
    name: str | None = None,
) -> np.ndarray:
    """Number of pixels of each (true class, predicted class).

    Args:
      label: integers of any shape, classes 0…K−1 or `ignore`.
      prediction: integers 0…K−1 of the same shape.
      num_classes: K.
      ignore: label of the pixels that count nowhere; not a real class.
      name: the file that the label came from, for error messages.

    Returns:
      int64 [K, K], rows the truth, columns the prediction.

    Raises:
      InputError: a label is neither in 0…K−1 nor `ignore`.
      ValueError: shapes differ, a prediction lies outside 0…K−1, `ignore` is a real class.
    """
    pair = check_pair(label, prediction, num_classes, ignore, name)
    return count_pixels(pair, ~pair.void)


def count_pixels(pair: Pair, seen: np.ndarray) -> np.ndarray:
    """int64 [K, K]: the confusion matrix of the pixels that are `seen`, none of them void."""
    num_classes = pair.num_classes
    cell = pair.label[seen].astype(np.int64)
    cell *= num_classes
    cell += pair.prediction[seen].astype(np.int64)
    counts = np.bincount(cell, minlength=num_classes * num_classes)
    return counts.astype(np.int64, copy=False).reshape(num_classes, num_classes)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """float64 […, K] of confusion matrices […, K, K]; NaN for a class in neither map."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return quotient(right, confusion.sum(axis=-1) + confusion.sum(axis=-2) - right)


@dataclasses.dataclass(frozen=True)
class MeanIoU:
    """mIoU and its relatives from one confusion matrix, summed over the whole set.

    With TP, FP, FN of a class counted over every image of the set:

      IoU = TP / (TP + FP + FN)            per class; mIoU is the mean over the classes present
                                           in ground truth or prediction
      accuracy = TP / (TP + FN)            per class; mean accuracy is the mean over the classes
                                           present in ground truth
      pixel accuracy = Σ TP / Σ pixels
      share = (TP + FN) / Σ pixels         of the true pixels

    Scores: `mIoU`, `pixel_accuracy`, `mean_accuracy`; of each class `iou`, `accuracy`, `share`.

    Attributes:
      confusion: int64 [K, K], rows the truth, columns the prediction.
    """

    confusion: np.ndarray = sum_field()

    def empty(self, num_classes: int) -> MeanIoU:
        """The state before the first image."""
        return dataclasses.replace(self, confusion=np.zeros((num_classes, num_classes), np.int64))

    def update(self, pair: Pair) -> MeanIoU:
        """The state with one more picture (or batch)."""
        counts = count_pixels(pair, ~pair.void)
        return dataclasses.replace(self, confusion=self.confusion + counts)

    def compute(self) -> dict[str, Any]:
        """Floats for the set and arrays [K] in `per_class`. What is not defined (an absent
        class, an empty set) is NaN."""
        right, true = np.diagonal(self.confusion), self.confusion.sum(axis=1)
        iou, accuracy = intersection_over_union(self.confusion), quotient(right, true)
        share = quotient(true, true.sum())
        return {
            "mIoU": known_mean(iou),
            "pixel_accuracy": float(quotient(right.sum(), true.sum())),
            "mean_accuracy": known_mean(accuracy),
            "per_class": {"iou": iou, "accuracy": accuracy, "share": share},
        }
