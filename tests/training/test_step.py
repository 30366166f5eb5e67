"""The train step: what it computes, and that devices only share the work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy
from sdnjax.models import Model, Neck, create_model
from sdnjax.ops.normalization import Normalization
from sdnjax.training.optimizer import Optimizer, make_optimizer
from sdnjax.training.sharding import data_mesh, to_global
from sdnjax.training.step import network_inputs, pixel_accuracy
from tests.training.tiny import Tiny, batch_of, recipe_of

OPTIMIZER = make_optimizer(Optimizer(learning_rate=0.1), 10)


def mesh_of(devices):
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((devices,), ("data",), axis_types=kinds, devices=jax.devices()[:devices])


def losses(model, devices, steps, make_batch, **options):
    mesh = mesh_of(devices)
    recipe = recipe_of(model, OPTIMIZER, **options)
    state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
    history = []
    for t in range(steps):
        state, metrics = step(state, to_global(make_batch(t), mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    return history, state


def test_one_and_eight_devices_agree():
    """Void is spread unevenly and dropout is on: the global batch decides, not its parts."""
    one, state_one = losses(Tiny(), 1, 8, batch_of)
    eight, state_eight = losses(Tiny(), 8, 8, batch_of)
    for a, b in zip(one, eight, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert abs(a[key] - b[key]) < 1e-5, key
    for a, b in zip(
        jax.tree.leaves(state_one.variables), jax.tree.leaves(state_eight.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_one_and_eight_devices_agree_with_sdn():
    def batch(step):
        return batch_of(step, size=(33, 41))

    model = create_model("fcn_r18-d8", num_classes=3, neck="sdn", guidance_channels=16)
    one, _ = losses(model, 1, 3, batch)
    eight, _ = losses(model, 8, 3, batch)
    for a, b in zip(one, eight, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-5


def test_loss_is_the_heads_weighted_sum_and_falls():
    heads = (CrossEntropy(), CrossEntropy(weight=0.25, on="auxiliary"))
    history, state = losses(Tiny(dropout=0.0), 1, 10, batch_of, losses=heads)
    for m in history:
        assert abs(m["loss"] - m["loss_decoder"] - 0.25 * m["loss_auxiliary"]) < 1e-6
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert int(state.step) == 10


def test_accuracy_counts_valid_pixels_only():
    batch = batch_of(0)
    batch["label"][1:] = 255
    batch["label"][0] = 1
    history, _ = losses(Tiny(), 1, 1, lambda t: batch)
    valid = batch["label"] != 255
    right = history[0]["pixel_accuracy"] * valid.sum()
    assert abs(right - round(right)) < 1e-4
    batch["label"][:] = 255
    history, _ = losses(Tiny(), 1, 1, lambda t: batch)
    assert history[0]["pixel_accuracy"] == history[0]["loss"] == 0.0


def test_accuracy_is_the_share_of_right_pixels():
    labels = np.array([[[0, 1, 2, 255], [2, 2, 255, 0]]])
    scores = np.eye(3, dtype=np.float32)[[[[0, 1, 1, 0], [2, 1, 0, 0]]]]
    accuracy = pixel_accuracy(jnp.asarray(scores), jnp.asarray(labels))
    assert (int(accuracy.total), int(accuracy.count)) == (4, 6)


def test_the_picture_is_made_of_the_image_unless_the_batch_has_one():
    class Seeing(Tiny):
        inputs = ("picture",)

    mean, std = (120.0, 110.0, 100.0), (60.0, 55.0, 50.0)
    values = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3))
    batch = {"image": ((values - mean) / std).astype(np.float32)}
    found = network_inputs(Seeing(), batch, Normalization(mean, std))
    np.testing.assert_allclose(found["picture"], values / 255, atol=1e-6)
    batch["picture"] = values
    assert network_inputs(Seeing(), batch, Normalization(mean, std))["picture"] is values


def test_each_device_augments_its_own_rows():
    seen = set()

    def all_void_but_the_first(batch):
        seen.add(batch["image"].shape)
        return {**batch, "label": batch["label"].at[1:].set(255)}

    history, _ = losses(Tiny(dropout=0.0), 4, 1, batch_of, augment=all_void_but_the_first)
    kept = batch_of(0)
    kept["label"][1::2] = 255  # of each device's two rows
    expected, _ = losses(Tiny(dropout=0.0), 4, 1, lambda t: kept)
    assert history[0] == pytest.approx(expected[0], rel=1e-5)
    assert seen == {(2, 12, 10, 3)}


def test_the_state_before_a_step_is_donated():
    mesh = mesh_of(1)
    recipe = recipe_of(Tiny(), OPTIMIZER)
    before = recipe.new_state(mesh)
    recipe.compiled_step(mesh)(before, to_global(batch_of(0), mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.opt_state)))


def test_dropout_depends_on_seed_and_step_alone():
    model = Tiny(dropout=0.5)
    state = recipe_of(model, OPTIMIZER).init_state()
    batch = jax.tree.map(jnp.asarray, batch_of(0))
    losses_of = [
        float(recipe_of(model, OPTIMIZER, seed=s).step(state.replace(step=t), batch)[1]["loss"])
        for s, t in ((1, 4), (1, 4), (1, 5), (2, 4))
    ]
    assert losses_of[0] == losses_of[1]
    assert len(set(losses_of)) == 3


def test_batch_must_split_over_the_devices():
    with pytest.raises(InputError, match="multiple of 8"):
        data_mesh(12)


@pytest.mark.parametrize("operator", ["none", "sdc"])
def test_the_step_of_a_residual_network_scatters_nothing(operator):
    """On GPUs a scatter adds in any order: the same step would give other bits."""
    network = Model("fcn_r18-d8", neck=Neck(operator=operator))
    recipe = Experiment(model=network, data=Data(crop_size=(32, 48))).build(3)
    size = (2, 32, 48)
    batch = {
        "image": jax.ShapeDtypeStruct((*size, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct(size, jnp.int32),
    }
    assert "scatter" not in str(jax.make_jaxpr(recipe.step)(recipe.abstract_state(), batch))
