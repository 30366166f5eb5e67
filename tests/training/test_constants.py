"""Arrays that losses have beside their settings: an argument of the compiled step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from sdnjax.convert.files import write_file
from sdnjax.losses import CrossEntropy, EdgeCrossEntropy, Mean, inverse_form_losses
from sdnjax.losses.inverse_form import NAMES
from sdnjax.models import EdgeHead, EncoderDecoder
from sdnjax.models.layers import Classifier, ConvBNReLU
from sdnjax.recipe import own_losses
from sdnjax.training.sharding import to_global
from tests.training.test_step import mesh_of
from tests.training.tiny import HEADS, Tiny, batch_of, recipe_of


@dataclasses.dataclass(frozen=True)
class Towards:
    """A loss of one's own with a large constant, which it needs no file for."""

    weight: float = 0.5

    def constants(self, read):
        return {"weights": np.linspace(0, 1, 3 * 50_000, dtype=np.float32).reshape(3, -1)}

    def __call__(self, outputs, batch, constants):
        x = jnp.mean(outputs["logits"], (0, 1, 2)) @ constants["weights"]
        return {"towards": Mean(jnp.mean(jnp.square(x)), jnp.ones(()))}


def plain(outputs, batch):
    return {"plain": Mean(jnp.sum(jnp.square(outputs["logits"])), jnp.asarray(100))}


def test_the_compiled_step_does_not_hold_them():
    losses = (*HEADS, plain, Towards())
    recipe = recipe_of(Tiny(), optax.sgd(0.1), losses=losses)
    recipe.check()
    assert recipe.constants[:3] == ((), (), ())
    state, batch = recipe.abstract_state(), batch_of(0, batch_size=2)
    lowered = jax.jit(recipe.step).lower(state, batch, recipe.constants)
    baked = jax.jit(recipe.step).lower(state, batch)
    assert len(lowered.as_text()) < 400_000 < len(baked.as_text())


def test_devices_agree_and_the_pure_step_needs_none():
    losses = (*HEADS, plain, Towards())
    history = []
    for devices in (1, 8):
        mesh = mesh_of(devices)
        recipe = recipe_of(Tiny(), optax.sgd(0.1), losses=losses)
        state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
        state, metrics = step(state, to_global(batch_of(0), mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    assert history[0] == pytest.approx(history[1], rel=1e-5)
    assert history[0]["loss_towards"] > 0 and "loss_plain" in history[0]
    _, metrics = jax.jit(recipe.step)(recipe.init_state(), batch_of(0))
    assert float(metrics["loss_towards"]) == pytest.approx(history[0]["loss_towards"], rel=1e-5)


class Backbone(nn.Module):
    """Images → one stage at stride 2."""

    @nn.compact
    def __call__(self, images, *, train):
        return (ConvBNReLU(8, 3, stride=2)(images, train=train),)


@pytest.fixture
def joint(tmp_path):
    """The joint loss with a random regressor for tiles of 6×10 pixels."""
    rng = np.random.default_rng(0)
    shapes = ((9, 120), (9,), (5, 9), (5,), (4, 5), (4,))
    write_file(
        tmp_path / "regressor.safetensors",
        {n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in zip(NAMES, shapes, strict=True)},
    )
    return inverse_form_losses(str(tmp_path / "regressor.safetensors"), size=(12, 10), tiles=(2, 1))


def steps(losses, devices, count=2):
    network = EncoderDecoder(
        backbone=Backbone(),
        classifier=Classifier(3, 0.0),
        edge=EdgeHead(hidden=4),
        decoder_stages=(0,),
    )
    mesh = mesh_of(devices)
    recipe = recipe_of(network, optax.sgd(0.1), losses=losses)
    recipe.check()
    state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
    begin = jax.tree.map(np.asarray, state.params["edge"])
    history = []
    for t in range(count):
        state, metrics = step(state, to_global(batch_of(t), mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    return history, begin, jax.tree.map(np.asarray, state.params)


def test_one_and_eight_devices_agree_on_the_joint_loss(joint):
    one, begin, params = steps(joint, 1)
    eight, _, there = steps(joint, 8)
    for a, b in zip(one, eight, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, there)
    assert {"loss_edge", "loss_edge_attention", "loss_inverse_form"} <= one[0].keys()
    # All of the head learns, and nothing of the regressor is a parameter.
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), begin, params["edge"])
    assert min(jax.tree.leaves(moved)) > 0
    assert params.keys() == {"backbone", "classifier", "edge"}


def test_an_edge_head_alone_has_its_own_loss():
    """Where no losses are named it is trained all the same."""
    network = EncoderDecoder(Backbone(), Classifier(3), edge=EdgeHead(), decoder_stages=(0,))
    assert own_losses(network) == (CrossEntropy(), EdgeCrossEntropy(weight=0.3))
