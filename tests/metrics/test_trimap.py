"""Trimap bands against distance transforms of every class."""

import numpy as np
import pytest
from scipy import ndimage

from sdnjax.errors import InputError
from sdnjax.metrics import (
    SegmentationMetrics,
    Trimap,
    check_pair,
    confusion_matrix,
    format_table,
    merged,
    trimap_bands,
)
from tests.metrics.definitions import blobs


def slow_band(codes, width):
    """Pixels whose distance to the nearest pixel of any other value is at most `width`."""
    band = np.zeros(codes.shape, bool)
    for value in np.unique(codes):
        own = codes == value
        if not own.all():
            band |= own & (ndimage.distance_transform_edt(own) <= width)
    return band


@pytest.mark.parametrize("size", [(41, 57), (1, 30), (30, 1), (5, 200), (2, 2)])
@pytest.mark.parametrize("widths", [(1,), (2, 5), (40, 3, 1)])
def test_bands_are_those_of_distance_transforms(size, widths):
    label, _ = blobs(3, *size, 6, void=0.1, block=7)
    found = trimap_bands(label, widths)
    for band, width in zip(found, widths, strict=True):
        np.testing.assert_array_equal(band, slow_band(label, width))
    assert size != (41, 57) or not found[-1].all()


def test_one_value_has_no_band():
    assert not trimap_bands(np.full((6, 7), 3), (1, 50))[1].any()
    assert trimap_bands(np.zeros((3, 3), np.uint8), ()) == []


def test_a_straight_edge_has_so_many_pixels_to_each_side():
    label = np.zeros((4, 40), np.uint8)
    label[:, 20:] = 1
    for width, band in zip((1, 3), trimap_bands(label, (1, 3)), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(band[0]), np.arange(20 - width, 20 + width))


def test_scores_are_those_inside_the_bands():
    pairs = [blobs(seed, 30, 45, 5, void=0.1) for seed in range(3)]
    metrics = SegmentationMetrics.empty(5, (), trimap_widths=(1, 4))
    for label, prediction in pairs:
        metrics = metrics.update(label, prediction)
    results = metrics.compute()
    for width in (1, 4):
        confusion = sum(
            confusion_matrix(np.where(slow_band(label, width), label, 255), prediction, 5)
            for label, prediction in pairs
        )
        right = np.diag(confusion)
        iou = right / (confusion.sum(0) + confusion.sum(1) - right)
        assert results["trimap_iou"][f"{width}px"] == pytest.approx(iou.mean(), rel=1e-14)
        found = [entry["trimap_iou"][f"{width}px"] for entry in results["per_class"]]
        assert found == pytest.approx(iou, rel=1e-14)
    assert results["trimap_iou"]["1px"] < results["mIoU"]
    table = format_table(results, list("abcde")).split("\n")
    assert table[0].endswith("IoU within 1px  IoU within 4px")
    assert f"mIoU within 4px {100 * results['trimap_iou']['4px']:.2f}" in table[-1]


def test_void_is_a_boundary_and_counts_nowhere():
    label = np.zeros((1, 9), np.uint8)
    label[0, 4] = 255
    prediction = np.zeros_like(label)
    trimap = Trimap((1,)).empty(2).update(check_pair(label, prediction, 2))
    np.testing.assert_array_equal(trimap.confusion, [[[2, 0], [0, 0]]])
    assert np.isnan(trimap.compute()["per_class"]["trimap_iou"]["1px"][1])


def test_parts_add_up_to_the_whole():
    start = SegmentationMetrics.empty(5, trimap_widths=(2, 3))
    a, b = (start.update(*blobs(seed, 20, 20, 5, void=0.1)) for seed in (0, 1))
    whole = a.update(*blobs(1, 20, 20, 5, void=0.1))
    sums = {name: a.arrays()[name] + b.arrays()[name] for name in a.arrays()}
    assert sums["Trimap.confusion"].shape == (2, 5, 5)
    assert start.with_arrays(sums).compute() == a.merge(b).compute() == whole.compute()
    assert "trimap_iou" not in SegmentationMetrics.empty(5).compute()


def test_mistakes():
    with pytest.raises(ValueError, match="different whole pixels"):
        Trimap((1, 1))
    with pytest.raises(ValueError, match="different whole pixels"):
        Trimap((0.5,))
    with pytest.raises(ValueError, match=r"cannot merge Trimap\(widths=\(1,\)\)"):
        merged(Trimap((1,)).empty(3), Trimap((2,)).empty(3))
    with pytest.raises(InputError, match=r"a\.png: found label 9"):
        SegmentationMetrics.empty(3, trimap_widths=(1,)).update(
            np.full((2, 2), 9), np.zeros((2, 2), int), "a.png"
        )
