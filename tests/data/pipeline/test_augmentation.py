"""Every augmentation against its definition, on the host and on the device."""

import colorsys
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline import augmentation as host
from sdnjax.data.pipeline import sampling
from sdnjax.data.tf_setup import tf
from sdnjax.ops import augment as device
from sdnjax.ops.colours import distort_colours, from_angle, to_angle

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
ON = ("host", "device")


SETTINGS = ("crop_size", "base_size", "scale_range", "max_class_share", "flip", "photometric")
SETTINGS += ("mean", "std")


def chosen(data, *names):
    return {name: getattr(data, name) for name in names}


@functools.cache
def on_device(data):
    settings = chosen(data, *SETTINGS)
    return jax.jit(functools.partial(device.augment, num_classes=255, **settings))


def augment(on, image, label, draws, data, *, superpixels=None):
    """The example as arrays, made on the host or on the device."""
    if on == "host":
        return host.augment(image, label, draws, data, superpixels)
    return jax.tree.map(np.asarray, on_device(data)(image, label, draws, superpixels))


@functools.cache
def draws_of(on, count):
    """The numbers of the first examples of epoch 0 under seed 5: [count, 34]."""
    if on == "host":
        rows = tf.data.Dataset.range(count).map(lambda k: host.example_draws(5, 0, k))
        return next(rows.batch(count).as_numpy_iterator())
    make = jax.vmap(functools.partial(device.example_draws, 5, 0))
    return np.asarray(make(np.arange(count, dtype=np.int32)))


def sizes_of(on, shape, draws, data):
    if on == "host":
        return np.array([sampling.random_size(shape, draw, data) for draw in draws])
    settings = chosen(data, "base_size", "scale_range")
    return np.asarray(jax.vmap(lambda d: device.random_size(shape, d, **settings))(draws))


def windows_of(on, label, size, draws, data):
    """[n, 4]: top, left, height, width."""
    if on == "host":
        return np.array([sampling.random_window(label, size, d, data) for d in draws])
    settings = chosen(data, "crop_size", "max_class_share")
    window = functools.partial(
        device.random_window, label, np.array(size), num_classes=255, **settings
    )
    return np.concatenate(jax.jit(jax.vmap(window))(draws), 1)


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


@pytest.mark.parametrize("on", ON)
def test_resize(on):
    whole = dataclasses.replace(PLAIN, crop_size=(32, 50), scale_range=(0.5, 3.5), flip=True)
    crop = dataclasses.replace(whole, crop_size=(3, 4))
    image = RNG.integers(0, 256, (9, 14, 3)).astype(np.uint8)
    label = RNG.integers(0, 9, (9, 14)).astype(np.uint8)
    superpixels = RNG.integers(0, 900, (9, 14)).astype(np.int32)
    for scale in (1.0, 2.0, 0.55, 0.93, 1.41, 3.5):
        size = int(9 * scale + 0.5), int(14 * scale + 0.5)
        draws = RNG.uniform(size=34).astype(np.float32)
        draws[:2] = (scale - 0.5) / 3, 0.7
        full = augment(on, image, label, draws, whole, superpixels=superpixels)
        full = {key: value[: size[0], : size[1]] for key, value in full.items()}
        np.testing.assert_allclose(full["image"], resize_reference(image, size), atol=1e-4)
        rows = np.floor((np.arange(size[0]) + 0.5) * 9 / size[0] + 1e-9).astype(int)
        cols = np.floor((np.arange(size[1]) + 0.5) * 14 / size[1] + 1e-9).astype(int)
        np.testing.assert_array_equal(full["label"], label[rows][:, cols])
        np.testing.assert_array_equal(full["superpixels"], superpixels[rows][:, cols])
        # A window is the same pixels, computed alone; mirroring turns it round.
        top, left = (int(d * (n - c + 1)) for d, n, c in zip(draws[2:4], size, (3, 4), strict=True))
        place = slice(top, top + 3), slice(left, left + 4)
        for mirror, turn in ((0.7, 1), (0.2, -1)):
            draws[1] = mirror
            part = augment(on, image, label, draws, crop, superpixels=superpixels)
            np.testing.assert_allclose(part["image"], full["image"][place][:, ::turn], atol=1e-4)
            for key in ("label", "superpixels"):
                np.testing.assert_array_equal(part[key], full[key][place][:, ::turn])


