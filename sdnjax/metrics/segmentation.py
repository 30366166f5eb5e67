"""All scores of a segmentation model in one streaming state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from sdnjax.metrics.boundary import BoundaryF, threshold_name
from sdnjax.metrics.boundary_iou import BoundaryIoU
from sdnjax.metrics.confusion import MeanIoU
from sdnjax.metrics.trimap import Trimap


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationMetrics:
    """mIoU, boundary F-measure and, if asked, boundary IoU and trimap mIoU of a set of images.

    Holds sums only, so its size does not grow with the set; states of disjoint parts add up to
    the state of the whole. Counts are int64 and exact; sums of F are float64.

        metrics = SegmentationMetrics.empty(num_classes=19)
        for label, prediction, name in pictures:
            metrics = metrics.update(label, prediction, name)
        results = metrics.compute()
    """

    regions: MeanIoU
    boundary_f: BoundaryF
    boundary_iou: BoundaryIoU | None
    trimap: Trimap
    images: np.ndarray  # int64 []

    @classmethod
    def empty(
        cls,
        num_classes: int,
        boundary_thresholds: Sequence[float] = (1, 3),
        boundary_absent: str = "one",
        boundary_iou_ratio: float | None = None,
        *,
        trimap_widths: Sequence[int] = (),
        ignore: int = 255,
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
          ignore: label that counts nowhere; not a real class.

        Raises:
          ValueError: a setting that makes no sense.
        """
        band = boundary_iou_ratio
        return cls(
            MeanIoU.empty(num_classes, ignore),
            BoundaryF.empty(num_classes, boundary_thresholds, boundary_absent, ignore),
            None if band is None else BoundaryIoU.empty(num_classes, band, ignore),
            Trimap.empty(num_classes, trimap_widths, ignore),
            np.zeros((), np.int64),
        )

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
        band = self.boundary_iou
        return SegmentationMetrics(
            self.regions.update(label, prediction, name),
            self.boundary_f.update(label, prediction, name),
            None if band is None else band.update(label, prediction, name),
            self.trimap.update(label, prediction, name),
            self.images + np.ones((), np.int64),
        )

    def merge(self, other: SegmentationMetrics) -> SegmentationMetrics:
        """The state of both sets together. Raises ValueError if their settings differ."""
        if (self.boundary_iou is None) != (other.boundary_iou is None):
            raise ValueError("cannot merge metrics with and without boundary IoU")
        band = self.boundary_iou
        return SegmentationMetrics(
            self.regions.merge(other.regions),
            self.boundary_f.merge(other.boundary_f),
            None if band is None else band.merge(other.boundary_iou),
            self.trimap.merge(other.trimap),
            self.images + other.images,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The sums by name, all that has to be added up across processes.

        They are 64-bit: JAX's collectives would round them to 32 bits unless x64 is enabled, so
        send them as bytes or enable it. `with_arrays` refuses what came back narrower.
        """
        arrays = {
            "confusion": self.regions.confusion,
            "boundary_f_scores": self.boundary_f.scores,
            "boundary_f_images": self.boundary_f.images,
            "images": self.images,
        }
        if self.boundary_iou is not None:
            arrays["boundary_iou_intersections"] = self.boundary_iou.intersections
            arrays["boundary_iou_unions"] = self.boundary_iou.unions
        for width, regions in zip(self.trimap.widths, self.trimap.regions, strict=True):
            arrays[f"trimap_{width}px"] = regions.confusion
        return arrays

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
        band = self.boundary_iou
        inside = (
            dataclasses.replace(regions, confusion=sums[f"trimap_{width}px"])
            for width, regions in zip(self.trimap.widths, self.trimap.regions, strict=True)
        )
        return SegmentationMetrics(
            dataclasses.replace(self.regions, confusion=sums["confusion"]),
            dataclasses.replace(
                self.boundary_f,
                scores=sums["boundary_f_scores"],
                images=sums["boundary_f_images"],
            ),
            None
            if band is None
            else dataclasses.replace(
                band,
                intersections=sums["boundary_iou_intersections"],
                unions=sums["boundary_iou_unions"],
            ),
            dataclasses.replace(self.trimap, regions=tuple(inside)),
            sums["images"],
        )

    def compute(self) -> dict:
        """The scores as plain Python values, ready for JSON: scores and shares in 0…1, None
        for what is not defined.

        Keys: `mIoU`, `pixel_accuracy`, `mean_accuracy`, `boundary_f` ({`1px`: …}; a part of the
        diagonal is named like `0.0075diagonal`), `boundary_iou` and `trimap_iou` ({`1px`: …}) if
        asked for, `images`, and `per_class`, a list of {`class`, `iou`, `accuracy`, `share`,
        `boundary_f`, `boundary_iou` and `trimap_iou` if asked for}.
        """
        regions, edges = self.regions.compute(), self.boundary_f.compute()
        names = [threshold_name(threshold) for threshold in self.boundary_f.thresholds]

        def named(values: np.ndarray) -> dict[str, float | None]:
            return {name: _plain(value) for name, value in zip(names, values, strict=True)}

        results: dict = {
            key: _plain(regions[key]) for key in ("mIoU", "pixel_accuracy", "mean_accuracy")
        }
        results["boundary_f"] = named(edges["mean"])
        per_class: list[dict] = [
            {
                "class": index,
                **{key: _plain(regions[key][index]) for key in ("iou", "accuracy", "share")},
                "boundary_f": named(edges["per_class"][index]),
            }
            for index in range(self.regions.num_classes)
        ]
        if self.boundary_iou is not None:
            bands = self.boundary_iou.compute()
            results["boundary_iou"] = _plain(bands["mean"])
            for entry, value in zip(per_class, bands["per_class"], strict=True):
                entry["boundary_iou"] = _plain(value)
        if self.trimap.widths:
            inside = self.trimap.compute()
            widths = [f"{width}px" for width in self.trimap.widths]
            for entry, values in zip(
                (results, *per_class), (inside["mean"], *inside["per_class"]), strict=True
            ):
                entry["trimap_iou"] = dict(zip(widths, map(_plain, values), strict=True))
        results["images"] = int(self.images)
        results["per_class"] = per_class
        return results


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
