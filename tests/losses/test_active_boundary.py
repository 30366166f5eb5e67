"""The active boundary loss against its released rule, restated pixel by pixel."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sdnjax.losses import ActiveBoundary
from tests.ops.oracles import slope

AROUND = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1), (0, 0))


def kl(p, q):
    return np.sum(p * (np.log(p) - np.log(q)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def restated(scores, labels, *, neighbours=None, budget="image", share=0.01):
    """`neighbours` are the scores that stand for P(p + d), which have no gradient."""
    n, h, w = labels.shape
    there = softmax(scores if neighbours is None else neighbours)
    here = softmax(scores)
    boundary = np.zeros(labels.shape, bool)
    difference = np.zeros(labels.shape)
    for i, y, x in np.ndindex(n, h, w):
        boundary[i, y, x] |= labels[i, y, x] == 255
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < h and u < w:
                boundary[i, y, x] |= labels[i, y, x] != labels[i, v, u]
                difference[i, y, x] += kl(there[i, y, x], there[i, v, u])
    groups = [slice(i, i + 1) for i in range(n)] if budget == "image" else [slice(None)]
    predicted = np.zeros(labels.shape, bool)
    for group in groups:
        k = 0
        while (difference[group] > 1e-5 * 1.2**k).sum() > share * h * w:
            k += 1
        predicted[group] = difference[group] > 1e-5 * 1.2**k
    total, count = 0.0, 0
    for i in range(n):
        if not boundary[i].any():
            continue
        distance = np.maximum(np.floor(distance_transform_edt(~boundary[i]) - 1), 0)
        for y, x in np.ndindex(h, w):
            if not predicted[i, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].any():
                continue
            candidates = [
                distance[y + a, x + b] if 0 <= y + a < h and 0 <= x + b < w else 1e5
                for a, b in AROUND
            ]
            target = int(np.argmin(candidates))
            if target == 8:
                continue
            z = np.array(
                [
                    kl(
                        there[i, min(max(y + a, 0), h - 1), min(max(x + b, 0), w - 1)],
                        here[i, y, x],
                    )
                    for a, b in AROUND[:8]
                ]
            )
            wanted = np.full(8, 0.025)
            wanted[target] = 0.8
            loss = -(wanted * np.log(softmax(z))).sum()
            total, count = total + min(distance[y, x], 20) / 20 * loss, count + 1
    return total / max(count, 1)


def value(loss, scores, labels):
    (mean,) = loss({"logits": scores}, {"label": labels}).values()
    return mean.value()


def example(size=(13, 17), images=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros((images, *size), int)
    labels[:, 3:8, 2:9] = 1
    labels[0, :2, 10:] = 2
    labels[-1, 10:, 12:] = 255
    shifted = np.roll(labels, (2, 3), (1, 2)) % 3
    scores = 2 * np.eye(3)[shifted] + rng.normal(0, 0.3, (images, *size, 3))
    return scores, labels


@pytest.mark.parametrize("budget", ["image", "batch"])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.05, 1.0])
def test_equals_the_released_rule(x64, budget, share):
    scores, labels = example()
    loss = ActiveBoundary(budget=budget, share=share)
    found = jax.jit(partial(value, loss))(scores, labels)
    assert found == pytest.approx(restated(scores, labels, budget=budget, share=share), rel=1e-9)
    assert (found > 0) == (share > 0.001)  # none of 221 pixels may be predicted


def test_gradient_with_detached_neighbours(x64):
    scores, labels = example((6, 7), 1)
    loss = ActiveBoundary(share=0.1)
    gradient = jax.jit(jax.grad(partial(value, loss)))(scores, labels)
    expected = slope(lambda x: restated(x, labels, neighbours=scores, share=0.1), scores, step=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)
    assert np.abs(expected).max() > 1e-4


def test_images_compete_only_where_asked():
    scores, labels = example()
    scores[1] *= 3  # sharper than the other
    outputs, batch = {"logits": jnp.asarray(scores, jnp.float32)}, {"label": labels}
    each, together = (
        ActiveBoundary(budget=budget, share=0.05)(outputs, batch)["active_boundary"].count
        for budget in ("image", "batch")
    )
    assert each > together


@pytest.mark.parametrize("label", [0, 255])
def test_an_image_without_a_boundary_is_0(label):
    scores, labels = example()
    labels[:] = label
    found, gradient = jax.jit(jax.value_and_grad(partial(value, ActiveBoundary())))(
        jnp.asarray(scores, jnp.float32), labels
    )
    assert found == 0 and not gradient.any()


def test_one_pixel_is_0():
    found = value(ActiveBoundary(), jnp.ones((1, 1, 1, 3)), jnp.ones((1, 1, 1), jnp.int32))
    assert found == 0
