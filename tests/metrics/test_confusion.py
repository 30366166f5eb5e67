"""Confusion matrix and mIoU against hand-counted cases and a loop over pixels."""

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.metrics import (
    MeanIoU,
    SegmentationMetrics,
    check_pair,
    confusion_matrix,
    merged,
)
from tests.metrics.definitions import blobs, slow_confusion


def test_rows_are_truth_and_columns_prediction():
    label = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    prediction = np.array([[0, 1, 1], [1, 0, 2]], np.int32)
    counts = confusion_matrix(label, prediction, 3)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 2, 0], [1, 0, 0]])


@pytest.mark.parametrize("label_type", [np.uint8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("prediction_type", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("num_classes", [2, 19, 150])
def test_equals_counting_pixels(num_classes, label_type, prediction_type):
    label, prediction = blobs(num_classes, 13, 17, num_classes, void=0.2)
    assert (label == 255).any()
    np.testing.assert_array_equal(
        confusion_matrix(label.astype(label_type), prediction.astype(prediction_type), num_classes),
        slow_confusion(label, prediction, num_classes),
    )


def test_other_ignore_values():
    label, prediction = np.array([0, -1, 1, -1]), np.array([0, 1, 0, 0])
    np.testing.assert_array_equal(confusion_matrix(label, prediction, 2, -1), [[1, 0], [1, 0]])
    label = np.array([0, 299, 65535], np.uint16)
    counts = confusion_matrix(label, np.array([0, 299, 5], np.int32), 300, 65535)
    assert counts[0, 0] == counts[299, 299] == 1
    assert counts.sum() == 2


def test_scores_of_a_hand_counted_set():
    # truth: 6 of class 0, 2 of class 1, none of 2 and 3; 3 is predicted once, 2 never
    label = np.array([0, 0, 0, 0, 0, 0, 1, 1, 255])
    prediction = np.array([0, 0, 0, 0, 1, 3, 1, 0, 1])
    scores = MeanIoU().empty(4).update(check_pair(label, prediction, 4)).compute()
    scores |= scores.pop("per_class")
    np.testing.assert_allclose(scores["iou"], [4 / 7, 1 / 3, np.nan, 0])
    np.testing.assert_allclose(scores["accuracy"], [4 / 6, 1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(scores["share"], [6 / 8, 2 / 8, 0, 0])
    assert scores["mIoU"] == pytest.approx((4 / 7 + 1 / 3 + 0) / 3)
    assert scores["mean_accuracy"] == pytest.approx((4 / 6 + 1 / 2) / 2)
    assert scores["pixel_accuracy"] == pytest.approx(5 / 8)


def test_streaming_merging_and_all_at_once_agree_exactly():
    maps = [blobs(seed, 11, 9, 5, void=0.1) for seed in range(6)]
    pairs = [check_pair(*each, 5) for each in maps]
    start = MeanIoU().empty(5)
    states = [start]
    for pair in pairs:
        states.append(states[-1].update(pair))
    halves = []
    for part in (pairs[:2], pairs[2:]):
        half = start
        for pair in part:
            half = half.update(pair)
        halves.append(half)
    together = start.update(check_pair(*(np.stack(each) for each in zip(*maps, strict=True)), 5))
    np.testing.assert_array_equal(states[-1].confusion, together.confusion)
    np.testing.assert_array_equal(merged(*halves).confusion, together.confusion)
    assert start.confusion.sum() == 0, "an update must not write into the state it started from"
    assert together.compute()["mIoU"] == states[-1].compute()["mIoU"]


def test_nothing_seen_is_nan_without_a_warning():
    pair = check_pair(np.full((2, 2), 255), np.zeros((2, 2), int), 3)
    scores = MeanIoU().empty(3).update(pair).compute()
    scores |= scores.pop("per_class")
    assert len(scores) == 6
    assert all(np.isnan(scores[key]).all() for key in scores)


def test_strange_label_names_file_value_and_range():
    label = np.array([[0, 33], [19, 255]])
    with pytest.raises(InputError) as caught:
        confusion_matrix(label, np.zeros((2, 2), int), 19, name="gt/frankfurt_000.png")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("gt/frankfurt_000.png", "19, 33;", "0…18", "255"):
        assert part in message
    with pytest.raises(InputError, match="-1"):
        confusion_matrix(np.array([-1, 0]), np.array([0, 0]), 19)
    with pytest.raises(InputError, match="label 7, 8, 9, 10, 11, 12, 13, 14, …; allowed"):
        confusion_matrix(np.arange(100), np.zeros(100, int), 7)


def test_mistakes_of_the_caller():
    two = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match="ignore=18 is a real class: classes are 0…18"):
        SegmentationMetrics.empty(19, ignore=18)
    with pytest.raises(ValueError, match="ignore=0 is a real class"):
        confusion_matrix(two, two, 19, ignore=0)
    with pytest.raises(ValueError, match=r"\(2, 3\) and prediction \(3, 2\)"):
        confusion_matrix(two, two.T, 19)
    with pytest.raises(ValueError, match=r"prediction for a\.png holds 19; allowed are 0…18"):
        confusion_matrix(two, two + 19, 19, name="a.png")
    with pytest.raises(ValueError, match="prediction holds -1"):
        confusion_matrix(two, two - 1, 19)
    with pytest.raises(ValueError, match="prediction must hold integers, got float64"):
        confusion_matrix(two, two * 0.5, 19)
    with pytest.raises(ValueError, match="at least 1"):
        SegmentationMetrics.empty(0)
    with pytest.raises(ValueError, match="cannot merge"):
        merged(MeanIoU().empty(3), MeanIoU().empty(4))
    with pytest.raises(ValueError, match="cannot merge"):
        SegmentationMetrics.empty(3).merge(SegmentationMetrics.empty(3, ignore=-1))
