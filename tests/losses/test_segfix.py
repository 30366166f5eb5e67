"""SegFix's loss and the meaning of its network's outputs, restated in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import SegFixLoss, total_loss
from sdnjax.models import ECRF, JointCRF, Model, Neck, SegFixNet
from sdnjax.recipe import own_losses
from tests.ops.oracles import slope


def resized(x, size):
    """Bilinear, corners on corners, one pixel after the other."""
    h, w = x.shape[:2]
    out = np.zeros((*size, x.shape[2]))
    for i, j in np.ndindex(*size):
        y, z = (k * (n - 1) / max(m - 1, 1) for k, n, m in ((i, h, size[0]), (j, w, size[1])))
        a, b = min(int(y), max(h - 2, 0)), min(int(z), max(w - 2, 0))
        c, d = min(a + 1, h - 1), min(b + 1, w - 1)
        upper = (1 - (z - b)) * x[a, b] + (z - b) * x[a, d]
        lower = (1 - (z - b)) * x[c, b] + (z - b) * x[c, d]
        out[i, j] = (1 - (y - a)) * upper + (y - a) * lower
    return out


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def weighted(losses, labels, classes):
    """Σ w l / Σ w, w = 1 − n_c/Σn, over the pixels whose label is not None."""
    pixels = [
        (loss, label) for loss, label in zip(losses, labels, strict=True) if label is not None
    ]
    counts = [sum(label == c for _, label in pixels) for c in range(classes)]
    w = [1 - n / max(sum(counts), 1) for n in counts]
    total = sum(w[label] * loss[label] for loss, label in pixels)
    weight = sum(w[label] for _, label in pixels)
    return total / weight if weight else 0.0


def restated(boundary, direction, codes, *, factor=1.0, threshold=0.5, near=None):
    """`near` are the boundary's logits that decide where directions count."""
    size = codes.shape[1:]
    losses = {"boundary": [], "direction": []}
    labels = {"boundary": [], "direction": []}
    for n in range(len(codes)):
        b, d, at = (
            resized(x[n], size) for x in (boundary, direction, boundary if near is None else near)
        )
        for i, j in np.ndindex(*size):
            code = codes[n, i, j]
            losses["boundary"].append(-np.log(softmax(b[i, j])))
            losses["direction"].append(-np.log(softmax(d[i, j])))
            known = code != 255
            counts = known and softmax(at[i, j])[1] > threshold
            labels["boundary"].append(code // 8 if known else None)
            labels["direction"].append(code % 8 if counts else None)
    return weighted(losses["boundary"], labels["boundary"], 2) + factor * weighted(
        losses["direction"], labels["direction"], 8
    )


def example(seed=0, images=2, small=(4, 5), size=(9, 11)):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 13, (images, *size))  # three codes are absent
    codes[rng.random(codes.shape) < 0.2] = 255
    return (
        rng.normal(0, 1, (images, *small, 2)),
        rng.normal(0, 1, (images, *small, 8)),
        codes,
    )


def value(loss, boundary, direction, codes):
    outputs = {"boundary": boundary, "direction": direction}
    return total_loss((loss,), outputs, {"label": codes})[0]


def compiled(boundary, direction, codes):
    return float(jax.jit(functools.partial(value, SegFixLoss()))(boundary, direction, codes))


@pytest.mark.parametrize("how", [{}, {"direction": 0.3}, {"threshold": 0.7}, {"weight": 2.0}])
def test_equals_the_statement(x64, how):
    boundary, direction, codes = example()
    loss = SegFixLoss(**how)
    found = jax.jit(functools.partial(value, loss))(boundary, direction, codes)
    expected = loss.weight * restated(
        boundary, direction, codes, factor=loss.direction, threshold=loss.threshold
    )
    assert float(found) == pytest.approx(expected, rel=1e-10)
    plain = restated(boundary, direction, codes)
    assert bool(how) != (float(found) == pytest.approx(plain, rel=1e-6))


