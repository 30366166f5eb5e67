"""Sizes, windows and interpolation positions."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.inference.resampling import (
    averaged,
    backwards,
    bilinear,
    bucket,
    mirrored,
    moved,
    nearest,
    part,
    strip_height,
    strips,
    wrapped,
)
from sdnjax.inference.windows import coverage, scaled_size, window_starts
from sdnjax.ops import resize_bilinear


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [
        (10, 10, 5, [0]),
        (7, 10, 5, [0]),
        (11, 10, 5, [0, 1]),
        (20, 10, 5, [0, 5, 10]),
        (21, 10, 5, [0, 5, 10, 11]),
        (1024, 769, 513, [0, 255]),
        (2048, 769, 513, [0, 513, 1026, 1279]),
    ],
)
def test_window_starts(size, window, stride, expected):
    assert window_starts(size, window, stride) == expected


@pytest.mark.parametrize(
    ("size", "scale", "resize_to", "expected"),
    [
        ((512, 683), 1.0, (2048, 512), (512, 683)),
        ((683, 512), 1.0, (2048, 512), (683, 512)),
        ((333, 500), 1.0, (2048, 512), (512, 769)),  # 768.77
        ((1600, 300), 1.0, (2048, 512), (2048, 384)),  # the long side decides
        ((512, 683), 0.5, (2048, 512), (256, 342)),  # 341.5 is rounded up
        ((1024, 2048), 1.0, (2049, 1025), (1025, 2049)),
        ((1024, 2048), 0.5, (2049, 1025), (512, 1024)),  # of (1024, 512)
        ((375, 500), 1.0, (520, 520), (390, 520)),
        ((375, 500), 1.75, (520, 520), (683, 910)),  # 682.5
        ((375, 500), 0.75, None, (281, 375)),
        ((9, 21), 0.5, None, (5, 11)),
        ((1, 2), 0.25, None, (1, 1)),
    ],
)
def test_scaled_size(size, scale, resize_to, expected):
    assert scaled_size(size, scale, resize_to) == expected


def test_buckets_are_few_and_near():
    found = {n: bucket(n) for n in range(1, 5000)}
    assert all(n <= b < n + max(32, n / 4 + 1) for n, b in found.items())
    assert all(bucket(b) == b for b in found.values())
    assert sorted({b for b in found.values() if 128 < b <= 1024}) == [
        *(160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
    ]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 20), (20, 7), (1, 5), (5, 1), (683, 1195)])
def test_positions_are_those_of_resize_bilinear(old, new, align_corners):
    x = np.random.default_rng(0).normal(size=(old, 3)).astype(np.float32)
    expected = resize_bilinear(jnp.asarray(x)[None], (1, new), align_corners=align_corners)[0]
    at = bilinear(old, new, align_corners=align_corners)
    assert (at.second is None) == (old == new)

    def apply(at, x):
        y = at.a[:, None] * x[at.first]
        return y if at.second is None else y + at.b[:, None] * x[at.second]

    np.testing.assert_allclose(apply(at, x), expected, rtol=0, atol=3e-7)
    np.testing.assert_allclose(apply(mirrored(at, old), x[::-1]), expected, rtol=0, atol=3e-7)
    counts = np.arange(1, old + 1, dtype=np.float32)
    sums = x * counts[:, None]
    np.testing.assert_allclose(apply(averaged(at, counts), sums), expected, rtol=0, atol=1e-6)
    padded = apply(part(at, new // 2, new, new + 3), x)
    np.testing.assert_allclose(padded[: new - new // 2], expected[new // 2 :], rtol=0, atol=3e-7)
    assert not padded[new - new // 2 :].any()


@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 20), (20, 7), (1, 5), (5, 1), (683, 1195)])
def test_nearest_reads_the_pixel_below_each_centre(old, new):
    at = nearest(old, new)
    centres = [Fraction(2 * i + 1, 2 * new) * old for i in range(new)]
    assert at.first.tolist() == [int(c) for c in centres]
    assert at.a.tolist() == [1] * new
    assert at.second is None
    padded = part(at, 0, new, new + 2)
    assert padded.a.dtype == np.int32, "labels stay exact beyond 2**24"
    assert padded.a.tolist() == [1] * new + [0, 0]


def test_positions_in_inputs_that_lie_elsewhere():
    at = bilinear(6, 9)
    x = np.arange(6.0, dtype=np.float32) ** 2

    def apply(at, x):
        return at.a * x[at.first] + at.b * x[at.second]

    lower = part(at, 3, 7, 5)
    np.testing.assert_array_equal(apply(moved(lower, 1), x[1:])[:4], apply(at, x)[3:7])
    assert moved(lower, 1).first.min() >= 0
    np.testing.assert_array_equal(apply(backwards(at), x), apply(at, x)[::-1])
    ring = np.zeros(4, np.float32)
    ring[np.arange(2, 6) % 4] = x[2:]
    np.testing.assert_array_equal(apply(wrapped(part(at, 5, 9, 4), 4), ring), apply(at, x)[5:])


def test_coverage_counts_windows():
    np.testing.assert_array_equal(coverage(7, 3, window_starts(7, 3, 2)), [1, 1, 2, 1, 2, 1, 1])
    np.testing.assert_array_equal(coverage(2, 3, [0]), [1, 1])


def test_strips_cover_all_rows_and_read_near_rows():
    at = [bilinear(new, 100) for new in (40, 100, 777)]
    found = strips(100, 16, at, 32)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
    assert found[-1][1] == 100
    for top, bottom in found:
        assert 1 <= bottom - top <= 16
        for t in at:
            read = t.first if t.second is None else t.second
            assert read[bottom - 1] - t.first[top] <= 32
    assert strips(100, 16, at[:2], 32) == [(i, min(i + 16, 100)) for i in range(0, 100, 16)]


def test_strips_are_as_high_as_memory_allows():
    assert strip_height(1024, 2048 * 19 * 4) == 128
    assert strip_height(4096, 8192 * 19 * 4) == 32
    assert strip_height(40, 1) == 64  # a bucket
    assert strip_height(5000, 10**9) == 8
