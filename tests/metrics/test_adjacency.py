"""Adjacent classes and their weights, against loops and by hand."""

import numpy as np
import pytest

from sdnjax.metrics.adjacency import adjacent_pixels, most_adjacent, weight_similarity


def test_counts_equal_a_loop():
    label = np.random.default_rng(0).integers(0, 5, (7, 9)).astype(np.uint8)
    label[label == 4] = 255
    expected = np.zeros((4, 4), int)
    for y, x in np.ndindex(7, 9):
        for v, u in ((y, x + 1), (y + 1, x)):
            if v < 7 and u < 9 and 255 not in (label[y, x], label[v, u]):
                a, b = label[y, x], label[v, u]
                if a != b:
                    expected[a, b] += 1
                    expected[b, a] += 1
    counts = adjacent_pixels(label, 4)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, expected)


def test_150_classes_do_not_overflow_their_bytes():
    label = np.array([[149, 148]], np.uint8)
    counts = adjacent_pixels(label, 150)
    assert counts[149, 148] == counts[148, 149] == 1 and counts.sum() == 2


def test_partners_ties_and_absent_classes():
    counts = np.array([[0, 5, 5, 0], [5, 0, 9, 0], [5, 9, 0, 0], [0, 0, 0, 0]])
    pairs = most_adjacent(counts)
    assert pairs.classes.tolist() == [1, 2, 0]  # by falling count, equal ones in order
    assert pairs.partners.tolist() == [2, 1, 1]  # of equal ones the lowest
    assert pairs.counts.tolist() == [9, 9, 5]
    weights = np.array([[1, 0], [1, 1], [0, 2], [7, 7]], np.float32)
    expected = [np.sqrt(0.5)] * 3
    np.testing.assert_allclose(weight_similarity(weights, pairs), expected, rtol=1e-12)
    assert weight_similarity(0 * weights, pairs).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_one_class_meets_nobody(shape):
    assert not adjacent_pixels(np.zeros(shape, np.uint8), 3).any()
