"""What is sent of a picture: nothing is lost that is shown, and large pictures stay small."""

import numpy as np
import pytest

pytest.importorskip("starlette")

from sdnjax.serve.answer import Segmented, packed
from tests.serve.made import noise, unpacked


def found(labels, num_classes=3, count=2):
    rng = np.random.default_rng(1)
    shape = (*labels.shape, 2, count)
    likeliest = rng.integers(0, min(num_classes, 101), shape).astype(np.uint16)
    return Segmented(noise(labels.shape), labels, likeliest)


@pytest.mark.parametrize("num_classes", [3, 300])
def test_everything_comes_back(num_classes):
    labels = np.random.default_rng(0).integers(0, num_classes, (7, 11))
    own = found(labels, num_classes)
    description, got, classes, percents, boundaries, picture = unpacked(packed(own, num_classes))
    np.testing.assert_array_equal(got, labels)
    np.testing.assert_array_equal(classes, np.moveaxis(own.likeliest[..., 0, :], -1, 0))
    np.testing.assert_array_equal(percents, np.moveaxis(own.likeliest[..., 1, :], -1, 0))
    np.testing.assert_array_equal(picture, own.picture)
    assert (description["every"], description["start"], description["of"]) == (1, [0, 0], [7, 11])
    shares = {int(k): share for k, share in description["shares"].items()}
    assert shares == {
        k: pytest.approx((labels == k).mean(), abs=1e-6) for k in np.unique(labels).tolist()
    }
    # Takikawa et al.: other than the pixel to the right, below, or below to the right.
    padded = np.pad(labels, (0, 1), "edge")
    here = padded[:-1, :-1]
    others = (padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:])
    expected = np.zeros((7, 11), bool)
    for other in others:
        expected |= here != other
    expected[-1, :-1] = labels[-1, :-1] != labels[-1, 1:]
    expected[:-1, -1] = labels[:-1, -1] != labels[1:, -1]
    expected[-1, -1] = False
    np.testing.assert_array_equal(boundaries, expected)


def test_of_a_large_picture_every_third_pixel_is_sent_and_no_boundary_is_lost():
    labels = np.zeros((20, 31), np.uint8)
    labels[:, 14] = 1  # a line that falls between the pixels that are sent
    own = found(labels)
    description, got, classes, _, boundaries, picture = unpacked(packed(own, 3, most_pixels=80))
    assert (description["every"], description["start"]) == (3, [1, 1])
    np.testing.assert_array_equal(got, labels[1::3, 1::3])
    np.testing.assert_array_equal(classes[0], own.likeliest[1::3, 1::3, 0, 0])
    assert boundaries[:, 4].all() and boundaries.sum() == 7  # columns 13 and 14 are of square 4
    assert picture.shape == (*got.shape, 3) == (7, 10, 3)
    first = own.picture[:3, :3].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(picture[0, 0], first, atol=1)
    assert description["shares"]["1"] == pytest.approx(1 / 31, abs=1e-6)  # of all pixels


def test_a_long_strip_is_no_longer_than_what_browsers_draw():
    own = found(np.zeros((1, 20000), np.uint8))
    description, got, *_, picture = unpacked(packed(own, 3))
    assert (description["every"], got.shape, picture.shape) == (3, (1, 6667), (1, 6667, 3))
    assert description["start"] == [0, 1]


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_a_picture_of_other_bands_is_shown_in_those_that_people_see(bands):
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, bands), dtype=np.uint8)
    own = found(np.zeros((4, 6), np.uint8))._replace(picture=picture)
    *_, seen = unpacked(packed(own, 3))
    first = picture[..., :3] if bands > 2 else np.repeat(picture[..., :1], 3, -1)
    np.testing.assert_array_equal(seen, first)
