"""The boundary F-measure with scikit-image's dilations, class by class."""

import warnings

import numpy as np
import pytest

from sdnjax.metrics import boundary_f_scores
from tests.metrics.definitions import blobs

morphology = pytest.importorskip("skimage.morphology")


def boundary(mask):
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, corner = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    edges = (mask != right) | (mask != below)
    edges[:-1, :-1] |= (mask != corner)[:-1, :-1]
    return edges


@pytest.mark.parametrize("radius", [1, 3, 6])
def test_scores_equal_those_of_scikit_image(radius):
    label, prediction = blobs(1, 120, 160, 19, void=0.1, block=9, noise=0.01)
    found = boundary_f_scores(label, prediction, 20, (radius,))[:, 0]
    void = label == 255
    for k in range(20):
        ours, true = (boundary((m == k) & ~void) for m in (prediction, label))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-image renames its functions
            near_ours, near_true = (
                morphology.binary_dilation(e, morphology.disk(radius)) for e in (ours, true)
            )
        if ours.any() and true.any():
            p, r = (ours & near_true).sum() / ours.sum(), (true & near_ours).sum() / true.sum()
            expected = 2 * p * r / (p + r) if p + r else 0.0
        else:
            expected = float(not ours.any() and not true.any())
        assert found[k] == pytest.approx(expected, rel=1e-12)
