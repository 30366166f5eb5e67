"""Error shares against a definition in words: every pixel is looked at by itself."""

import numpy as np
import pytest

from sdnjax.metrics import ErrorShares, SegmentationMetrics


def test_against_every_pixel_by_itself():
    rng = np.random.default_rng(0)
    label = np.repeat(np.repeat(rng.integers(0, 3, (3, 4)), 7, 0), 6, 1)
    label[4:6, 5:9] = 255
    prediction = np.where(rng.random(label.shape) < 0.3, rng.integers(0, 3, label.shape), label)
    prediction[label == 255] = 0
    metrics = SegmentationMetrics.empty(3, metrics=(ErrorShares((1, 3)),))
    found = metrics.update(label, prediction).update(label, prediction).compute()
    rows, columns = np.indices(label.shape)
    for width in (1, 3):
        inside = outside = banded = 0
        for y, x in zip(*np.nonzero(label != 255), strict=True):
            near = (rows - y) ** 2 + (columns - x) ** 2 <= width**2
            band, wrong = (label[near] != label[y, x]).any(), prediction[y, x] != label[y, x]
            banded += band
            inside += band and wrong
            outside += not band and wrong
        n, key = (label != 255).sum(), f"{width}px"
        assert found["error_inside"][key] == pytest.approx(inside / n, abs=1e-12)
        assert found["error_outside"][key] == pytest.approx(outside / n, abs=1e-12)
        assert found["band_share"][key] == pytest.approx(banded / n, abs=1e-12)
        total = found["error_inside"][key] + found["error_outside"][key]
        assert total == pytest.approx(1 - found["pixel_accuracy"], abs=1e-12)
    with pytest.raises(ValueError, match="different whole pixels"):
        ErrorShares((3, 3))