def test_resize_agrees_with_tensorflow():
    image = RNG.integers(0, 256, (9, 14, 3)).astype(np.uint8)
    data = dataclasses.replace(PLAIN, crop_size=(18, 28), scale_range=(2.0, 2.0))
    label = np.zeros((9, 14), np.uint8)
    ours = host.augment(image, label, np.zeros(34, np.float32), data)["image"]
    np.testing.assert_allclose(ours, tf.image.resize(image, (18, 28)), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale_range": (0.25, 4.0), "max_class_share": 0.4},
        {"base_size": (90, 50)},
        {"base_size": (60, 80), "max_class_share": 1.0},
    ],
)
def test_host_and_device_are_one_function_of_the_draws(settings):
    data = Data(crop_size=(32, 40), **settings)
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (45, 62, 3)).astype(np.uint8)
    label = rng.choice([0, 1, 2, 9, 255], (8, 11)).repeat(6, 0).repeat(6, 1)
    label = label[:45, :62].astype(np.uint8)
    superpixels = rng.integers(0, 70000, (45, 62)).astype(np.int32)
    for draws in rng.uniform(size=(40, 34)).astype(np.float32):
        a = host.augment(image, label, draws, data, superpixels)
        b = augment("device", image, label, draws, data, superpixels=superpixels)
        assert a.keys() == b.keys()
        # In units of 0 to 255.
        np.testing.assert_allclose(a["image"] * 58, b["image"] * 58, atol=1e-3)
        for key in ("label", "superpixels"):
            assert a[key].dtype == b[key].dtype == np.int32
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("on", ON)
def test_draws_are_uniform_and_independent(on):
    draws = draws_of(on, 2000)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    ordered = np.sort(draws, 0)
    # Kolmogorov-Smirnov: 1.95 / √n is exceeded once in a thousand, 2.6 never in 34.
    assert np.abs(ordered - (np.arange(2000) / 2000)[:, None]).max() < 2.6 / 2000**0.5
    correlation = np.corrcoef(draws.T) - np.eye(34)
    assert np.abs(correlation).max() < 5 / 2000**0.5


@pytest.mark.parametrize("on", ON)
def test_scale_is_uniform(on):
    data = dataclasses.replace(PLAIN, scale_range=(0.5, 2.0))
    sizes = sizes_of(on, (1000, 3000), draws_of(on, 2000)[:, 0], data)
    scale = np.sort(sizes[:, 0] / 1000)
    assert scale[0] >= 0.5
    assert scale[-1] <= 2.0
    np.testing.assert_allclose(sizes[:, 1] / 3000, sizes[:, 0] / 1000, atol=1e-3)
    # Kolmogorov-Smirnov: 1.95 / √n is exceeded once in a thousand.
    assert np.abs((scale - 0.5) / 1.5 - np.arange(2000) / 2000).max() < 1.95 / 2000**0.5


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize(
    ("shape", "base", "expected"),
    [
        ((360, 480), (2048, 512), (512, 683)),  # the short edge decides
        ((100, 1000), (2048, 512), (205, 2048)),  # the long edge decides
        ((480, 360), (512, 2048), (683, 512)),  # base_size has no orientation
        ((360, 480), None, (360, 480)),
    ],
)
def test_base_size(on, shape, base, expected):
    data = dataclasses.replace(PLAIN, base_size=base)
    assert tuple(sizes_of(on, shape, np.float32([0.3]), data)[0]) == expected


