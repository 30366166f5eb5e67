"""Cross-entropy against float64 NumPy, and its rules for void."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.losses import CrossEntropy, cross_entropy, total_loss
from sdnjax.losses.cross_entropy import cross_entropy_mean


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


@pytest.mark.parametrize("divisor", ["valid_pixels", "all_pixels"])
def test_class_weights_are_pytorchs(divisor):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (2, 3, 4))
    labels[rng.uniform(size=labels.shape) < 0.3] = 255
    weights = (0.5, 2.0, 0.0, 1.0, 3.0)

    def ours(x):
        loss = CrossEntropy(class_weights=weights, normalize_by=divisor)
        return total_loss((loss,), {"logits": x}, {"label": jnp.asarray(labels)})[0]

    x = torch.tensor(logits.transpose(0, 3, 1, 2), requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        x,
        torch.tensor(labels),
        weight=torch.tensor(weights),
        ignore_index=255,
        reduction="mean" if divisor == "valid_pixels" else "sum",
    )
    expected = expected if divisor == "valid_pixels" else expected / labels.size
    expected.backward()
    value, gradient = jax.value_and_grad(ours)(jnp.asarray(logits))
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, x.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-8)


def test_as_many_class_weights_as_classes():
    with pytest.raises(InputError, match="2 class_weights for 3 classes"):
        cross_entropy_mean(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), int), class_weights=(1, 1))
