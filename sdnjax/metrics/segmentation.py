"""All scores of a segmentation model in one streaming state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdnjax.metrics.boundary import BoundaryF
from sdnjax.metrics.boundary_iou import BoundaryIoU
from sdnjax.metrics.confusion import MeanIoU
from sdnjax.metrics.inputs import IGNORE, check_classes, check_map, check_pair
from sdnjax.metrics.metric import Metric, counted, merged, name_of, started, sums_of, with_sums
from sdnjax.metrics.trimap import Trimap


def library_metrics(
    boundary_thresholds: Sequence[float] = (1, 3),
    boundary_absent: str = "one",
    boundary_iou_ratio: float | None = None,
    trimap_widths: Sequence[int] = (),
) -> list[Metric]:
    """The library's own metrics, in the order of their results. Raises ValueError for settings
    that make no sense."""
    chosen: list[Metric] = [MeanIoU(), BoundaryF(tuple(boundary_thresholds), boundary_absent)]
    if boundary_iou_ratio is not None:
        chosen.append(BoundaryIoU(boundary_iou_ratio))
    if trimap_widths:
        chosen.append(Trimap(tuple(trimap_widths)))
    return chosen


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationMetrics:
    """mIoU, boundary F-measure and whatever else is asked for, of a set of images.

    Holds sums only, so its size does not grow with the set; states of disjoint parts add up to
    the state of the whole. Counts are int64 and exact; sums of F are float64.

        metrics = SegmentationMetrics.empty(num_classes=19)
        for label, prediction, name in pictures:
            metrics = metrics.update(label, prediction, name)
        results = metrics.compute()

    Attributes:
      states: name → what a metric has counted; `metrics["MeanIoU"].confusion` reads one.
      images: int64 [], how many.
      num_classes: K.
      ignore: label that counts nowhere.
    """

    states: dict[str, Metric]
    images: np.ndarray
    num_classes: int
    ignore: int

    @classmethod
    def empty(
        cls,
        num_classes: int,
        boundary_thresholds: Sequence[float] = (1, 3),
        boundary_absent: str = "one",
        boundary_iou_ratio: float | None = None,
        *,
        trimap_widths: Sequence[int] = (),
        metrics: Sequence[Metric] = (),
        ignore: int = IGNORE,
    ) -> SegmentationMetrics:
        """The state before the first image.

        Args:
          num_classes: K.
          boundary_thresholds: pixels (whole numbers) or parts of the diagonal (below 1); none
            are needed.
          boundary_absent: `"one"` or `"skip"`, see `boundary_f_scores`.
          boundary_iou_ratio: band of the boundary IoU in parts of the diagonal (0.02; 0.005 on
            Cityscapes); None leaves it out.
          trimap_widths: pixels to each side of the true boundaries, see `Trimap`.
          metrics: others, your own, see `Metric`.
          ignore: label that counts nowhere; not a real class.

        Raises:
          ValueError: a setting that makes no sense, two metrics of one name.
        """
        check_classes(num_classes, ignore)
        chosen = library_metrics(
            boundary_thresholds, boundary_absent, boundary_iou_ratio, trimap_widths
        )
        states: dict[str, Metric] = {}
        for metric in (*chosen, *metrics):
            _put(states, name_of(metric), started(metric, num_classes), "two metrics are named")
        return cls(states, np.zeros((), np.int64), num_classes, ignore)

    def __getitem__(self, name: str) -> Any:
        return self.states[name]

    def update(
        self, label: np.ndarray, prediction: np.ndarray, name: str | None = None
    ) -> SegmentationMetrics:
        """The state with one more image.

        Args:
          label: integers [H, W], classes 0…K−1 or `ignore`.
          prediction: integers [H, W] in 0…K−1.
          name: the file that the label came from, for error messages.

        Raises:
          InputError: a label is neither in 0…K−1 nor `ignore`; the message names the file.
          ValueError: shapes differ or are not [H, W], a prediction outside 0…K−1.
        """
        pair = check_pair(label, prediction, self.num_classes, self.ignore, name)
        check_map(pair.label)
        states = {key: counted(state, pair) for key, state in self.states.items()}
        return dataclasses.replace(self, states=states, images=self.images + np.ones((), np.int64))

    def merge(self, other: SegmentationMetrics) -> SegmentationMetrics:
        """The state of both sets together. Raises ValueError if their settings differ."""
        mine, theirs = ((m.num_classes, m.ignore, sorted(m.states)) for m in (self, other))
        if mine != theirs:
            raise ValueError(f"cannot merge (num_classes, ignore, metrics) = {mine} with {theirs}")
        states = {key: merged(state, other.states[key]) for key, state in self.states.items()}
        return dataclasses.replace(self, states=states, images=self.images + other.images)

    def arrays(self) -> dict[str, np.ndarray]:
        """The sums by name, all that has to be added up across processes.

        They are 64-bit: JAX's collectives would round them to 32 bits unless x64 is enabled, so
        send them as bytes or enable it. `with_arrays` refuses what came back narrower.
        """
        arrays = {
            f"{name}.{field}": value
            for name, state in self.states.items()
            for field, value in sums_of(state).items()
        }
        return arrays | {"images": np.asarray(self.images)}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> SegmentationMetrics:
        """The same metrics with these sums, named as `arrays` names them.

        Raises:
          ValueError: names, shapes or dtypes are not those of `arrays()`.
        """
        sums = {name: np.asarray(value) for name, value in arrays.items()}
        wanted = {name: (value.shape, str(value.dtype)) for name, value in self.arrays().items()}
        given = {name: (value.shape, str(value.dtype)) for name, value in sums.items()}
        if given != wanted:
            raise ValueError(f"sums must be {wanted}, got {given}")
        states = {
            name: with_sums(state, {field: sums[f"{name}.{field}"] for field in sums_of(state)})
            for name, state in self.states.items()
        }
        return dataclasses.replace(self, states=states, images=sums["images"])

    def compute(self) -> dict[str, Any]:
        """The scores as plain Python values, ready for JSON: scores and shares in 0…1, None
        for what is not defined.

        Keys: `mIoU`, `pixel_accuracy`, `mean_accuracy`, `boundary_f` ({`1px`: …}; a part of the
        diagonal is named like `0.0075diagonal`), `boundary_iou` and `trimap_iou` ({`1px`: …}) if
        asked for, what metrics of one's own give, `images`, and `per_class`, a list of {`class`,
        `iou`, `accuracy`, `share`, `boundary_f`, `boundary_iou` and `trimap_iou` if asked for, …}.

        Raises: ValueError if two metrics give scores of one name, or not K of them per class.
        """
        results: dict[str, Any] = {"images": int(self.images)}
        columns: dict[str, Any] = {"class": range(self.num_classes)}
        for name, state in self.states.items():
            scores = dict(state.compute())
            for key, column in scores.pop("per_class", {}).items():
                self._check_column(column, f"{name}: {key}")
                _put(columns, key, column, f"{name}: there is another column")
            for key, score in scores.items():
                _put(results, key, _plain(score), f"{name}: there is another score")
        del columns["class"]
        per_class = [
            {"class": k} | {key: _plain(_row(column, k)) for key, column in columns.items()}
            for k in range(self.num_classes)
        ]
        images = results.pop("images")  # first, so that no metric could take the name; last to read
        return results | {"images": images, "per_class": per_class}

    def _check_column(self, column: Any, where: str) -> None:
        for values in column.values() if isinstance(column, Mapping) else (column,):
            if np.shape(values) != (self.num_classes,):
                raise ValueError(
                    f"{where} must have a value for each of {self.num_classes} classes, "
                    f"got shape {np.shape(values)}"
                )


def _put(table: dict[str, Any], key: str, value: Any, complaint: str) -> None:
    if key in table:
        raise ValueError(f"{complaint} {key!r}")
    table[key] = value


def _row(column: Any, k: int) -> Any:
    """One class's entry of a column, or of each of several columns."""
    return {n: v[k] for n, v in column.items()} if isinstance(column, Mapping) else column[k]


def _plain(score: Any) -> Any:
    """A score, or scores by name, as JSON has them."""
    if isinstance(score, Mapping):
        return {name: _plain(value) for name, value in score.items()}
    return None if math.isnan(score) else float(score)
