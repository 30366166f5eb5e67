"""DenseCRF against the public C++ code, where its Python package is installed (pydensecrf2)."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sdnjax.inference.dense_crf import DenseCRF

densecrf = pytest.importorskip("pydensecrf.densecrf")


def public_marginals(crf, probabilities, picture):
    h, w, k = probabilities.shape
    theirs = densecrf.DenseCRF2D(w, h, k)
    energy = -np.log(np.clip(probabilities, 1e-5, 1)).reshape(-1, k).T
    theirs.setUnaryEnergy(np.ascontiguousarray(energy))
    theirs.addPairwiseGaussian(sxy=crf.position_sigma, compat=crf.position_weight)
    theirs.addPairwiseBilateral(
        sxy=crf.bilateral_sigma_xy,
        srgb=crf.bilateral_sigma_rgb,
        rgbim=np.ascontiguousarray(picture),
        compat=crf.bilateral_weight,
    )
    return np.array(theirs.inference(crf.iterations)).T.reshape(h, w, k)


def frame(h, w, k, seed=0):
    """A picture of a few smooth regions with grain, and probabilities that nearly know them."""
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.normal(size=(h, w)), h / 12) for _ in range(k)], -1)
    regions = fields.argmax(axis=-1)
    picture = rng.integers(30, 226, (k, 3))[regions] + rng.normal(0, 4, (h, w, 3))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    blurred = np.stack(
        [gaussian_filter((regions == c).astype(float), 3) for c in range(k)], axis=-1
    )
    scores = 6 * blurred + gaussian_filter(rng.normal(0, 4, (h, w, k)), (3, 3, 0))
    p = np.exp(scores)
    return (p / p.sum(axis=-1, keepdims=True)).astype(np.float32), picture


@pytest.mark.parametrize(
    "size",
    [(41, 67), pytest.param((360, 480), marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    ("crf", "atol"),
    [(dataclasses.replace(DenseCRF(), iterations=10), 5e-6), (DenseCRF.voc(), 5e-5)],
)
def test_equals_the_public_code(size, crf, atol):
    p, picture = frame(*size, 11)
    wanted = public_marginals(crf, p, picture)
    found = crf.marginals(p, picture)
    np.testing.assert_allclose(found, wanted, atol=atol)
    np.testing.assert_array_equal(found.argmax(axis=-1), wanted.argmax(axis=-1))
    assert np.abs(wanted - p).max() > 0.1
