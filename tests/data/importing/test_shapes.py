"""Polygons and run lengths against brute force, and against strings worked out by hand."""

import math

import numpy as np
import pytest

from sdnjax.data.importing.shapes import circle_mask, polygon_mask, run_mask


def inside(points, x, y):
    """Whether a ray to the right crosses the polygon an odd number of times."""
    odd = False
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(8))
def test_polygons_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-4, 18, (rng.integers(3, 9), 2))  # also self-crossing, and outside
    expected = [[inside(points, x + 0.5, y + 0.5) for x in range(13)] for y in range(11)]
    np.testing.assert_array_equal(polygon_mask(points, (11, 13)), expected)


def test_whole_pixels():
    mask = polygon_mask(np.array([(1, 2), (4, 2), (4, 3), (1, 3)]), (5, 6))
    assert mask.sum() == 3
    assert mask[2, 1:4].all()


@pytest.mark.parametrize("points", [[(0, 0), (1, 1)], [(0, 0), (1, 1), (math.nan, 2)], [1, 2, 3]])
def test_no_polygon(points):
    with pytest.raises(ValueError, match=r"a polygon needs|no finite number"):
        polygon_mask(np.array(points), (4, 4))


def test_circle():
    mask = circle_mask((2.5, 2.5), (3.6, 2.5), (5, 5))
    np.testing.assert_array_equal(np.argwhere(mask), [(1, 2), (2, 1), (2, 2), (2, 3), (3, 2)])


def compressed(lengths):
    """The counter-part, written from COCO's description."""
    text = ""
    for i, n in enumerate(lengths):
        rest = n - lengths[i - 2] if i > 2 else n
        more = True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            text += chr(48 + (digit | (32 if more else 0)))
    return text


def test_strings_by_hand():
    # 6, 1, 40, 4, 5, 4: the last three as 4 - 1, 5 - 40, 4 - 4; 40 = 8 + 32·1, -35 = 29 - 32·2.
    assert compressed([6, 1, 40, 4, 5, 4]) == "61X13mN0"
    mask = run_mask("61X13mN0", (6, 10))
    np.testing.assert_array_equal(np.flatnonzero(mask.T), [6, 47, 48, 49, 50, *range(56, 60)])


@pytest.mark.parametrize("seed", range(6))
def test_runs(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 53)) < (0.02, 0.5, 0.98)[seed % 3]
    mask = mask.repeat(9, 0) if seed > 2 else mask
    flat, lengths, value = mask.T.ravel(), [], False
    place = 0
    while place < len(flat):
        stop = place
        while stop < len(flat) and flat[stop] == value:
            stop += 1
        lengths.append(stop - place)
        place, value = stop, not value
    np.testing.assert_array_equal(run_mask(lengths, mask.shape), mask)
    np.testing.assert_array_equal(run_mask(compressed(lengths), mask.shape), mask)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 2], "the runs make 5 pixels, the picture has 6"),
        ([-1, 7], "no whole number"),
        ([1.5, 4.5], "no whole number"),
        ("x", "does not occur|make"),
        ("6X", "cut short"),
        ("6\x7f", "does not occur"),
    ],
)
def test_no_runs(counts, message):
    with pytest.raises(ValueError, match=message):
        run_mask(counts, (2, 3))
