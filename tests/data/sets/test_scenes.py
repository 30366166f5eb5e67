import hashlib

import numpy as np
import pytest

from sdnjax.data.sets import label_space
from sdnjax.data.sets.scenes import render_scene


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(3, k) for k in range(60)]


def test_same_bytes_everywhere():
    # The renderer uses raw random bits and correctly rounded float32 operations only.
    digest = hashlib.sha256()
    for index in range(8):
        for array in render_scene(11, index):
            digest.update(array.tobytes())
    assert digest.hexdigest() == "eac719ed33e3030d1c5796ac5dfbdecdbceb04a2512b7f1b81f1384d9f297ad4"


def test_form(scenes):
    for image, label in scenes:
        assert image.shape == (96, 96, 3)
        assert image.dtype == np.uint8
        assert label.shape == (96, 96)
        assert label.dtype == np.uint8
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)
    assert not np.array_equal(render_scene(4, 0)[0], scenes[0][0])


def test_every_class_is_seen(scenes):
    counts = sum(np.bincount(label.ravel(), minlength=6) for _, label in scenes)
    assert len(counts) == label_space("shapes").num_classes
    share = counts / counts.sum()
    assert share.min() > 0.03
    assert share[0] < 0.75


def steps(image, label, axis):
    """Colour distance of neighbours along an axis, and the labels of the two."""
    distance = np.sqrt((np.diff(image.astype(np.float64), axis=axis) ** 2).sum(-1))
    first = np.take(label, range(label.shape[axis] - 1), axis)
    return distance, first, np.take(label, range(1, label.shape[axis]), axis)


def test_texture_is_stronger_than_borders(scenes):
    """The mean Euclidean RGB distance of 4-neighbours is greater where both have one class
    than where their classes differ: over all pixels, and over the objects without ground."""
    everywhere, objects, borders = [], [], []
    for image, label in scenes:
        for axis in (0, 1):
            distance, a, b = steps(image, label, axis)
            everywhere.append(distance[a == b])
            objects.append(distance[(a == b) & (a > 0)])
            borders.append(distance[a != b])
    everywhere, objects, borders = (np.concatenate(x) for x in (everywhere, objects, borders))
    assert everywhere.mean() > borders.mean()
    assert objects.mean() > 1.1 * borders.mean()


def test_mean_colours_differ_less_than_texture(scenes):
    pixels = [np.concatenate([i[l == k] for i, l in scenes]).astype(np.float64) for k in range(6)]
    means = np.stack([p.mean(0) for p in pixels])
    apart = np.linalg.norm(means[:, None] - means[None], axis=-1).max()
    spread = min(np.sqrt(p.var(0).sum()) for p in pixels)
    assert apart < 20
    assert spread > 1.5 * apart


def test_size():
    image, label = render_scene(0, 0, size=(64, 160))
    assert image.shape == (64, 160, 3)
    assert label.shape == (64, 160)
    with pytest.raises(ValueError, match="16×16"):
        render_scene(0, 0, size=(8, 96))
