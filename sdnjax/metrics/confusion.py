"""Confusion matrix and mean intersection over union of a whole set."""

from __future__ import annotations

import dataclasses

import numpy as np

from sdnjax.metrics.inputs import check_classes, check_pair
from sdnjax.metrics.ratios import known_mean, quotient


def confusion_matrix(
    label: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore: int = 255,
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
    label, prediction, void = check_pair(label, prediction, num_classes, ignore, name)
    seen = ~void
    cell = label[seen].astype(np.int64)
    cell *= num_classes
    cell += prediction[seen].astype(np.int64)
    counts = np.bincount(cell, minlength=num_classes * num_classes)
    return counts.astype(np.int64, copy=False).reshape(num_classes, num_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class MeanIoU:
    """mIoU and its relatives from one confusion matrix, summed over the whole set.

    With TP, FP, FN of a class counted over every image of the set:

      IoU = TP / (TP + FP + FN)            per class; mIoU is the mean over the classes present
                                           in ground truth or prediction
      accuracy = TP / (TP + FN)            per class; mean accuracy is the mean over the classes
                                           present in ground truth
      pixel accuracy = Σ TP / Σ pixels
      share = (TP + FN) / Σ pixels         of the true pixels

    Ground-truth `ignore` pixels count nowhere.

    Attributes:
      confusion: int64 [K, K], rows the truth, columns the prediction.
      ignore: the label that counts nowhere.
    """

    confusion: np.ndarray
    ignore: int

    @classmethod
    def empty(cls, num_classes: int, ignore: int = 255) -> MeanIoU:
        """The state before the first image. Raises ValueError if `ignore` is a real class."""
        check_classes(num_classes, ignore)
        return cls(np.zeros((num_classes, num_classes), np.int64), ignore)

    @property
    def num_classes(self) -> int:
        return self.confusion.shape[0]

    def update(self, label: np.ndarray, prediction: np.ndarray, name: str | None = None) -> MeanIoU:
        """The state with one more picture (or batch); arguments as in `confusion_matrix`."""
        counts = confusion_matrix(label, prediction, self.num_classes, self.ignore, name)
        return dataclasses.replace(self, confusion=self.confusion + counts)

    def merge(self, other: MeanIoU) -> MeanIoU:
        """The state of both sets together. Raises ValueError if they count different classes."""
        mine, theirs = (self.num_classes, self.ignore), (other.num_classes, other.ignore)
        if mine != theirs:
            raise ValueError(f"cannot merge (num_classes, ignore) = {mine} with {theirs}")
        return dataclasses.replace(self, confusion=self.confusion + other.confusion)

    def compute(self) -> dict[str, float | np.ndarray]:
        """Scores in 0…1: floats `mIoU`, `pixel_accuracy`, `mean_accuracy` and arrays [K] `iou`,
        `accuracy`, `share`. What is not defined (an absent class, an empty set) is NaN."""
        right = np.diagonal(self.confusion)
        true, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        iou = quotient(right, true + predicted - right)
        accuracy = quotient(right, true)
        return {
            "mIoU": known_mean(iou),
            "pixel_accuracy": float(quotient(right.sum(), true.sum())),
            "mean_accuracy": known_mean(accuracy),
            "iou": iou,
            "accuracy": accuracy,
            "share": quotient(true, true.sum()),
        }
