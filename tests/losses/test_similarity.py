"""The loss that teaches S, against loops over pairs of pixels in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.losses import SimilarityLoss
from tests.ops.oracles import similarity_loop, slope

# Stages of an image of 8×12, the second as large as the first: nothing is resized between them.
SHAPES = {"stage1": (2, 4, 6, 3), "stage2": (2, 4, 6, 5), "stage3": (2, 2, 3, 4)}


def example(seed=0):
    rng = np.random.default_rng(seed)
    outputs = {name: rng.normal(0, 1, shape) for name, shape in SHAPES.items()}
    labels = np.zeros((2, 8, 12), int)
    labels[0, 3:, 5:] = 1
    labels[0, :2, :4] = 255
    labels[1, :, 7:] = 2
    return outputs, labels


def nearest(labels, size):
    step = labels.shape[1] // size[0]
    return labels[:, ::step, ::step]


def restated(guidance, labels, dilation=1):
    """Pair by pair: squares summed where classes are the same, and where they are not."""
    s = similarity_loop(guidance, (3, 3), dilation=dilation, similarity="relative")
    b, h, w = labels.shape
    errors, taps = {True: [], False: []}, list(itertools.product((-1, 0, 1), repeat=2))
    for n, y, x, k in itertools.product(range(b), range(h), range(w), range(9)):
        yy, xx = y + dilation * taps[k][0], x + dilation * taps[k][1]
        if k == 4 or not (0 <= yy < h and 0 <= xx < w):
            continue
        pair = labels[n, y, x], labels[n, yy, xx]
        if 255 not in pair:
            same = pair[0] == pair[1]
            errors[same].append((s[n, y, x, k] - same) ** 2)
    return sum(np.mean(e) for e in errors.values() if e)


def value(loss, outputs, labels):
    outputs = jax.tree.map(jnp.asarray, outputs)
    return sum(m.value() for m in loss(outputs, {"label": jnp.asarray(labels)}).values())


@pytest.mark.parametrize("dilation", [1, 2])
def test_pairs_of_one_class_and_of_two_weigh_alike(dilation):
    outputs, labels = example()
    with jax.enable_x64(True):
        found = value(SimilarityLoss(stages=(1,), dilation=dilation), outputs, labels)
    expected = restated(outputs["stage2"], nearest(labels, (4, 6)), dilation)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_each_stage_has_a_term_of_its_own():
    outputs, labels = example()
    both = {"label": jnp.asarray(labels)}
    terms = SimilarityLoss(stages=(2, 1))(jax.tree.map(jnp.asarray, outputs), both)
    assert list(terms) == ["similarity2", "similarity1"]
    alone = [value(SimilarityLoss(stages=(i,)), outputs, labels) for i in (1, 2)]
    assert value(SimilarityLoss(stages=(1, 2)), outputs, labels) == pytest.approx(sum(alone))
    assert alone[0] != pytest.approx(alone[1])


def test_gradient():
    """Along a direction, in the guidance; the stage that is changed by SDC is not read."""
    outputs, labels = example()
    loss, v = SimilarityLoss(stages=(1,)), outputs["stage2"]
    direction = np.random.default_rng(3).normal(0, 1, v.shape)
    with jax.enable_x64(True):
        grads = jax.grad(lambda o: value(loss, o, labels))(
            {k: jnp.asarray(x) for k, x in outputs.items()}
        )
        expected = slope(
            lambda t: value(loss, {**outputs, "stage2": v + t * direction}, labels), 0.0
        )
    np.testing.assert_allclose(np.vdot(grads["stage2"], direction), expected, rtol=1e-6)
    assert not grads["stage1"].any() and not grads["stage3"].any()


def test_a_guidance_that_knows_the_classes_costs_less():
    """Constant inside each class: S is 1 there, and small between two of them."""
    _, labels = example()
    small = np.where(labels == 255, 0, labels)[:, ::2, ::2, None].astype(np.float32)
    knows = {"stage1": small, "stage2": small}
    blind = {"stage1": small, "stage2": np.zeros_like(small)}
    loss = SimilarityLoss(stages=(1,))
    assert value(loss, knows, labels) < 0.5 * value(loss, blind, labels)
    assert value(loss, blind, labels) == pytest.approx(1)  # S = 1 everywhere


@pytest.mark.parametrize("label", [255, 3])
def test_without_pairs_of_a_kind_nothing_is_divided_by_zero(label):
    outputs, labels = example()
    labels = np.full_like(labels, label)
    loss = SimilarityLoss(stages=(1,))
    found, grad = jax.value_and_grad(lambda v: value(loss, {**outputs, "stage2": v}, labels))(
        jnp.asarray(outputs["stage2"], jnp.float32)
    )
    assert np.isfinite(found) and np.isfinite(grad).all()
    assert (found == 0) == (label == 255)


def test_the_last_stage_has_no_next_one():
    outputs, labels = example()
    with pytest.raises(InputError, match="stage4"):
        value(SimilarityLoss(stages=(3,)), outputs, labels)
