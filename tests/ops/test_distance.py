"""Distances on the device against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sdnjax.ops.distance import distance_to

distances = jax.jit(distance_to)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.01])
@pytest.mark.parametrize("size", [(1, 9), (7, 1), (17, 23)])
def test_equal_scipy(size, share):
    rng = np.random.default_rng(0)
    mask = rng.random((3, *size)) < share
    mask[:, 0, 0] = True
    expected = np.stack([distance_transform_edt(~m) for m in mask])
    np.testing.assert_allclose(distances(mask), expected, rtol=1e-6)


def test_one_image_without_anything_is_infinitely_far_from_it():
    mask = np.zeros((2, 5, 8), bool)
    mask[1, 4, 7] = True
    found = distances(jnp.array(mask))
    assert np.isinf(found[0]).all()
    np.testing.assert_allclose(found[1], distance_transform_edt(~mask[1]), rtol=1e-6)