@pytest.mark.parametrize("on", ON)
def test_crop_is_uniform(on):
    label = np.zeros((30, 36), np.uint8)
    windows = windows_of(on, label, (30, 36), draws_of(on, 2000)[:, 2:24], PLAIN)
    assert (windows[:, 2:] == (24, 32)).all()
    for axis, margin in ((0, 6), (1, 4)):
        counts = np.bincount(windows[:, axis], minlength=margin + 1)
        assert len(counts) == margin + 1
        expected = 2000 / (margin + 1)
        assert np.abs(counts - expected).max() < 4.5 * expected**0.5


@pytest.mark.parametrize("on", ON)
def test_crop_rule_is_honoured(on):
    data = dataclasses.replace(PLAIN, crop_size=(8, 8), max_class_share=0.75)
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    label[:20] = np.where(label[:20] == 0, 255, label[:20])  # half of class 0 is void
    draws = draws_of(on, 500)[:, 2:24]
    windows = windows_of(on, label, (40, 40), draws, data)
    free = dataclasses.replace(data, max_class_share=1.0)

    def passes(window):
        top, left, h, w = window
        counts = np.bincount(label[top : top + h, left : left + w].ravel(), minlength=256)[:255]
        return (counts > 0).sum() > 1 and counts.max() <= 0.75 * counts.sum()

    # The first of eleven that passes is kept, or the last.
    tries = [windows_of(on, label, (40, 40), np.roll(draws, -2 * k, 1), free) for k in range(11)]
    good = np.array([[passes(window) for window in one] for one in tries])
    good[10] = True
    expected = np.stack(tries)[good.argmax(0), np.arange(500)]
    np.testing.assert_array_equal(windows, expected)
    assert 0.03 < good[0].mean() < 0.3
    assert (good.argmax(0) == 10).any()


def test_crop_without_an_alternative_ends():
    data = dataclasses.replace(PLAIN, max_class_share=0.5)
    for label in (np.zeros((50, 60), np.uint8), np.full((50, 60), 255, np.uint8)):
        image = np.zeros((50, 60, 3), np.uint8)
        assert augment("host", image, label, draws_of("host", 1)[0], data)["image"].shape == (
            24,
            32,
            3,
        )


