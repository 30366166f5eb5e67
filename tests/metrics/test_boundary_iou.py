"""Boundary IoU against hand-counted cases and the definition in loops."""

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.metrics import BoundaryIoU, boundary_iou_counts, check_pair, merged
from sdnjax.metrics.boundary_iou import band_width, boundary_band
from tests.metrics.definitions import blobs, slow_boundary_iou


def test_band_of_a_full_image_is_its_border():
    full = np.zeros((6, 7), np.uint8)
    band = boundary_band(full, 2)
    wanted = np.ones((6, 7), bool)
    wanted[2:4, 2:5] = False
    np.testing.assert_array_equal(band, wanted)
    assert boundary_band(full, 3).all()
    assert np.argwhere(~boundary_band(full[:5, :5], 2)).tolist() == [[2, 2]]


def test_hand_counted_squares():
    label, prediction = np.zeros((10, 10), int), np.zeros((10, 10), int)
    label[2:7, 2:7] = 1  # a ring of 16 pixels at d = 1
    prediction[2:7, 3:8] = 1  # the same ring, one column further
    assert band_width(0.02, 10, 10) == 1
    intersection, union = boundary_iou_counts(label, prediction, 2)
    # rings meet in 4 columns of the top and bottom rows; nowhere along the sides
    assert intersection[1] == 8
    assert union[1] == 16 + 16 - 8


@pytest.mark.parametrize("ratio", [0.01, 0.07, 0.15, 0.4])
@pytest.mark.parametrize(
    ("height", "width", "num_classes", "void", "block"),
    [
        (13, 17, 3, 0.0, 6),
        (17, 13, 3, 0.1, 5),
        (1, 1, 2, 0.0, 1),
        (1, 8, 2, 0.2, 3),
        (14, 14, 70, 0.1, 3),
    ],
)
def test_equals_the_definition(*, height, width, num_classes, void, block, ratio):
    label, prediction = blobs(
        height, height, width, num_classes, void=void, block=block, noise=0.03
    )
    intersection, union = boundary_iou_counts(
        label.astype(np.uint8), prediction, num_classes, ratio
    )
    wanted = [slow_boundary_iou(label, prediction, index, ratio) for index in range(num_classes)]
    assert list(zip(intersection.tolist(), union.tolist(), strict=True)) == wanted


def test_more_classes_than_a_byte_holds():
    label = np.arange(300, dtype=np.uint16).reshape(15, 20)
    label[0] = 65535
    prediction = np.arange(300, dtype=np.int32).reshape(15, 20)[:, ::-1]
    intersection, union = boundary_iou_counts(label, prediction, 300, ignore=65535)
    assert union[:20].sum() == 0
    assert (union[20:] == 2).all()
    assert intersection.sum() == 0


def test_width_of_the_band():
    assert band_width(0.02, 3, 4) == 1
    assert band_width(0.02, 1024, 2048) == 46  # 45.8
    assert band_width(0.005, 1024, 2048) == 11  # 11.4


def test_set_sums_before_it_divides_and_merges():
    maps = [blobs(seed, 13, 11, 4, void=0.1, block=5) for seed in range(4)]
    start = BoundaryIoU(0.1).empty(6)
    whole, first, second = start, start, start
    for index, pair in enumerate(check_pair(*each, 6) for each in maps):
        whole = whole.update(pair)
        if index % 2:
            first = first.update(pair)
        else:
            second = second.update(pair)
    counts = np.array(
        [[slow_boundary_iou(*pair, index, 0.1) for index in range(6)] for pair in maps]
    )
    sums = counts.sum(axis=0)
    result = whole.compute()
    per_class = result["per_class"]["boundary_iou"]
    np.testing.assert_allclose(per_class[:4], sums[:4, 0] / sums[:4, 1])
    assert np.isnan(per_class[4:]).all()
    assert result["boundary_iou"] == pytest.approx((sums[:4, 0] / sums[:4, 1]).mean())
    together = merged(first, second)
    np.testing.assert_array_equal(together.intersections, whole.intersections)
    np.testing.assert_array_equal(together.unions, whole.unions)
    assert start.unions.sum() == 0


def test_mistakes():
    flat = np.zeros((3, 4), int)
    with pytest.raises(InputError, match=r"b\.png: found label 2"):
        boundary_iou_counts(flat + 2, flat, 2, name="b.png")
    with pytest.raises(ValueError, match=r"one map \[H, W\]"):
        boundary_iou_counts(flat[None], flat[None], 2)
    with pytest.raises(ValueError, match="real class"):
        check_pair(flat, flat, 3, ignore=1)
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="ratio must lie"):
            BoundaryIoU(wrong)
    with pytest.raises(ValueError, match="cannot merge"):
        merged(BoundaryIoU(0.02).empty(3), BoundaryIoU(0.005).empty(3))
