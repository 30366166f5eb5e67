"""Scores of semantic segmentation: streaming, exact, on the host, NumPy only.

A metric is a frozen dataclass of settings and sums with `empty`, `update` and `compute`, see
`Metric`; it never holds a prediction. It knows neither models nor data sets. `sum_field`,
`quotient` and `known_mean` serve to write one's own.
"""

from sdnjax.metrics.boundary import BoundaryF, boundary_f_scores
from sdnjax.metrics.boundary_iou import BoundaryIoU, boundary_iou_counts
from sdnjax.metrics.confusion import MeanIoU, confusion_matrix
from sdnjax.metrics.error_shares import ErrorShares
from sdnjax.metrics.inputs import Pair, check_pair
from sdnjax.metrics.metric import Metric, merged, sum_field
from sdnjax.metrics.ratios import known_mean, quotient
from sdnjax.metrics.segmentation import SegmentationMetrics
from sdnjax.metrics.table import format_table
from sdnjax.metrics.trimap import Trimap, trimap_bands

__all__ = [
    "BoundaryF",
    "BoundaryIoU",
    "ErrorShares",
    "MeanIoU",
    "Metric",
    "Pair",
    "SegmentationMetrics",
    "Trimap",
    "boundary_f_scores",
    "boundary_iou_counts",
    "check_pair",
    "confusion_matrix",
    "format_table",
    "known_mean",
    "merged",
    "quotient",
    "sum_field",
    "trimap_bands",
]
