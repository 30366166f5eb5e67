"""DifNet's training examples against a plain statement of them in PIL."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.augmentation import augment
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.pipeline.difnet import SCALES, difnet_crop
from sdnjax.errors import InputError

RNG = np.random.default_rng(0)
CROP = (40, 52)
DATA = Data(crop_size=CROP, recipe="difnet", mean=(120.0, 110.0, 100.0), std=(1.0, 2.0, 1.0))


def example(h, w):
    coarse = RNG.integers(0, 256, (h // 3 + 1, w // 3 + 1, 3), dtype=np.uint8)
    image = np.kron(coarse, np.ones((3, 3, 1), np.uint8))[:h, :w]
    return image, RNG.integers(1, 21, (h, w), dtype=np.uint8), RNG.integers(0, 900, (h, w))


def stated(image, label, superpixels, *, scale, mirrored, corner):
    """`corner`: first row and column of the crop in the scaled picture, negative in a small one."""
    if mirrored:
        image, label, superpixels = (np.fliplr(x) for x in (image, label, superpixels))
    h, w = label.shape
    size = int(w * scale), int(h * scale)

    def resized(x, how):
        return np.array(Image.fromarray(np.ascontiguousarray(x)).resize(size, how))

    def cut(x, beyond):
        out = np.full((*CROP, *x.shape[2:]), beyond, x.dtype)
        for i in range(CROP[0]):
            for j in range(CROP[1]):
                r, s = i + corner[0], j + corner[1]
                if 0 <= r < x.shape[0] and 0 <= s < x.shape[1]:
                    out[i, j] = x[r, s]
        return out

    near = Image.NEAREST
    return (
        cut(resized(image, Image.BILINEAR), 0),
        cut(resized(label, near), 0),
        cut(resized(superpixels.astype(np.int32), near), -1),
    )


@pytest.mark.parametrize(
    ("size", "k", "mirrored", "draws", "corner"),
    [
        # 70·.9 × 90·.9 is larger both ways: corners 1…23 and 1…29.
        ((70, 90), 4, False, (0.0, 0.0), (1, 1)),
        ((70, 90), 4, True, (0.9999, 0.9999), (23, 29)),
        # 35 × 45 is smaller both ways: places 0…4 and 0…6.
        ((70, 90), 0, True, (0.0, 0.0), (0, 0)),
        ((71, 91), 0, False, (0.9999, 0.9999), (-4, -6)),
        # One side of each, truncated sizes: 61·1.3 = 79.3, 33·1.3 = 42.9.
        ((33, 61), 8, False, (0.5, 0.5), (2, 14)),
        ((61, 33), 8, True, (0.5, 0.5), (20, -5)),
        # The size of the crop.
        ((40, 52), 5, False, (0.7, 0.7), (0, 0)),
    ],
)
def test_an_example_is_the_stated_one(size, k, mirrored, draws, corner):
    image, label, superpixels = example(*size)
    all_draws = np.zeros(34, np.float32)
    all_draws[:4] = (k + 0.5) / 10, 0.25 if mirrored else 0.75, *draws
    found = augment(image, label, all_draws, DATA, superpixels)
    expected = stated(image, label, superpixels, scale=SCALES[k], mirrored=mirrored, corner=corner)
    values = (expected[0] - np.float32(DATA.mean)) / np.float32(DATA.std)
    np.testing.assert_allclose(found["image"], values, atol=1e-5)
    np.testing.assert_array_equal(found["label"], expected[1])
    np.testing.assert_array_equal(found["superpixels"], expected[2])
    assert found["label"].dtype == found["superpixels"].dtype == np.int32


def test_what_the_draws_decide():
    """Ten scales and every corner from 1 on, all about as often."""
    label = np.arange(60, dtype=np.uint8)[:, None] + np.zeros((60, 60), np.uint8)
    image = np.repeat(label[..., None], 3, axis=2)
    found = []
    for draw in (np.arange(1000) + 0.5) / 1000:
        draws = np.array([0.55, 0.7, draw, draw], np.float32)
        found.append(difnet_crop(image, label, draws, CROP, flip=True)[1][0, 0])
    rows, counts = np.unique(found, return_counts=True)
    assert rows.tolist() == list(range(1, 21)) and (counts == 50).all()
    assert tuple(round(0.5 + 0.1 * k, 1) for k in range(10)) == SCALES


def test_other_numbers_of_bands():
    image = RNG.integers(0, 256, (50, 60, 5), dtype=np.uint8)
    label = np.zeros((50, 60), np.uint8)
    draws = np.array([0.05, 0.7, 0.3, 0.3], np.float32)
    whole, *_ = difnet_crop(image, label, draws, CROP, flip=True)
    three, *_ = difnet_crop(image[..., 1:4], label, draws, CROP, flip=True)
    np.testing.assert_array_equal(whole[..., 1:4], three)
    flipped = difnet_crop(image, label, np.float32([0.05, 0.2, 0.3, 0.3]), CROP, flip=False)[0]
    np.testing.assert_array_equal(flipped, whole)


def test_batches_of_the_recipe():
    """Padding is the black of the mean and class 0; the images are those of the recipe."""
    data = dataclasses.replace(DATA, crop_size=(200, 210), name="shapes", workers=1)
    with train_batches(data, seed=0, batch_size=2, stop_step=1) as batches:
        batch = next(batches)
    black = -np.float32(data.mean) / np.float32(data.std)
    is_black = np.isclose(batch["image"], black, atol=1e-4).all(-1)
    # shapes are 96 pixels a side: even at 1.4 much is left beyond.
    assert is_black.mean(axis=(1, 2)).min() > 0.05
    assert (batch["label"][is_black] == 0).mean() > 0.95
    assert batch["image"].shape == (2, 200, 210, 3)


def test_settings_without_effect():
    assert set(DATA.unused()) == {"base_size", "scale_range", "max_class_share", "photometric"}
    assert Data().unused() == {}
    with pytest.raises(InputError, match="recipe difnet is for the host"):
        dataclasses.replace(DATA, augment_on="device")
