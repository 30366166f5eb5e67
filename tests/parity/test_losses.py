"""Losses against mmsegmentation's own modules, in value and gradient."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.losses import CrossEntropy, Dice, Focal, Lovasz, Ohem, Tversky
from tests.parity.mmseg_reference import mmseg_module, torch

losses = mmseg_module("mmseg.models.losses")
samplers = mmseg_module("mmseg.structures.sampler")
focal_loss = mmseg_module("mmseg.models.losses.focal_loss")

K = 5
WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.25]


def theirs_ohem(scores, labels, thresh, kept):
    """The sampler's weights in their cross-entropy, which divides by all pixels."""

    class Head:
        ignore_index = 255
        loss_decode = losses.CrossEntropyLoss()

    sampler = samplers.OHEMPixelSampler(Head(), thresh=thresh, min_kept=kept)
    weight = sampler.sample(scores, labels[:, None])
    return Head.loss_decode(scores, labels, weight=weight, ignore_index=255)


def theirs_focal(scores, labels):
    """Their sigmoid form of matrices; the module's own path on the CPU takes one class alone."""
    flat = scores.permute(0, 2, 3, 1).reshape(-1, K)
    y = labels.reshape(-1)
    valid = (y != 255)[:, None]
    target = torch.nn.functional.one_hot(torch.where(y == 255, 0, y), K)
    return focal_loss.py_sigmoid_focal_loss(
        flat, target, gamma=2.0, alpha=0.25, class_weight=WEIGHTS, valid_mask=valid
    )


PAIRS = {
    # mmseg's own cross-entropy cannot have weights of classes and void.
    "label smoothing, weights": (
        CrossEntropy(class_weights=tuple(WEIGHTS), label_smoothing=0.1),
        lambda s, y: torch.nn.functional.cross_entropy(
            s, y, s.new_tensor(WEIGHTS), ignore_index=255, label_smoothing=0.1
        ),
    ),
    "dice": (
        Dice(activation="sigmoid", void="counted"),
        losses.DiceLoss(),
    ),
    "dice, softmax, naive": (
        Dice(squared=False, void="counted"),
        losses.DiceLoss(use_sigmoid=False, naive_dice=True),
    ),
    "tversky": (
        Tversky(class_weights=tuple(WEIGHTS)),
        losses.TverskyLoss(class_weight=WEIGHTS),
    ),
    "focal": (
        Focal(alpha=0.25, class_weights=tuple(WEIGHTS), normalize_by="all_pixels"),
        theirs_focal,
    ),
    "lovasz": (
        Lovasz(over="batch", class_weights=tuple(WEIGHTS)),
        losses.LovaszLoss(reduction="none", class_weight=WEIGHTS),
    ),
    "lovasz, by image": (Lovasz(), losses.LovaszLoss(per_image=True)),
    "ohem": (
        Ohem(threshold=0.3, kept=20, over="batch", normalize_by="all_pixels"),
        lambda s, y: theirs_ohem(s, y, 0.3, 20),
    ),
    "ohem, few below the threshold": (
        Ohem(threshold=0.01, kept=30, over="batch", normalize_by="all_pixels"),
        lambda s, y: theirs_ohem(s, y, 0.01, 30),
    ),
    "ohem, count alone": (
        Ohem(threshold=None, kept=25, over="batch", normalize_by="all_pixels"),
        lambda s, y: theirs_ohem(s, y, None, 25),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_value_and_gradient(name):
    ours, theirs = PAIRS[name]
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (3, 9, 11, K)).astype(np.float32)
    labels = rng.integers(0, K - 1, (3, 9, 11))
    labels[rng.random(labels.shape) < 0.15] = 255
    tensor = torch.from_numpy(scores.transpose(0, 3, 1, 2).copy()).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(tensor, torch.from_numpy(labels))
    expected.sum().backward()

    def value(scores):
        (mean,) = ours({"logits": scores}, {"label": jnp.asarray(labels, jnp.int32)}).values()
        return mean.value()

    found, gradient = jax.jit(jax.value_and_grad(value))(jnp.asarray(scores))
    np.testing.assert_allclose(found, expected.sum().item(), rtol=2e-6)
    wanted = tensor.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
