"""Dense CRFs: mean field inference over filters of positions and colours.

`mean_field` is the classical one, `crf_rnn` the one with learnt matrices; both take any filters.
"""

from sdnjax.ops.crf.filters import (
    Filter,
    bilateral_features,
    exact_filter,
    normalized,
    permutohedral_filter,
    position_features,
    separable_filter,
)
from sdnjax.ops.crf.lattice_index import PermutohedralIndex, bucket, build_index
from sdnjax.ops.crf.mean_field import crf_rnn, mean_field

__all__ = [
    "Filter",
    "PermutohedralIndex",
    "bilateral_features",
    "bucket",
    "build_index",
    "crf_rnn",
    "exact_filter",
    "mean_field",
    "normalized",
    "permutohedral_filter",
    "position_features",
    "separable_filter",
]