def test_gradients(x64):
    boundary, direction, codes = example(1, images=1, small=(2, 3), size=(5, 4))
    loss = SegFixLoss()
    gradients = jax.jit(jax.grad(functools.partial(value, loss), (0, 1)))(
        boundary, direction, codes
    )
    of_boundary = slope(lambda x: restated(x, direction, codes, near=boundary), boundary, step=1e-6)
    of_direction = slope(lambda x: restated(boundary, x, codes), direction, step=1e-6)
    np.testing.assert_allclose(gradients[0], of_boundary, rtol=0, atol=1e-8)
    np.testing.assert_allclose(gradients[1], of_direction, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "codes",
    [np.full((1, 3, 4), 255), np.full((1, 3, 4), 3), np.full((1, 1, 1), 9)],
    ids=["void", "one class", "one pixel"],
)
def test_nothing_to_weigh_is_no_loss(codes):
    boundary, direction, _ = example(2, images=1, small=codes.shape[1:])
    loss = functools.partial(value, SegFixLoss())
    found, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(boundary, direction, codes)
    assert float(found) == 0
    assert all(np.isfinite(g).all() for g in gradients)


def test_an_image_of_void_changes_nothing(x64):
    """Shares are the batch's: of the batch, not of the mean of its images."""
    boundary, direction, codes = example(3, images=3)
    codes[2] = 255
    all_three, first = (compiled(boundary[:n], direction[:n], codes[:n]) for n in (3, 2))
    assert all_three == pytest.approx(first, rel=1e-12)
    halves = [compiled(*(x[i : i + 1] for x in (boundary, direction, codes))) for i in range(2)]
    assert first != pytest.approx(np.mean(halves), rel=1e-4)


class Branches(nn.Module):
    """Two maps at strides 4 and 8 in the place of HRNet's four."""

    @nn.compact
    def __call__(self, x, *, train):
        fine = nn.Conv(6, (3, 3), strides=4)(x)
        return fine, nn.Conv(12, (3, 3), strides=2)(fine)


def outputs_of_a_small_network():
    net = SegFixNet(16, Branches())
    images = jax.random.normal(jax.random.key(0), (2, 33, 46, 3))
    found, variables = jax.jit(lambda x: net.init_with_output(jax.random.key(1), x, train=True))(
        images
    )
    return net, found, variables


def test_the_logits_are_those_of_both_heads():
    """The marginals are the boundary's resized probabilities and the direction's resized logits."""
    net, found, variables = outputs_of_a_small_network()
    assert found["boundary"].shape == (2, 9, 12, 2) and found["direction"].shape == (2, 9, 12, 8)
    assert found["logits"].shape == (2, 33, 46, 16) and net.logits_from == "logits"
    p = np.asarray(jax.nn.softmax(found["logits"], -1), np.float64).reshape(2, 33, 46, 2, 8)
    for n in range(2):
        boundary, direction = (
            np.asarray(found[k][n], np.float64) for k in ("boundary", "direction")
        )
        np.testing.assert_allclose(p[n].sum(-1), resized(softmax(boundary), (33, 46)), atol=1e-5)
        np.testing.assert_allclose(p[n].sum(-2), softmax(resized(direction, (33, 46))), atol=1e-5)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes["boundary"]["conv"]["conv"]["kernel"] == (1, 1, 18, 256)
    assert shapes["direction"]["out"] == {"kernel": (1, 1, 256, 8)}
    assert set(variables["params"]) == {"backbone", "boundary", "direction"}


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"predicts 16 directions, not 19 classes: data\.name"):
        Experiment(model=Model("segfix_hr18s")).build(19).abstract_state()
    parts = {"neck": Neck("sdc"), "context": ECRF(), "refine": JointCRF()}
    for part, module in parts.items():
        with pytest.raises(InputError, match=f"{part} does not fit SegFix"):
            Model("segfix_hr18s", **{part: module}).build(16)
    assert {"neck", "dropout", "align_corners"} <= Model("segfix_hr18").unused().keys()
    network = Model("segfix_hr18s").build(16)
    assert own_losses(network) == (SegFixLoss(),)
    assert network.backbone.align_corners and network.backbone.width == 18
    assert Model("segfix_hr48", dtype="bfloat16").build(16).backbone.dtype == jnp.bfloat16
    assert dataclasses.replace(Experiment(), model=Model("segfix_hr48")).resolved().losses == (
        SegFixLoss(),
    )
