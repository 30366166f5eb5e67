import colorsys
import dataclasses

import numpy as np
import pytest

from sdnjax.data import augment as A
from sdnjax.data.config import Data
from sdnjax.data.images import normalize
from sdnjax.data.tf_setup import tf

PLAIN = Data(
    crop_size=(24, 32),
    scale_range=(1.0, 1.0),
    max_class_share=1.0,
    flip=False,
    photometric=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
RNG = np.random.default_rng(1)


def keys(count):
    made = tf.data.Dataset.range(count).map(lambda k: A.example_key(5, 0, k)).batch(count)
    return next(made.as_numpy_iterator())


def over(keys, function):
    """function(key) for every key, as arrays with a leading axis."""
    results = tf.data.Dataset.from_tensor_slices(keys).map(function).batch(len(keys))
    return next(results.as_numpy_iterator())


def resize_reference(image, size):
    """Bilinear with half-pixel centres and repeated borders, pixel by pixel in float64."""
    h, w = image.shape[:2]
    image, result = image.astype(np.float64), np.zeros((*size, image.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (i + 0.5) * h / size[0] - 0.5, (j + 0.5) * w / size[1] - 0.5
            for r in (int(np.floor(y)), int(np.floor(y)) + 1):
                for c in (int(np.floor(x)), int(np.floor(x)) + 1):
                    weight = (1 - abs(y - r)) * (1 - abs(x - c))
                    result[i, j] += weight * image[np.clip(r, 0, h - 1), np.clip(c, 0, w - 1)]
    return result


@pytest.mark.parametrize("size", [(9, 14), (18, 28), (5, 7), (13, 9), (31, 50)])
def test_resize(size):
    image = RNG.integers(0, 256, (9, 14, 3)).astype(np.uint8)
    label = RNG.integers(0, 9, (9, 14)).astype(np.uint8)
    whole = tf.constant([0, 0, *size])
    result = A.resize_bilinear(image, tf.constant(size), whole).numpy()
    expected = resize_reference(image, size)
    np.testing.assert_allclose(result, expected, atol=1e-4)
    nearest = A.resize_nearest(label, tf.constant(size), whole).numpy()
    rows = np.floor((np.arange(size[0]) + 0.5) * 9 / size[0] + 1e-9).astype(int)
    cols = np.floor((np.arange(size[1]) + 0.5) * 14 / size[1] + 1e-9).astype(int)
    np.testing.assert_array_equal(nearest, label[rows][:, cols])
    # A window is the same pixels, computed alone.
    window = tf.constant([1, 2, 3, 4])
    part = A.resize_bilinear(image, tf.constant(size), window).numpy()
    np.testing.assert_array_equal(part, result[1:4, 2:6])
    part = A.resize_nearest(label, tf.constant(size), window).numpy()
    np.testing.assert_array_equal(part, nearest[1:4, 2:6])


def test_resize_agrees_with_tensorflow():
    image = RNG.integers(0, 256, (9, 14, 3)).astype(np.uint8)
    ours = A.resize_bilinear(image, tf.constant([20, 11]), tf.constant([0, 0, 20, 11]))
    np.testing.assert_allclose(ours, tf.image.resize(image, (20, 11)), atol=1e-4)


def test_scale_is_uniform():
    data = dataclasses.replace(PLAIN, scale_range=(0.5, 2.0))
    sizes = over(keys(2000), lambda k: A.random_size(tf.constant([1000, 3000]), k, data))
    scale = np.sort(sizes[:, 0] / 1000)
    assert scale[0] >= 0.5
    assert scale[-1] <= 2.0
    np.testing.assert_allclose(sizes[:, 1] / 3000, sizes[:, 0] / 1000, atol=1e-3)
    # Kolmogorov-Smirnov: 1.95 / √n is exceeded once in a thousand.
    assert np.abs((scale - 0.5) / 1.5 - np.arange(2000) / 2000).max() < 1.95 / 2000**0.5


@pytest.mark.parametrize(
    ("shape", "base", "expected"),
    [
        ((360, 480), (2048, 512), (512, 683)),  # the short edge decides
        ((100, 1000), (2048, 512), (205, 2048)),  # the long edge decides
        ((480, 360), (512, 2048), (683, 512)),  # base_size has no orientation
        ((360, 480), None, (360, 480)),
    ],
)
def test_base_size(shape, base, expected):
    data = dataclasses.replace(PLAIN, base_size=base)
    assert tuple(A.random_size(tf.constant(shape), A.example_key(0, 0, 0), data)) == expected


def test_crop_is_uniform():
    label = np.zeros((30, 36), np.uint8)
    windows = over(keys(3000), lambda k: A.random_window(label, tf.constant([30, 36]), k, PLAIN))
    assert (windows[:, 2:] == (24, 32)).all()
    for axis, margin in ((0, 6), (1, 4)):
        counts = np.bincount(windows[:, axis], minlength=margin + 1)
        assert len(counts) == margin + 1
        expected = 3000 / (margin + 1)
        assert np.abs(counts - expected).max() < 4.5 * expected**0.5


def test_crop_rule_is_honoured():
    data = dataclasses.replace(PLAIN, crop_size=(8, 8), max_class_share=0.75)
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    label[:20] = np.where(label[:20] == 0, 255, label[:20])  # half of class 0 is void
    size = tf.constant([40, 40])
    windows = over(keys(500), lambda k: A.random_window(label, size, k, data))
    free = dataclasses.replace(data, max_class_share=1.0)
    first = over(keys(500), lambda k: A.random_window(label, size, k, free))

    def passes(window):
        top, left, h, w = window
        counts = np.bincount(label[top : top + h, left : left + w].ravel(), minlength=256)[:255]
        return (counts > 0).sum() > 1 and counts.max() <= 0.75 * counts.sum()

    good, good_first = [np.array([passes(w) for w in ws]) for ws in (windows, first)]
    # A window that passes is kept; otherwise there are ten tries and one more.
    assert (windows[good_first] == first[good_first]).all()
    chance = good_first.mean()
    assert 0.03 < chance < 0.3
    assert abs(good.mean() - (1 - (1 - chance) ** 11)) < 0.12


def test_crop_without_an_alternative_ends():
    data = dataclasses.replace(PLAIN, max_class_share=0.5)
    for label in (np.zeros((50, 60), np.uint8), np.full((50, 60), 255, np.uint8)):
        image = np.zeros((50, 60, 3), np.uint8)
        out, _ = A.augment(image, label, A.example_key(0, 0, 0), data)
        assert out.shape == (24, 32, 3)


def test_half_is_mirrored():
    data = dataclasses.replace(PLAIN, flip=True)
    label = np.arange(24 * 32, dtype=np.int64).reshape(24, 32) % 200
    label = label.astype(np.uint8)
    image = label[..., None].repeat(3, 2)
    images, labels = over(keys(400), lambda k: A.augment(image, label, k, data))
    mirrored = (labels == label[:, ::-1]).all((1, 2))
    assert ((labels == label).all((1, 2)) ^ mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / 400**0.5
    assert (images[..., 0] == labels).all()


def test_image_and_label_move_together():
    data = dataclasses.replace(PLAIN, flip=True, scale_range=(0.5, 2.0), max_class_share=0.75)
    # Blocks so wide that a pixel away from their edges keeps its value under bilinear scaling.
    label = RNG.integers(0, 200, (4, 5)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    image = np.stack([label, label // 2, 255 - label], -1)
    images, labels = over(keys(60), lambda k: A.augment(image, label, k, data))
    valid = labels < 255
    exact = (np.abs(images[..., 0] - labels) < 1e-3) & valid
    assert exact.sum() > 0.7 * valid.sum()
    np.testing.assert_allclose(images[..., 2][exact], 255 - labels[exact], atol=1e-2)


def test_small_image_is_padded_after_normalising():
    data = dataclasses.replace(PLAIN, mean=(100.0, 90.0, 80.0), std=(50.0, 40.0, 30.0))
    image = np.full((10, 12, 3), 7, np.uint8)
    out, label = A.augment(image, np.ones((10, 12), np.uint8), A.example_key(0, 0, 0), data)
    out, label = out.numpy(), label.numpy()
    assert out.dtype == np.float32
    assert label.dtype == np.int32
    assert out.shape == (24, 32, 3)
    assert (out[10:] == 0).all()
    assert (out[:, 12:] == 0).all()
    np.testing.assert_allclose(
        out[:10, :12], [[((7 - 100) / 50, (7 - 90) / 40, (7 - 80) / 30)] * 12] * 10, rtol=1e-6
    )
    assert (label[:10, :12] == 1).all()
    assert (label[10:] == 255).all()
    assert (label[:, 12:] == 255).all()


def test_normalising_equals_evaluation_bit_for_bit():
    data = dataclasses.replace(PLAIN, mean=Data().mean, std=Data().std)
    image = RNG.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    out, _ = tf.function(lambda k: A.augment(image, np.zeros((24, 32), np.uint8), k, data))(
        A.example_key(0, 0, 0)
    )
    np.testing.assert_array_equal(out.numpy(), normalize(image, data))


def distorted(monkeypatch, image, chance, count=1500):
    """distort_colours of a one-pixel image with some of (brightness, contrast, saturation,
    hue, contrast first) pinned: 0 happens, 1 does not, None is left to chance."""
    uniform = A._uniform

    def pinned(key, shape):
        free = uniform(key, shape)
        fixed = tf.constant([0.0 if c is None else float(c) for c in chance])
        use = tf.constant([c is not None for c in chance])
        return tf.stack([tf.where(use, fixed, free[0]), free[1]])

    monkeypatch.setattr(A, "_uniform", pinned)
    pixel = tf.constant(image, tf.float32, shape=(1, 1, 3))
    return over(keys(count), lambda k: A.distort_colours(pixel, k))[:, 0, 0]


def test_brightness(monkeypatch):
    out = distorted(monkeypatch, (100, 120, 140), (0, 1, 1, 1, 1))
    shift = out - (100, 120, 140)
    np.testing.assert_allclose(shift, shift[:, :1].repeat(3, 1), atol=1e-4)
    assert shift.min() >= -32
    assert shift.max() <= 32
    assert abs(shift.mean()) < 4 * 18.5 / 1500**0.5
    assert abs(shift[:, 0].std() - 64 / 12**0.5) < 1


def test_contrast(monkeypatch):
    for first in (0, 1):
        with monkeypatch.context() as patch:
            ratio = distorted(patch, (100, 120, 140), (1, 0, 1, 1, first)) / (100, 120, 140)
        np.testing.assert_allclose(ratio, ratio[:, :1].repeat(3, 1), rtol=1e-5)
        assert ratio.min() >= 0.5 - 1e-6
        assert ratio.max() <= 1.5 + 1e-6
        assert abs(ratio[:, 0].mean() - 1) < 0.03
        assert abs(ratio[:, 0].std() - 1 / 12**0.5) < 0.015


def hsv(rgb):
    return np.array([colorsys.rgb_to_hsv(*(c / 255)) for c in rgb.astype(np.float64)])


def test_saturation(monkeypatch):
    out = distorted(monkeypatch, (100, 120, 140), (1, 1, 0, 1, 1), 600)
    before, after = hsv(np.array([(100, 120, 140)]))[0], hsv(out)
    np.testing.assert_allclose(after[:, [0, 2]], before[[0, 2]][None].repeat(600, 0), atol=1e-4)
    ratio = after[:, 1] / before[1]
    assert 0.499 < ratio.min() < 0.51
    assert 1.49 < ratio.max() < 1.501
    assert abs(ratio.mean() - 1) < 0.05


def test_hue(monkeypatch):
    out = distorted(monkeypatch, (140, 120, 118), (1, 1, 1, 0, 1), 600)
    before, after = hsv(np.array([(140, 120, 118)]))[0], hsv(out)
    np.testing.assert_allclose(after[:, 1:], before[None, 1:].repeat(600, 0), atol=1e-4)
    turn = (after[:, 0] - before[0] + 0.5) % 1 - 0.5
    assert -0.1 - 1e-4 < turn.min() < -0.099
    assert 0.099 < turn.max() < 0.1 + 1e-4
    assert abs(turn.mean()) < 0.01


@pytest.mark.parametrize("which", range(4))
def test_each_happens_half_the_time(monkeypatch, which):
    chance = [1, 1, 1, 1, 1]
    chance[which] = None
    out = distorted(monkeypatch, (100, 120, 140), chance, 800)
    changed = (np.abs(out - (100, 120, 140)) > 1e-3).any(1)
    assert abs(changed.mean() - 0.5) < 4 * 0.5 / 800**0.5


def test_values_stay_in_range(monkeypatch):
    for colour in ((0, 10, 250), (255, 255, 255), (0, 0, 0)):
        with monkeypatch.context() as patch:
            out = distorted(patch, colour, (None,) * 5, 300)
        assert out.min() >= 0
        assert out.max() <= 255


def test_key_decides_and_differs():
    data = dataclasses.replace(Data(), crop_size=(24, 32))
    image = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    label = RNG.integers(0, 5, (40, 50)).astype(np.uint8)

    def run(*parts):
        return A.augment(image, label, A.example_key(*parts), data)[0].numpy()

    np.testing.assert_array_equal(run(1, 2, 3), run(1, 2, 3))
    others = [run(1, 2, 3), run(0, 2, 3), run(1, 3, 3), run(1, 2, 4), run(1, 3, 2)]
    assert len({o.tobytes() for o in others}) == 5
