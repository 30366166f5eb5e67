"""Losses of pixels against float64 restatements; void, absent classes, halves of a batch."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.losses import (
    BoundaryWeighted,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    Tversky,
    effective_number,
    inverse_log,
    shares_of,
)
from sdnjax.losses.boundary_weighted import near_boundary
from tests.ops.oracles import slope

WEIGHTS = (0.5, 2.0, 1.0, 0.0)
K = 4


def example(images=3, size=(3, 4), void=True, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (images, *size, K))
    labels = rng.integers(0, K - 1, (images, *size))  # the last class does not occur
    if void:
        labels[rng.random(labels.shape) < 0.2] = 255
    return scores, labels


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def each_image(loss):
    """The mean over images of a function of one."""
    return lambda scores, labels: np.mean(
        [loss(s, y) for s, y in zip(scores, labels, strict=True) if (y != 255).any()]
    )


def cross_entropy(scores, labels, smoothing=0.0, weights=(1,) * K):
    valid, w = labels != 255, np.array(weights)
    logp, y = np.log(softmax(scores[valid])), labels[valid]
    losses = (1 - smoothing) * w[y] * -logp[np.arange(len(y)), y]
    losses += smoothing / K * (w * -logp).sum(-1)
    return losses.sum() / w[y].sum()


def dice(scores, labels, activation=softmax, squared=True, masked=True):
    valid = labels != 255
    p = activation(scores) * (valid[..., None] if masked else 1)
    t = np.eye(K)[np.where(valid, labels, 0)] * valid[..., None]
    if squared:
        return 1 - 2 * (p * t).sum() / ((p * p).sum() + t.sum() + 2e-3)
    return 1 - (2 * (p * t).sum() + 1e-3) / (p.sum() + t.sum() + 1e-3)


def tversky(scores, labels, alpha=0.3, beta=0.7, weights=(1,) * K):
    valid, total = labels != 255, 0
    p = softmax(scores)
    for k in range(K):
        own = (labels == k)[valid]
        tp, fp = p[valid][own, k].sum(), p[valid][~own, k].sum()
        fn = (1 - p[valid][own, k]).sum()
        total += weights[k] * (1 - (tp + 1) / (tp + alpha * fp + beta * fn + 1))
    return total / K


def focal(scores, labels, weights=(1,) * K, all_pixels=False):
    total = 0.0
    for s, y in zip(scores.reshape(-1, K), labels.ravel(), strict=True):
        for k in range(K):
            if y != 255:
                p = 1 / (1 + np.exp(-s[k]))
                q, a = (p, 0.25) if y == k else (1 - p, 0.75)
                total -= weights[k] * a * (1 - q) ** 1.5 * np.log(q)
    return total / K / (labels.size if all_pixels else (labels != 255).sum())


def focal_softmax(scores, labels):
    valid = labels != 255
    p = softmax(scores[valid])[np.arange(valid.sum()), labels[valid]]
    return np.mean(-((1 - p) ** 2) * np.log(p))


def ohem(scores, labels, *, threshold=0.3, kept=8, per_image=True, divisor="kept"):
    parts = zip(scores, labels, strict=True) if per_image else [(scores, labels)]
    n = kept if per_image else kept * len(scores)
    total, count = 0.0, 0
    for s, y in parts:
        valid = y != 255
        if not valid.any():
            continue
        p = softmax(s[valid])[np.arange(valid.sum()), y[valid]]
        order = np.sort(p)
        if threshold is None:
            hard = p <= order[min(n, len(p)) - 1]
        else:
            hard = p < max(order[min(n, len(p) - 1)], threshold)
        total, count = total - np.log(p[hard]).sum(), count + hard.sum()
    divisors = {"kept": count, "valid_pixels": (labels != 255).sum(), "all_pixels": labels.size}
    return total / divisors[divisor]


def lovasz(scores, labels, present=True, weights=(1,) * K):
    valid = labels != 255
    p, y = softmax(scores[valid]), labels[valid]
    losses = []
    for k in range(K):
        own = (y == k).astype(float)
        if present and not own.any():
            continue
        error = np.abs(own - p[:, k])
        loss, before = 0.0, 0.0
        wrong = np.zeros(len(y), bool)
        for i in np.argsort(-error, kind="stable"):
            wrong[i] = True
            right = (own * ~wrong).sum()
            now = 1 - right / (own.sum() + (wrong * (1 - own)).sum())
            loss, before = loss + error[i] * (now - before), now
        losses.append(weights[k] * loss)
    return np.mean(losses)


def boundary_weighted(scores, labels, radius=1, factor=5.0):
    n, h, w = labels.shape
    weights = np.ones(labels.shape)
    for i, y, x in np.ndindex(n, h, w):
        for dy, dx in np.ndindex(2 * radius - 1, 2 * radius - 1):
            v, u = y + dy - radius + 1, x + dx - radius + 1
            if not (0 <= v < h and 0 <= u < w) or labels[i, v, u] == 255:
                continue
            for a, b in ((v + 1, u), (v - 1, u), (v, u + 1), (v, u - 1)):
                if 0 <= a < h and 0 <= b < w and labels[i, a, b] not in (255, labels[i, v, u]):
                    weights[i, y, x] = factor
    valid = labels != 255
    logp = np.log(softmax(scores[valid]))[np.arange(valid.sum()), labels[valid]]
    return -(weights[valid] * logp).sum() / weights[valid].sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


CASES = [
    (CrossEntropy(label_smoothing=0.1), partial(cross_entropy, smoothing=0.1)),
    (
        CrossEntropy(label_smoothing=0.2, class_weights=WEIGHTS),
        partial(cross_entropy, smoothing=0.2, weights=WEIGHTS),
    ),
    (Dice(), each_image(dice)),
    (Dice(squared=False), each_image(partial(dice, squared=False))),
    (
        Dice(activation="sigmoid", void="counted"),
        each_image(partial(dice, activation=sigmoid, masked=False)),
    ),
    (Tversky(), each_image(tversky)),
    (
        Tversky(alpha=0.5, beta=0.5, class_weights=WEIGHTS),
        each_image(partial(tversky, alpha=0.5, beta=0.5, weights=WEIGHTS)),
    ),
    (Focal(alpha=0.25, gamma=1.5), focal),
    (
        Focal(alpha=0.25, gamma=1.5, class_weights=WEIGHTS, normalize_by="all_pixels"),
        partial(focal, weights=WEIGHTS, all_pixels=True),
    ),
    (Focal(activation="softmax"), focal_softmax),
    (Ohem(threshold=0.3, kept=8), ohem),
    (
        Ohem(threshold=0.05, kept=5, over="batch", normalize_by="all_pixels"),
        partial(ohem, threshold=0.05, kept=5, per_image=False, divisor="all_pixels"),
    ),
    (
        Ohem(threshold=None, kept=6, normalize_by="valid_pixels"),
        partial(ohem, threshold=None, kept=6, divisor="valid_pixels"),
    ),
    (Lovasz(), each_image(lovasz)),
    (Lovasz(over="batch", class_weights=WEIGHTS), partial(lovasz, weights=WEIGHTS)),
    (Lovasz(classes="all"), each_image(partial(lovasz, present=False))),
    (BoundaryWeighted(radius=1), boundary_weighted),
    (
        BoundaryWeighted(radius=2, boundary_weight=3.0),
        partial(boundary_weighted, radius=2, factor=3),
    ),
]
NAMES = [f"{type(loss).__name__}{i}" for i, (loss, _) in enumerate(CASES)]


def value(loss, scores, labels):
    (mean,) = loss({"logits": scores}, {"label": labels}).values()
    return mean.value()


# Compiled once for each loss and shape: op by op, every primitive would be compiled on its own.
value_and_gradient = partial(jax.jit, static_argnums=0)(jax.value_and_grad(value, argnums=1))


@partial(jax.jit, static_argnums=0)
def mean_of(loss, outputs, labels):
    (mean,) = loss(outputs, {"label": labels}).values()
    return mean


@pytest.mark.parametrize(("loss", "restated"), CASES, ids=NAMES)
def test_value_and_gradient_equal_the_restatement(x64, loss, restated):
    scores, labels = example()
    labels[1] = 255  # an image of nothing but void
    found, gradient = value_and_gradient(loss, scores, labels)
    assert found == pytest.approx(restated(scores, labels), rel=1e-12)
    expected = slope(lambda x: restated(x, labels), scores)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("loss", [loss for loss, _ in CASES], ids=NAMES)
def test_nothing_but_void_is_0_and_moves_nothing(loss):
    scores, labels = example()
    labels[:] = 255
    counted = Dice(activation="sigmoid", void="counted")
    found, gradient = value_and_gradient(loss, jnp.asarray(scores, jnp.float32), labels)
    assert found == 0 and (not gradient.any() or loss == counted)


@pytest.mark.parametrize("loss", [loss for loss, _ in CASES], ids=NAMES)
def test_one_pixel_is_finite(loss):
    for label in (0, 3, 255):
        scores = jnp.array([[[[3.0, -80.0, 2.0, 90.0]]]])
        found, gradient = value_and_gradient(loss, scores, jnp.array([[[label]]]))
        assert np.isfinite(found) and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [loss for loss, _ in CASES], ids=NAMES)
def test_a_batch_is_the_merge_of_its_halves(loss):
    """Unless it says that it ranks the whole batch."""
    if getattr(loss, "over", "image") == "batch":
        pytest.skip("ranks the whole batch")
    scores, labels = example(4)
    scores = jnp.asarray(scores, jnp.float32)
    whole = mean_of(loss, {"logits": scores}, labels)
    halves = [mean_of(loss, {"logits": scores[i : i + 2]}, labels[i : i + 2]) for i in (0, 2)]
    merged = halves[0].merge(halves[1])
    np.testing.assert_allclose(merged.value(), whole.value(), rtol=2e-6)
    np.testing.assert_allclose(merged.count, whole.count, rtol=1e-6)


@pytest.mark.parametrize("kind", sorted({type(loss) for loss, _ in CASES}, key=str), ids=str)
def test_each_setting_changes_the_value(kind):
    """A wiring test: no setting is without effect where it may have one."""
    scores, labels = example(2, (9, 11))
    outputs = {
        "logits": jnp.asarray(scores, jnp.float32),
        "auxiliary": jnp.asarray(scores / 2, jnp.float32),
    }
    others = {
        "on": "auxiliary",
        "normalize_by": "all_pixels",
        "class_weights": WEIGHTS,
        "label_smoothing": 0.3,
        "squared": False,
        "void": "counted",
        "epsilon": 1.0,
        "alpha": 0.9,
        "beta": 0.2,
        "smooth": 3.0,
        "gamma": 4.0,
        "threshold": 0.1,
        "kept": 40,
        "over": "batch",
        "classes": "all",
        "radius": 2,
        "of_classes": (0, 2),
        "boundary_weight": 9.0,
        "activation": "sigmoid",
    }
    base = kind()
    if kind is Ohem:
        base = Ohem(threshold=None, kept=7)
    if kind is Focal:
        others["activation"] = "softmax"

    def found(loss):
        return float(mean_of(loss, outputs, labels).value())

    for field in dataclasses.fields(kind):
        if field.name != "weight":
            changed = dataclasses.replace(base, **{field.name: others[field.name]})
            assert found(changed) != found(base), field.name


def test_pixels_near_a_boundary():
    labels = np.zeros((1, 3, 8), np.int32)
    labels[..., 4:] = 1
    assert np.flatnonzero(near_boundary(labels, 1)[0, 1]).tolist() == [3, 4]
    assert np.flatnonzero(near_boundary(labels, 3)[0, 1]).tolist() == [1, 2, 3, 4, 5, 6]
    labels[..., 3] = 255  # void makes no boundary
    assert not near_boundary(labels, 3).any()


def test_weights_of_classes(tmp_path):
    shares = (0.5, 0.25, 0.25, 0.0)
    np.testing.assert_allclose(inverse_log(shares)[0], 1 / np.log(1.52))
    assert inverse_log(shares)[3] == pytest.approx(1 / np.log(1.02))
    weights = effective_number(shares, 1000, 0.999)
    assert weights[3] == 0 and sum(weights) == pytest.approx(3)
    expected = (1 - 0.999**250) / (1 - 0.999**500)
    assert weights[0] / weights[1] == pytest.approx(expected)
    assert effective_number(shares, 10, 0.0) == (1, 1, 1, 0)
    report = tmp_path / "train.json"
    report.write_text('{"classes": [{"class": "a", "share": 0.75}, {"class": "b", "share": 0.25}]}')
    assert shares_of(report) == (0.75, 0.25)
    for text in ("", "{}", '{"classes": [1]}'):
        report.write_text(text)
        with pytest.raises(InputError, match="is not what"):
            shares_of(report)
    with pytest.raises(InputError, match="no class occurs"):
        inverse_log((0.0, 0.0))
    with pytest.raises(InputError, match=r"beta must lie in \[0, 1\)"):
        effective_number(shares, 10, 1.0)
