"""The train step with a network that classifies masks."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from sdnjax.models.decoders.maskformer import MaskFormerDecoder
from sdnjax.models.layers import conv
from sdnjax.models.mask_classifier import MaskClassifier
from sdnjax.recipe import own_losses
from sdnjax.training.sharding import to_global
from tests.training.tiny import batch_of, recipe_of


class TwoStages(nn.Module):
    """A backbone of two convolutions."""

    @nn.compact
    def __call__(self, x, *, train):
        first = nn.relu(conv(8, 3, stride=2, bias=True, name="conv1")(x))
        return first, nn.relu(conv(8, 3, stride=2, bias=True, name="conv2")(first))


def losses(devices, steps, optimizer):
    """The metrics of a few steps on the first batch, and the last state."""
    decoder = MaskFormerDecoder(3, channels=32, queries=4, layers=1, heads=2, hidden=8, dropout=0.0)
    model = MaskClassifier(TwoStages(), decoder)
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=kinds, devices=jax.devices()[:devices])
    recipe = recipe_of(model, optimizer, losses=own_losses(model))
    state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
    history = []
    for _ in range(steps):
        state, metrics = step(state, to_global(batch_of(0), mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    return history, state


def test_the_loss_is_the_sum_of_its_terms_and_falls():
    history, _ = losses(1, 8, optax.adam(1e-2))
    terms = {"loss_classes", "loss_mask", "loss_dice"}
    assert history[0].keys() == terms | {"loss", "gradient_norm", "pixel_accuracy"}
    for metrics in history:
        assert abs(metrics["loss"] - sum(metrics[x] for x in terms)) < 1e-5 * metrics["loss"]
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert all(np.isfinite(x) for metrics in history for x in metrics.values())


@pytest.mark.slow
def test_one_and_four_devices_agree():
    """The assignment runs on the host, in the middle of a step that is spread over devices."""
    # Not Adam, which makes whole steps of gradients that are nothing but rounding.
    one, state_one = losses(1, 3, optax.sgd(1e-3))
    four, state_four = losses(4, 3, optax.sgd(1e-3))
    for a, b in zip(one, four, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-5 * a["loss"]
    assert one[2]["loss"] < one[0]["loss"]
    for a, b in zip(jax.tree.leaves(state_one), jax.tree.leaves(state_four), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()))
