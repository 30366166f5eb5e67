"""MaskFormer's loss against a restatement that tries every assignment."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.losses import MaskMatching, maskformer_loss, total_loss
from sdnjax.losses.maskformer import DEFAULT_WEIGHTS, assign, matching_cost
from sdnjax.settings import settings

K, Q, L = 3, 4, 2


@pytest.fixture
def case():
    """Two layers, two images of 9×12 pixels with masks of 4×5; the second image lacks class 1."""
    rng = np.random.default_rng(0)
    classes = rng.normal(size=(L, 2, Q, K + 1))
    masks = 2 * rng.normal(size=(L, 2, Q, 4, 5))
    labels = rng.integers(0, K, (2, 9, 12))
    labels[:, :2] = 255
    labels[1][labels[1] == 1] = 0
    return classes, masks, labels


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def focal(x, t):
    """−α_t (1 − p_t)² log p_t, averaged over pixels."""
    p = sigmoid(x)
    p_t, alpha_t = np.where(t, p, 1 - p), np.where(t, 0.25, 0.75)
    return np.mean(-alpha_t * (1 - p_t) ** 2 * np.log(p_t))


def dice(x, t):
    p = sigmoid(x)
    return 1 - (2 * np.sum(p * t) + 1) / (np.sum(p) + np.sum(t) + 1)


def bilinear(x, size):
    """Half-pixel centres, clamped at the border."""

    def matrix(old, new):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))

    return matrix(x.shape[0], size[0]) @ x @ matrix(x.shape[1], size[1]).T


def by_trial(class_logits, mask_logits, labels, weights=DEFAULT_WEIGHTS):
    """Loss and terms, by trying every assignment."""
    w = weights
    present = [[k for k in range(K) if np.any(y == k)] for y in labels]
    count = max(sum(map(len, present)), 1)
    terms = {"classes": 0.0, "mask": 0.0, "dice": 0.0}
    rows, columns = np.arange(4) * 9 // 4, np.arange(5) * 12 // 5
    for scores, masks in zip(class_logits, mask_logits, strict=True):
        numerator = denominator = 0.0
        for score, mask, y, found in zip(scores, masks, labels, present, strict=True):
            log_p = score - np.log(np.sum(np.exp(score), axis=-1, keepdims=True))
            small = y[rows][:, columns]

            def cost(q, k, log_p=log_p, mask=mask, small=small):
                x, t = mask[q], small == k
                return w.mask * focal(x, t) + w.dice * dice(x, t) - w.classes * np.exp(log_p[q, k])

            best = min(
                itertools.permutations(range(Q), len(found)),
                key=lambda qs, cost=cost, found=found: sum(map(cost, qs, found)),
            )
            target = dict(zip(best, found, strict=True))
            for q in range(Q):
                weight = 1.0 if q in target else w.no_object
                numerator -= weight * log_p[q, target.get(q, K)]
                denominator += weight
            for q, k in target.items():
                x = bilinear(mask[q], y.shape)
                terms["mask"] += w.mask * focal(x, y == k) / count
                terms["dice"] += w.dice * dice(x, y == k) / count
        terms["classes"] += w.classes * numerator / denominator
    return sum(terms.values()), terms


def test_equals_the_definition(case, x64):
    loss, terms = jax.jit(maskformer_loss)(*case)
    expected, their_terms = by_trial(*case)
    assert abs(loss - expected) < 1e-12 * expected
    for name, value in their_terms.items():
        assert abs(terms[name] - value) < 1e-12 * expected, name


def test_every_weight_of_the_setting_changes_the_loss(case, x64):
    classes, masks, labels = case
    outputs = {"class_logits": jnp.asarray(classes), "mask_logits": jnp.asarray(masks)}
    own = MaskMatching(weight=3.0, classes=9.0, dice=5.0, mask=2.0, no_object=0.4)
    assert all(getattr(own, s.key) != getattr(DEFAULT_WEIGHTS, s.key) for s in settings(own))
    loss, terms = jax.jit(lambda *x: total_loss([own], *x))(outputs, {"label": labels})
    expected, their_terms = by_trial(*case, own)
    np.testing.assert_allclose(loss, 3 * expected, rtol=1e-12)
    for name, value in their_terms.items():
        np.testing.assert_allclose(terms[f"loss_{name}"], value, rtol=1e-12)


def test_costs_are_those_of_the_definition(case, x64):
    """All of them: an assignment may be right for costs that are not."""
    classes, masks, labels = case
    number = np.array([[2, 0, 1], [0, 1, 2]])
    w = MaskMatching(classes=9.0, dice=5.0, mask=2.0)
    found = np.asarray(jax.jit(lambda *x: matching_cost(*x, w))(classes, masks, labels, number))
    p = np.exp(classes) / np.exp(classes).sum(-1, keepdims=True)
    small = labels[:, np.arange(4) * 9 // 4][:, :, np.arange(5) * 12 // 5]
    for layer, image, q, n in np.ndindex(L, 2, Q, K):
        k, x = number[image, n], masks[layer, image, q]
        t = small[image] == k
        expected = 2 * focal(x, t) + 5 * dice(x, t) - 9 * p[layer, image, q, k]
        np.testing.assert_allclose(found[layer, image, q, n], expected, rtol=1e-12)


def test_gradient_is_that_of_differences(case, x64):
    classes, masks, labels = case
    rng = np.random.default_rng(1)
    d_classes, d_masks = rng.normal(size=classes.shape), rng.normal(size=masks.shape)

    def along(t):
        return maskformer_loss(classes + t * d_classes, masks + t * d_masks, labels)[0]

    value_and_slope = jax.jit(jax.value_and_grad(along))
    (_, slope), step = value_and_slope(0.0), 1e-5
    differences = (value_and_slope(step)[0] - value_and_slope(-step)[0]) / (2 * step)
    assert abs(slope - differences) < 1e-7 * abs(slope), (slope, differences)


def test_void_images_and_wild_scores(case):
    classes, masks, labels = (jnp.asarray(x) for x in case)
    classes, masks = classes.astype(jnp.float32), masks.astype(jnp.float32)
    void = jnp.full_like(labels, 255)
    value_and_gradient = jax.jit(
        jax.value_and_grad(lambda c, m, y: maskformer_loss(c, m, y)[0], argnums=(0, 1))
    )
    loss, (to_classes, to_masks) = value_and_gradient(classes, masks, void)
    expected = -jnp.sum(jnp.mean(jax.nn.log_softmax(classes)[..., -1], axis=(1, 2)))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.all(np.asarray(to_masks) == 0) and np.any(np.asarray(to_classes))
    far = masks.at[0, 0, 0, 0, 0].set(300.0).at[0, 0, 1, 0, 0].set(-300.0)
    loss, gradients = value_and_gradient(classes, far, labels)
    assert np.isfinite(loss) and all(np.all(np.isfinite(g)) for g in gradients)


def test_more_masks_than_queries_and_costs_that_are_not_finite():
    cost = np.array([[3.0, np.nan, 1.0, 2.0], [1.0, 0.5, np.inf, 9.0]], np.float32)[None, None]
    query = assign(jnp.asarray(cost), jnp.asarray([[True, True, True, False]]))
    # 1.0 + 0.5; mask 0 goes without a query, mask 3 is not there.
    np.testing.assert_array_equal(query, [[[-1, 1, 0, -1]]])


def test_sharded_batch_gives_the_same(case):
    classes, masks, labels = case
    four = [np.concatenate([x, x], axis=a) for x, a in ((classes, 1), (masks, 1), (labels, 0))]
    four = [four[0].astype(np.float32), four[1].astype(np.float32), four[2]]
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((4,), ("data",), axis_types=auto, devices=jax.devices()[:4])
    spec = jax.sharding.PartitionSpec
    places = [spec(None, "data"), spec(None, "data"), spec("data")]
    shards = [
        jax.device_put(x, jax.sharding.NamedSharding(mesh, place))
        for x, place in zip(four, places, strict=True)
    ]
    gradient = jax.jit(jax.value_and_grad(lambda c, m, y: maskformer_loss(c, m, y)[0]))
    one, many = gradient(*four), gradient(*shards)
    np.testing.assert_allclose(one[0], many[0], rtol=1e-6)
    np.testing.assert_allclose(one[1], many[1], rtol=1e-4, atol=1e-7)


def test_mistakes_are_named(case):
    classes, masks, labels = case
    with pytest.raises(ValueError, match="differ"):
        maskformer_loss(classes[:1], masks, labels)
