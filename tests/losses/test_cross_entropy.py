"""Cross-entropy against float64 NumPy, and its rules for void."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.losses import cross_entropy


def slow(logits, labels, ignore=255):
    total, count = 0.0, 0
    for index in np.ndindex(labels.shape):
        if labels[index] != ignore:
            x = logits[index].astype(np.float64)
            total += np.log(np.exp(x - x.max()).sum()) + x.max() - x[labels[index]]
            count += 1
    return total, count


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (3, 5, 7))
    labels[rng.random(labels.shape) < 0.3] = 255
    labels[0] = 255  # an image that is all void
    return rng.normal(size=(3, 5, 7, 4)).astype(np.float32) * 5, labels


def test_value(batch):
    logits, labels = batch
    total, count = slow(logits, labels)
    assert abs(float(cross_entropy(logits, labels)) - total / count) < 1e-6 * total / count
    every = float(cross_entropy(logits, labels, normalize_by="all_pixels"))
    assert abs(every - total / labels.size) < 1e-6 * total / count


def test_no_valid_pixel_gives_zero_and_zero_gradient(batch):
    logits, labels = batch
    value, gradient = jax.value_and_grad(cross_entropy)(
        jnp.asarray(logits), np.full_like(labels, 255)
    )
    assert float(value) == 0.0
    assert not np.any(gradient)


def test_gradient_is_softmax_minus_one_hot_over_valid_pixels(batch):
    logits, labels = batch
    gradient = np.asarray(jax.grad(cross_entropy)(jnp.asarray(logits), labels))
    wide = logits.astype(np.float64)
    p = np.exp(wide - wide.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    valid = labels != 255
    expected = (p - np.eye(4)[np.where(valid, labels, 0)]) * valid[..., None] / valid.sum()
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_shapes_that_differ_are_refused(batch):
    logits, labels = batch
    with pytest.raises(ValueError, match="differ"):
        cross_entropy(logits, labels[:, 1:])
