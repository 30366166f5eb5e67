"""Scores of semantic segmentation: streaming, exact, on the host, NumPy only.

A metric is a frozen dataclass of sums with `empty`, `update`, `merge` and `compute`; it never
holds a prediction. It knows neither models nor data sets.
"""

from sdnjax.metrics.boundary import BoundaryF, boundary_f_scores
from sdnjax.metrics.boundary_iou import BoundaryIoU, boundary_iou_counts
from sdnjax.metrics.confusion import MeanIoU, confusion_matrix
from sdnjax.metrics.segmentation import SegmentationMetrics
from sdnjax.metrics.table import format_table
from sdnjax.metrics.trimap import Trimap, trimap_bands

__all__ = [
    "BoundaryF",
    "BoundaryIoU",
    "MeanIoU",
    "SegmentationMetrics",
    "Trimap",
    "boundary_f_scores",
    "boundary_iou_counts",
    "confusion_matrix",
    "format_table",
    "trimap_bands",
]
