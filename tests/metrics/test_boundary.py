"""Boundary F-measure against hand-counted cases and the definition in loops."""

import math

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.metrics import BoundaryF, boundary_f_scores, check_pair, merged
from sdnjax.metrics.boundary import threshold_radius
from sdnjax.metrics.class_bits import boundary_words, dilated_at
from tests.metrics.definitions import blobs, slow_boundary, slow_boundary_f


def slow_scores(label, prediction, num_classes, thresholds, absent):
    both_empty = 1.0 if absent == "one" else math.nan
    scores = np.empty((num_classes, len(thresholds)))
    for index in range(num_classes):
        for column, threshold in enumerate(thresholds):
            f = slow_boundary_f(label, prediction, index, threshold)
            scores[index, column] = both_empty if f is None else f
    return scores


@pytest.mark.parametrize(
    ("pixel", "boundary"),
    [
        ((1, 1), [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ((0, 0), [(0, 0)]),
        ((0, 2), [(0, 1), (0, 2)]),
        ((2, 0), [(1, 0), (2, 0)]),
        ((2, 3), [(1, 2), (1, 3), (2, 2)]),  # the corner itself compares with nothing
    ],
)
def test_boundary_of_a_single_pixel(pixel, boundary):
    mask = np.zeros((3, 4), np.uint8)
    mask[pixel] = 1
    assert sorted(zip(*np.nonzero(boundary_words(mask)), strict=True)) == boundary


def test_the_image_border_is_no_boundary():
    assert not boundary_words(np.ones((3, 5), np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (13, 17)])
def test_boundary_words_hold_the_boundary_of_every_mask(shape):
    words = np.random.default_rng(0).integers(0, 16, shape).astype(np.uint8)
    edges = boundary_words(words)
    for bit in range(4):
        wanted = slow_boundary(((words >> bit) & 1).tolist())
        assert set(zip(*np.nonzero((edges >> bit) & 1), strict=True)) == wanted


@pytest.mark.parametrize(("radius", "pixels"), [(0, 1), (1, 5), (2, 13), (3, 29), (5, 81)])
def test_disk(radius, pixels):
    words = np.zeros((15, 13), np.uint32)
    words[7, 6] = 4
    (dilated,) = dilated_at(np.arange(words.size), words, [radius])
    y, x = np.mgrid[:15, :13]
    disk = (y - 7) ** 2 + (x - 6) ** 2 <= radius**2
    assert disk.sum() == pixels
    np.testing.assert_array_equal(dilated.reshape(words.shape), 4 * disk)


@pytest.mark.parametrize("radii", [[1, 3], [3, 1], [2, 9, 4], [40]])
def test_dilation_of_several_masks_by_several_disks(radii):
    rng = np.random.default_rng(1)
    words = rng.integers(0, 8, (9, 14)).astype(np.uint8) * (rng.random((9, 14)) < 0.05)
    positions = np.flatnonzero(rng.random(words.shape) < 0.7)
    for radius, found in zip(radii, dilated_at(positions, words, radii), strict=True):
        for position, value in zip(positions, found, strict=True):
            y, x = divmod(int(position), 14)
            wanted = 0
            for v, u in zip(*np.nonzero(words), strict=True):
                if (y - v) ** 2 + (x - u) ** 2 <= radius**2:
                    wanted |= int(words[v, u])
            assert value == wanted


def test_precision_and_recall_of_a_hand_counted_case():
    label, prediction = np.zeros((4, 12), int), np.zeros((4, 12), int)
    label[1, 1] = label[1, 8] = 1  # two boundaries of 4 pixels
    prediction[1, 1] = 1  # finds one of them: P = 1, R = 1/2
    scores = boundary_f_scores(label, prediction, 3, (1,))
    np.testing.assert_allclose(scores[:, 0], [2 / 3, 2 / 3, 1.0])


def test_displaced_edge_counts_from_its_distance_on():
    label, prediction = np.zeros((6, 12), int), np.zeros((6, 12), int)
    label[:, 5:] = prediction[:, 8:] = 1
    scores = boundary_f_scores(label, prediction, 2, (1, 2, 3, 4))
    np.testing.assert_array_equal(scores, [[0, 0, 1, 1]] * 2)


@pytest.mark.parametrize("absent", ["one", "skip"])
@pytest.mark.parametrize(
    ("height", "width", "num_classes", "void", "block", "noise"),
    [
        (13, 17, 4, 0.0, 4, 0.0),
        (13, 17, 4, 0.2, 4, 0.1),
        (17, 13, 9, 0.3, 3, 0.2),
        (1, 1, 3, 0.0, 1, 1.0),
        (1, 9, 3, 0.0, 2, 0.3),
        (9, 1, 3, 0.3, 2, 0.3),
        (24, 31, 17, 0.1, 2, 0.1),
        (24, 31, 33, 0.1, 2, 0.1),
        (30, 31, 70, 0.1, 2, 0.1),
        (40, 41, 150, 0.1, 2, 0.1),
    ],
)
def test_equals_the_definition(*, height, width, num_classes, void, block, noise, absent):
    thresholds = (1, 3, 0.1, 0.3)
    label, prediction = blobs(
        height + num_classes, height, width, num_classes, void=void, block=block, noise=noise
    )
    label = label.astype(np.uint8)
    np.testing.assert_allclose(
        boundary_f_scores(label, prediction, num_classes, thresholds, absent=absent),
        slow_scores(label, prediction, num_classes, thresholds, absent),
        rtol=1e-14,
    )


def test_many_classes_really_need_several_words():
    label, prediction = blobs(190, 40, 41, 150, void=0.1, block=2, noise=0.1)
    assert np.union1d(label[label != 255], prediction).size > 128


def test_classes_absent_on_one_side_or_both():
    label, prediction = np.zeros((8, 9), int), np.zeros((8, 9), int)
    label[2:5, 2:5] = 1  # only in the truth
    prediction[2:5, 2:5] = 2  # only in the prediction
    one = boundary_f_scores(label, prediction, 4, (1,))[:, 0]
    skip = boundary_f_scores(label, prediction, 4, (1,), absent="skip")[:, 0]
    np.testing.assert_array_equal(one, [1, 0, 0, 1])
    np.testing.assert_array_equal(skip, [1, 0, 0, np.nan])


def test_a_class_that_fills_the_image_has_no_boundary():
    full = np.zeros((5, 6), int)
    np.testing.assert_array_equal(boundary_f_scores(full, full, 2, (1,)), [[1], [1]])
    assert np.isnan(boundary_f_scores(full, full, 2, (1,), absent="skip")).all()


def test_void_is_background_in_both_maps_before_extraction():
    label, prediction = np.zeros((9, 12), int), np.zeros((9, 12), int)
    prediction[1:4, 1:4] = 1
    label[0:6, 0:6] = 255  # hides the whole false blob
    np.testing.assert_array_equal(boundary_f_scores(label, prediction, 2, (1,)), [[1], [1]])
    # the edge of the void region is a boundary of class 0, in both maps alike
    assert slow_boundary((label == 0).tolist())
    assert not np.isnan(boundary_f_scores(label, prediction, 2, (1,), absent="skip")[0, 0])


def test_large_radius_reaches_across_the_image_and_not_around_it():
    label, prediction = np.zeros((7, 30), int), np.zeros((7, 30), int)
    label[3, 1] = prediction[4, 28] = 1
    assert boundary_f_scores(label, prediction, 2, (50,))[1, 0] == 1
    assert boundary_f_scores(label, prediction, 2, (5,))[1, 0] == 0  # rows do not wrap
    label, prediction = np.zeros((7, 30), int), np.zeros((7, 30), int)
    label[3, 0] = prediction[3, 29] = 1  # from the first column to the last
    assert boundary_f_scores(label, prediction, 2, (50,))[1, 0] == 1


def test_thresholds():
    assert threshold_radius(1, 1024, 2048) == 1
    assert threshold_radius(3.0, 10, 10) == 3
    assert threshold_radius(0.5, 3, 4) == 3  # ceil(2.5)
    assert threshold_radius(0.2, 3, 4) == 1
    assert threshold_radius(0.00088, 1024, 2048) == 3  # ceil(2.015)
    for wrong in (0, -1, 1.5, math.nan):
        with pytest.raises(ValueError, match="boundary threshold"):
            threshold_radius(wrong, 10, 10)


@pytest.mark.parametrize("absent", ["one", "skip"])
def test_set_is_the_mean_over_images_and_then_over_classes(absent):
    maps = [blobs(seed, 9 + seed, 17 - seed, 5, void=0.1, block=4, noise=0.02) for seed in range(5)]
    thresholds = (1, 0.2)
    per_image = [slow_scores(*pair, 8, thresholds, absent) for pair in maps]
    state = BoundaryF(thresholds, absent).empty(8)
    for pair in maps:
        state = state.update(check_pair(*pair, 8))
    wanted = np.full((8, 2), np.nan)
    for index in range(8):
        for column in range(2):
            seen = [f[index, column] for f in per_image if not math.isnan(f[index, column])]
            if seen:
                wanted[index, column] = sum(seen) / len(seen)
    result = state.compute()
    assert list(result["boundary_f"]) == ["1px", "0.2diagonal"]
    mean = list(result["boundary_f"].values())
    per_class = np.stack(list(result["per_class"]["boundary_f"].values()), axis=1)
    np.testing.assert_allclose(per_class, wanted, rtol=1e-14)
    # classes 5, 6, 7 never occur: 1 under one rule, left out under the other
    if absent == "one":
        assert (per_class[5:] == 1).all()
        np.testing.assert_allclose(mean, wanted.mean(axis=0), rtol=1e-14)
    else:
        assert np.isnan(per_class[5:]).all()
        np.testing.assert_allclose(mean, wanted[:5].mean(axis=0), rtol=1e-14)


def test_merge_equals_one_after_the_other():
    maps = [blobs(seed, 12, 15, 6, void=0.2) for seed in range(5)]
    start = BoundaryF((1, 3), "skip").empty(6)
    whole, first, second = start, start, start
    for index, pair in enumerate(check_pair(*each, 6) for each in maps):
        whole = whole.update(pair)
        first, second = (first.update(pair), second) if index < 2 else (first, second.update(pair))
    together = merged(first, second)
    np.testing.assert_allclose(together.scores, whole.scores, rtol=1e-14)
    np.testing.assert_array_equal(together.images, whole.images)
    assert start.images.sum() == 0
    assert start.scores.sum() == 0


def test_other_ignore_value():
    label, prediction = blobs(3, 13, 17, 4, void=0.3)
    moved = np.where(label == 255, -1, label)
    np.testing.assert_array_equal(
        boundary_f_scores(label, prediction, 4),
        boundary_f_scores(moved, prediction, 4, ignore=-1),
    )
    np.testing.assert_array_equal(
        BoundaryF().empty(4).update(check_pair(label, prediction, 4)).scores,
        BoundaryF().empty(4).update(check_pair(moved, prediction, 4, ignore=-1)).scores,
    )


def test_mistakes():
    flat = np.zeros((3, 4), int)
    with pytest.raises(InputError, match=r"a\.png: found label 7; allowed are 0…6 and 255"):
        boundary_f_scores(flat + 7, flat, 7, name="a.png")
    with pytest.raises(ValueError, match="real class"):
        boundary_f_scores(flat, flat, 7, ignore=6)
    with pytest.raises(ValueError, match="real class"):
        check_pair(flat, flat, 7, ignore=6)
    with pytest.raises(ValueError, match=r"one map \[H, W\].*\(1, 3, 4\)"):
        boundary_f_scores(flat[None], flat[None], 7)
    with pytest.raises(ValueError, match=r"one map \[H, W\].*\(0, 4\)"):
        boundary_f_scores(flat[:0], flat[:0], 7)
    with pytest.raises(ValueError, match="absent must be one of"):
        BoundaryF(absent="zero")
    with pytest.raises(ValueError, match="absent must be one of"):
        boundary_f_scores(flat, flat, 7, absent="zero")
    with pytest.raises(ValueError, match="must differ"):
        BoundaryF((3, 3.0))
    with pytest.raises(ValueError, match="cannot merge"):
        merged(BoundaryF(absent="one").empty(7), BoundaryF(absent="skip").empty(7))
    with pytest.raises(ValueError, match="cannot merge"):
        merged(BoundaryF((1,)).empty(7), BoundaryF((3,)).empty(7))
