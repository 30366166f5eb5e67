"""Edge maps against SciPy's distance transforms, class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sdnjax.ops.edges import label_edges


def restated(labels, radius):
    edges = np.zeros(labels.shape, bool)
    for i, label in enumerate(labels):
        padded = np.pad(label, 1, constant_values=255)
        for k in set(np.unique(label)) - {255}:
            m = padded == k
            near = distance_transform_edt(m) + distance_transform_edt(~m) <= radius
            edges[i] |= near[1:-1, 1:-1]
    return edges


def blocks(size, classes=4, void=0.2, grain=3, seed=0):
    """Labels in blocks of a few pixels, some void."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (2, -(-size[0] // grain), -(-size[1] // grain)))
    coarse[rng.random(coarse.shape) < void] = 255
    fine = np.kron(coarse, np.ones((1, grain, grain), int))[:, : size[0], : size[1]]
    return fine.astype(np.int32)


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize(("size", "grain"), [((17, 23), 5), ((20, 9), 1), ((31, 30), 11)])
def test_equals_distance_transforms(size, grain, radius):
    labels = blocks(size, grain=grain)
    found = jax.jit(label_edges, static_argnums=1)(labels, radius)
    np.testing.assert_array_equal(found, restated(labels, radius))


def test_every_class_has_its_borders_class_0_too():
    labels = np.full((1, 12, 12), 255, np.int32)
    labels[0, 3:9, 3:9] = 0
    found = np.asarray(label_edges(jnp.asarray(labels)))
    np.testing.assert_array_equal(found, restated(labels, 2))
    assert found[0, 3, 3] and found[0, 2, 5] and not found[0, 5, 5] and not found[0, 0, 0]


def test_the_image_s_border_is_an_edge_but_not_of_void():
    assert np.asarray(label_edges(jnp.zeros((1, 9, 9), jnp.int32)))[0].sum() == 81 - 25
    assert not np.asarray(label_edges(jnp.full((1, 9, 9), 255))).any()
    assert np.asarray(label_edges(jnp.zeros((1, 1, 1), jnp.int32))).all()


def test_refused():
    with pytest.raises(ValueError, match="radius 0 in labels"):
        label_edges(jnp.zeros((1, 3, 3), jnp.int32), 0)
    with pytest.raises(ValueError, match=r"\[B, H, W\]"):
        label_edges(jnp.zeros((3, 3), jnp.int32))
