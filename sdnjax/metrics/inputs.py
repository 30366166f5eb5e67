"""One image's labels and predictions, checked once for all metrics."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE

_SHOWN_VALUES = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """What a metric counts: labels and predictions that `check_pair` has found in order.

    Attributes:
      label: integers of any shape, 0…K−1 outside `void`.
      prediction: integers 0…K−1 of the same shape.
      void: bool of the same shape, the pixels that count nowhere.
      num_classes: K.
    """

    label: np.ndarray
    prediction: np.ndarray
    void: np.ndarray
    num_classes: int

    @functools.cached_property
    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Label and prediction [H, W] with K in place of the void pixels, in the narrowest
        unsigned integers: what boundaries are looked for in, made once for all metrics.

        Raises ValueError unless the pair is one map [H, W] with at least one pixel.
        """
        check_map(self.label)
        label, prediction = (
            class_codes(values, self.void, self.num_classes)
            for values in (self.label, self.prediction)
        )
        return label, prediction


def check_pair(
    label: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore: int = IGNORE,
    name: str | None = None,
) -> Pair:
    """The arrays as a `Pair`.

    Args:
      label: integers of any shape, classes 0…K−1 or `ignore`.
      prediction: integers 0…K−1 of the same shape.
      num_classes: K.
      ignore: label of the pixels that count nowhere; not a real class.
      name: the file that the label came from, for error messages.

    Raises:
      InputError: a label is neither in 0…K−1 nor `ignore`; the message names the file.
      ValueError: shapes differ, values are not integers, a prediction lies outside 0…K−1
        (below a void label too: such a map is not a prediction of these classes), or `ignore`
        is a real class.
    """
    check_classes(num_classes, ignore)
    label, prediction = np.asarray(label), np.asarray(prediction)
    for role, values in (("label", label), ("prediction", prediction)):
        if values.dtype.kind not in "iu":
            raise ValueError(f"{role} must hold integers, got {values.dtype}")
    if label.shape != prediction.shape:
        raise ValueError(
            f"label {label.shape} and prediction {prediction.shape} must have the same shape"
        )
    void = label == ignore
    strange = _outside(label, num_classes)
    if strange is not None and np.any(strange := strange & ~void):
        raise InputError(
            f"{'label map' if name is None else name}: found label {_listed(label[strange])}; "
            f"allowed are 0…{num_classes - 1} and {ignore} (ignore)"
        )
    strange = _outside(prediction, num_classes)
    if strange is not None:
        raise ValueError(
            f"prediction{'' if name is None else f' for {name}'} holds "
            f"{_listed(prediction[strange])}; allowed are 0…{num_classes - 1}"
        )
    return Pair(label, prediction, void, num_classes)


def check_classes(num_classes: int, ignore: int = IGNORE) -> None:
    """Refuse an `ignore` value that is a real class: its pixels would silently vanish.

    Raises:
      ValueError: `num_classes` is below 1, or 0 ≤ `ignore` < `num_classes`.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if 0 <= ignore < num_classes:
        raise ValueError(
            f"ignore={ignore} is a real class: classes are 0…{num_classes - 1}, "
            f"the ignore value must lie outside"
        )


def check_map(label: np.ndarray) -> None:
    """Raise ValueError unless `label` is one map [H, W] with at least one pixel."""
    if label.ndim != 2 or label.size == 0:
        raise ValueError(f"boundaries need one map [H, W] with pixels, got shape {label.shape}")


def class_codes(values: np.ndarray, void: np.ndarray, num_classes: int) -> np.ndarray:
    """`values` with K in place of the void pixels, in the narrowest unsigned integers."""
    code = np.min_scalar_type(num_classes).type
    return np.where(void, code(num_classes), values.astype(code))


def _outside(values: np.ndarray, num_classes: int) -> np.ndarray | None:
    """Mask of the values outside 0…K−1, None (two cheap passes) when there are none."""
    if values.size == 0 or (values.min() >= 0 and values.max() < num_classes):
        return None
    return (values < 0) | (values >= num_classes)


def _listed(values: np.ndarray) -> str:
    found = np.unique(values)
    tail = ", …" if found.size > _SHOWN_VALUES else ""
    return ", ".join(str(int(value)) for value in found[:_SHOWN_VALUES]) + tail