@pytest.mark.parametrize("on", ON)
def test_half_is_mirrored(on):
    data = dataclasses.replace(PLAIN, flip=True)
    label = np.arange(24 * 32, dtype=np.int64).reshape(24, 32) % 200
    label = label.astype(np.uint8)
    image = label[..., None].repeat(3, 2)
    made = [augment(on, image, label, draws, data) for draws in draws_of(on, 400)]
    labels = np.stack([m["label"] for m in made])
    mirrored = (labels == label[:, ::-1]).all((1, 2))
    assert ((labels == label).all((1, 2)) ^ mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / 400**0.5
    assert all((m["image"][..., 0] == m["label"]).all() for m in made)


def test_image_and_label_move_together():
    data = dataclasses.replace(PLAIN, flip=True, scale_range=(0.5, 2.0), max_class_share=0.75)
    # Blocks so wide that a pixel away from their edges keeps its value under bilinear scaling.
    label = RNG.integers(0, 200, (4, 5)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    image = np.stack([label, label // 2, 255 - label], -1)
    made = [augment("host", image, label, draws, data) for draws in draws_of("host", 60)]
    images, labels = (np.stack([m[key] for m in made]) for key in ("image", "label"))
    valid = labels < 255
    exact = (np.abs(images[..., 0] - labels) < 1e-3) & valid
    assert exact.sum() > 0.7 * valid.sum()
    np.testing.assert_allclose(images[..., 2][exact], 255 - labels[exact], atol=1e-2)


@pytest.mark.parametrize("on", ON)
def test_small_image_is_padded_after_normalising(on):
    data = dataclasses.replace(PLAIN, mean=(100.0, 90.0, 80.0), std=(50.0, 40.0, 30.0), flip=True)
    image, label = np.full((10, 12, 3), 7, np.uint8), np.ones((10, 12), np.uint8)
    for draws in draws_of(on, 4):  # mirrored and not
        made = augment(on, image, label, draws, data, superpixels=label.astype(np.int32))
        out = made["image"]
        assert out.dtype == np.float32
        assert made["label"].dtype == made["superpixels"].dtype == np.int32
        assert out.shape == (24, 32, 3)
        np.testing.assert_allclose(
            out[:10, :12], [[((7 - 100) / 50, (7 - 90) / 40, (7 - 80) / 30)] * 12] * 10, rtol=1e-6
        )
        for array, beyond in ((out, 0), (made["label"], 255), (made["superpixels"], -1)):
            assert (array[10:] == beyond).all()
            assert (array[:, 12:] == beyond).all()
        assert (made["label"][:10, :12] == 1).all()
        assert (made["superpixels"][:10, :12] == 1).all()


@pytest.mark.parametrize("on", ON)
def test_normalising_equals_evaluation_bit_for_bit(on):
    data = dataclasses.replace(PLAIN, mean=Data().mean, std=Data().std)
    image = RNG.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    made = augment(on, image, np.zeros((24, 32), np.uint8), draws_of(on, 1)[0], data)
    np.testing.assert_array_equal(made["image"], data.normalization(image))


MANY = 2000


def distorted(on, colour, chance):
    """One colour [MANY, 3] with some of (brightness, contrast, saturation, hue, contrast
    first) pinned: 0 happens, 1 does not, None is left to chance."""
    draws = draws_of(on, MANY)[:, 24:].copy()
    for place, pinned in enumerate(chance):
        if pinned is not None:
            draws[:, place] = pinned
    colour = np.float32(colour)[:, None]
    if on == "device":
        return np.stack(distort_many(list(colour), draws), -1)[:, 0]
    data = tf.data.Dataset.from_tensor_slices(draws)
    data = data.map(lambda d: tf.stack(distort_colours(tf.unstack(colour), d, tf), -1))
    return next(data.batch(MANY).as_numpy_iterator())[:, 0]


distort_many = jax.jit(jax.vmap(functools.partial(distort_colours, xp=jnp), in_axes=(None, 0)))


@pytest.mark.parametrize("on", ON)
def test_brightness(on):
    shift = distorted(on, (100, 120, 140), (0, 1, 1, 1, 1)) - (100, 120, 140)
    np.testing.assert_allclose(shift, shift[:, :1].repeat(3, 1), atol=1e-4)
    assert shift.min() >= -32
    assert shift.max() <= 32
    assert abs(shift.mean()) < 4 * 18.5 / MANY**0.5
    assert abs(shift[:, 0].std() - 64 / 12**0.5) < 1


@pytest.mark.parametrize("on", ON)
def test_contrast(on):
    for first in (0, 1):
        ratio = distorted(on, (100, 120, 140), (1, 0, 1, 1, first)) / (100, 120, 140)
        np.testing.assert_allclose(ratio, ratio[:, :1].repeat(3, 1), rtol=1e-5)
        assert ratio.min() >= 0.5 - 1e-6
        assert ratio.max() <= 1.5 + 1e-6
        assert abs(ratio[:, 0].mean() - 1) < 0.03
        assert abs(ratio[:, 0].std() - 1 / 12**0.5) < 0.015


@pytest.mark.parametrize("on", ON)
def test_contrast_comes_first_or_last(on):
    # 200 × 1.5 is clipped before the saturation falls, or after: it is seen in the result.
    draws = np.float32([[1, 0, 0, 1, first, 0, 1, 0, 0, 0] for first in (0, 1)])
    colour = np.float32([200, 100, 100])
    value, low = 255.0, 150.0
    first = (value, value - (value - low) / 2, value - (value - low) / 2)
    last = np.minimum(np.array([200.0, 150.0, 150.0]) * 1.5, 255)
    for row, expected in zip(draws, (first, last), strict=True):
        channels = [np.full((1, 1), c) for c in colour]
        distort = functools.partial(distort_colours, xp=tf if on == "host" else jnp)
        made = np.ravel(distort(channels, row))
        np.testing.assert_allclose(made, expected, atol=1e-3)


def hsv(rgb):
    return np.array([colorsys.rgb_to_hsv(*(c / 255)) for c in rgb.astype(np.float64)])


@pytest.mark.parametrize("on", ON)
def test_saturation(on):
    out = distorted(on, (100, 120, 140), (1, 1, 0, 1, 1))
    before, after = hsv(np.array([(100, 120, 140)]))[0], hsv(out)
    np.testing.assert_allclose(after[:, [0, 2]], before[[0, 2]][None].repeat(MANY, 0), atol=1e-4)
    ratio = after[:, 1] / before[1]
    assert 0.499 < ratio.min() < 0.51
    assert 1.49 < ratio.max() < 1.501
    assert abs(ratio.mean() - 1) < 0.05


@pytest.mark.parametrize("on", ON)
def test_hue(on):
    out = distorted(on, (140, 120, 118), (1, 1, 1, 0, 1))
    before, after = hsv(np.array([(140, 120, 118)]))[0], hsv(out)
    np.testing.assert_allclose(after[:, 1:], before[None, 1:].repeat(MANY, 0), atol=1e-4)
    turn = (after[:, 0] - before[0] + 0.5) % 1 - 0.5
    assert -0.1 - 1e-4 < turn.min() < -0.099
    assert 0.099 < turn.max() < 0.1 + 1e-4
    assert abs(turn.mean()) < 0.01


@pytest.mark.parametrize("on", ON)
def test_saturation_and_hue_of_every_colour(on):
    """Against colorsys, in every sector of the hue, at greys and where the saturation is full."""
    levels = np.array([0, 1, 90, 128, 200, 255])
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3).astype(np.float32)
    colours = np.concatenate([colours, RNG.uniform(0, 255, (40, 3)).astype(np.float32)])
    xp = tf if on == "host" else jnp

    def change(channels, saturation, turn):
        return from_angle(*to_angle(channels, saturation, turn, xp), xp)

    for saturation, turn in ((1.5, 0.0), (0.5, 0.1), (1.3, -0.1), (1.0, 0.03)):
        saturation, turn = np.float32(saturation), np.float32(turn)
        made = np.stack(change(list(colours.T[:, None]), saturation, turn), -1)[0]
        h, s, v = hsv(colours).T
        expected = [
            colorsys.hsv_to_rgb((x + turn) % 1, min(y * saturation, 1), z)
            for x, y, z in zip(h, s, v, strict=True)
        ]
        np.testing.assert_allclose(made, np.array(expected) * 255, atol=2e-3)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("which", range(4))
def test_each_happens_half_the_time(on, which):
    chance = [1, 1, 1, 1, 1]
    chance[which] = None
    out = distorted(on, (100, 120, 140), chance)
    changed = (np.abs(out - (100, 120, 140)) > 1e-3).any(1)
    assert abs(changed.mean() - 0.5) < 4 * 0.5 / MANY**0.5


@pytest.mark.parametrize("on", ON)
def test_values_stay_in_range(on):
    for colour in ((0, 10, 250), (255, 255, 255), (0, 0, 0)):
        out = distorted(on, colour, (None,) * 5)
        assert out.min() >= 0
        assert out.max() <= 255


@pytest.mark.parametrize("module", [host, device])
def test_seed_epoch_and_index_decide(module):
    def draws(*parts):
        return np.asarray(module.example_draws(*parts))

    np.testing.assert_array_equal(draws(1, 2, 3), draws(1, 2, 3))
    others = [draws(1, 2, 3), draws(0, 2, 3), draws(1, 3, 3), draws(1, 2, 4), draws(1, 3, 2)]
    assert len({o.tobytes() for o in others}) == 5
