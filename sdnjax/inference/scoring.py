"""Scores of a network over a data set, image by image, in flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from sdnjax.errors import InputError
from sdnjax.inference.canvas import canvas_offset
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.metrics import SegmentationMetrics


class LabelledImage(Protocol):
    """What is evaluated: `image [H, W, 3]` uint8, `label [H, W]` of 0…K−1 and 255, a name."""

    @property
    def image(self) -> np.ndarray: ...
    @property
    def label(self) -> np.ndarray: ...
    @property
    def name(self) -> str: ...


def evaluate(
    predictor: Predictor,
    variables: Any,
    examples: Iterable[LabelledImage],
    *,
    num_classes: int,
    protocol: Evaluation,
) -> SegmentationMetrics:
    """The sums of all processes' examples; `compute()` makes scores of them.

    Args:
      predictor: made for `protocol`.
      variables: the network's; placed on the predictor's devices here.
      examples: this process's share of the data set; what the network asks for beside the image,
        `superpixels`, they have as an attribute.
      num_classes: K.

    Raises: InputError if there is no example, or one lacks what the network asks for.
    """
    metrics = empty_metrics(num_classes, protocol)
    variables = predictor.place(variables)
    for group in groups_of_one_size(examples, protocol.batch_size):
        extras = [extras_of(e, predictor.extras) for e in group]
        check_canvas(group[0].image.shape[:2], protocol, group[0].name)
        predictions = predictor.labels(variables, [e.image for e in group], extras)
        for example, prediction in zip(group, predictions, strict=True):
            metrics = metrics.update(example.label, prediction, example.name)
    if jax.process_count() > 1:
        metrics = metrics.with_arrays(
            {k: sum_over_processes(v) for k, v in metrics.arrays().items()}
        )
    if metrics.images == 0:
        raise InputError("evaluation saw no readable image: is the split empty?")
    return metrics


def empty_metrics(num_classes: int, protocol: Evaluation) -> SegmentationMetrics:
    """The metrics that a protocol asks for, with nothing counted yet."""
    return SegmentationMetrics.empty(
        num_classes,
        boundary_thresholds=tuple(
            int(t) if float(t).is_integer() else t for t in protocol.boundary_thresholds
        ),
        boundary_absent=protocol.boundary_absent,
        boundary_iou_ratio=protocol.boundary_iou_ratio,
        trimap_widths=protocol.trimap_widths,
        metrics=protocol.metrics,
    )


def check_canvas(size: tuple[int, int], protocol: Evaluation, name: str) -> None:
    """Raises InputError that names a picture which the protocol's canvas does not hold."""
    try:
        if protocol.canvas is not None:
            canvas_offset(size, protocol.canvas)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def extras_of(example: LabelledImage, names: Iterable[str]) -> dict[str, np.ndarray]:
    """What a network asks for by `names`. Raises InputError that names the example without it."""
    extras: dict[str, np.ndarray] = {}
    for name in names:
        value = getattr(example, name, None)
        if value is None:
            raise InputError(f"{example.name} has no {name}, which the network needs")
        extras[name] = value
    return extras


def sum_over_processes(array: np.ndarray) -> np.ndarray:
    """The sum of every process's array, as exact as NumPy's.

    It travels as bytes: JAX without x64 would cut 64-bit counts to 32 bits.
    """
    raw = np.frombuffer(array.tobytes(), np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(raw))
    rows = [np.frombuffer(row.tobytes(), array.dtype).reshape(array.shape) for row in gathered]
    return np.sum(rows, axis=0, dtype=array.dtype)


def groups_of_one_size(
    examples: Iterable[LabelledImage], size: int
) -> Iterator[list[LabelledImage]]:
    """Consecutive examples of one image size, at most `size` at a time."""
    group: list[LabelledImage] = []
    for example in examples:
        if group and (len(group) == size or group[0].image.shape != example.image.shape):
            yield group
            group = []
        group.append(example)
    if group:
        yield group
