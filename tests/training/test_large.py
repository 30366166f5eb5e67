"""What large training needs: batches in parts, an average of the parameters, a state in shares."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy, Dice, Ohem
from sdnjax.models import Model
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.encoder_decoder import EncoderDecoder
from sdnjax.models.layers import BatchNorm, Classifier, EqualPartial
from sdnjax.models.necks.sdn import SDN, SDNNeck
from sdnjax.training.checkpoints import (
    CheckpointWriter,
    find_checkpoint,
    load_items,
    restore_state,
)
from sdnjax.training.optimizer import Optimizer, make_optimizer
from sdnjax.training.parameter_rules import ParameterRule
from sdnjax.training.sharding import data_mesh, fully_sharded, to_global
from tests.training.test_checkpoints import abstract, assert_same
from tests.training.test_step import mesh_of
from tests.training.tiny import Tiny, batch_of, recipe_of

# A constant rate: a schedule's is computed in float32, in each program with another last bit.
OPTIMIZER = make_optimizer(Optimizer(learning_rate=0.1, schedule="constant"), 10)


class Plain(nn.Module):
    """Without batch norm, which is the one thing that sees the parts."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Conv(6, (3, 3), param_dtype=jnp.float64)(x))
        return {"logits": nn.Conv(3, (1, 1), param_dtype=jnp.float64)(x)}


def batch(seed=0, rows=8):
    """Void is spread unevenly; one image is void alone."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, (rows, 9, 7)).astype(np.int32)
    for i in range(rows):
        label[i][rng.random((9, 7)) < i / rows] = 255
    label[2] = 255
    return {"image": rng.normal(size=(rows, 9, 7, 3)), "label": label}


ONE = (CrossEntropy(),)
LOSSES = (CrossEntropy(), Dice(weight=0.5), Ohem(weight=2.0, kept=5, threshold=0.4))


def stepped(devices, parts, sharding=None, steps=2, rows=16, **changes):
    recipe = recipe_of(Plain(), OPTIMIZER, losses=LOSSES)
    recipe = dataclasses.replace(recipe, micro_batches=parts, **changes)
    if sharding is not None:
        recipe = dataclasses.replace(recipe, state_sharding=sharding)
    mesh = mesh_of(devices)
    state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
    history = []
    for t in range(steps):
        state, metrics = step(state, to_global(batch(t, rows), mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    return history, jax.device_get(state)


def test_parts_give_the_loss_and_the_gradient_of_the_whole(x64):
    """Counts of all parts divide, not the mean of means; also on eight devices."""
    whole, state = stepped(1, 1)
    for devices, parts in ((1, 2), (1, 4), (8, 2)):
        found, other = stepped(devices, parts)
        assert found[1] == pytest.approx(whole[1], rel=1e-9), (devices, parts)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
            other.params,
            state.params,
        )
    assert {"loss_decoder", "loss_dice", "loss_ohem", "pixel_accuracy"} <= whole[0].keys()


def test_parts_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="batch_size 8 does not divide into 3 parts"):
        Experiment(model=Model(), batch_size=8, accumulate=3)
    with pytest.raises(InputError, match=r"in 2 parts \(accumulate\) does not split over 8"):
        data_mesh(8, 2)


def test_batch_norm_sees_one_part_after_the_other():
    recipe = recipe_of(Tiny(), OPTIMIZER)
    given = batch_of(0)
    parts = dataclasses.replace(recipe, micro_batches=2)
    state, _ = jax.jit(parts.step)(parts.init_state(), given)
    # By hand: the statistics after the even rows, then after the odd ones.
    by_hand = recipe.init_state()
    for first in (0, 1):
        rows = {name: x[first::2] for name, x in given.items()}
        after, _ = jax.jit(recipe.step)(by_hand, rows)
        by_hand = by_hand.replace(batch_stats=after.batch_stats)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.batch_stats,
        by_hand.batch_stats,
    )


def test_the_average_of_the_parameters(tmp_path):
    """By hand, in a checkpoint, and as what inference takes."""
    recipe = dataclasses.replace(recipe_of(Tiny(), OPTIMIZER), ema_decay=0.9)
    state = recipe.init_state()
    expected = jax.tree.map(np.asarray, state.params)
    step = jax.jit(recipe.step)
    for t in range(3):
        state, _ = step(state, batch_of(t))
        d = min(0.9, (2 + t) / (11 + t))
        expected = jax.tree.map(lambda a, w: d * a + (1 - d) * w, expected, state.params)  # noqa: B023
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.average,
        expected,
    )
    assert_same(state.variables["params"], state.average)
    writer = CheckpointWriter(tmp_path, 1, {})
    writer.save(state)
    writer.close()
    path = find_checkpoint(tmp_path)
    assert_same(restore_state(path, abstract(state)), state)
    assert_same(load_items(path, abstract(state).variables)["params"], state.average)
    # The network itself learns as without.
    plain, _ = jax.jit(recipe_of(Tiny(), OPTIMIZER).step)(
        recipe_of(Tiny(), OPTIMIZER).init_state(), batch_of(0)
    )
    one, _ = step(recipe.init_state(), batch_of(0))
    assert_same(one.params, plain.params)


def test_a_state_in_shares_trains_as_a_whole_one():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.relu(nn.Conv(64, (3, 3))(x))
            x = nn.relu(nn.Conv(64, (3, 3))(x))
            return {"logits": nn.Conv(3, (1, 1))(x)}

    def run(devices, sharding):
        recipe = dataclasses.replace(
            recipe_of(Wide(), OPTIMIZER, losses=ONE), state_sharding=sharding, ema_decay=0.99
        )
        mesh = mesh_of(devices)
        state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
        losses = []
        for t in range(20):
            given = {k: np.asarray(v, v.dtype) for k, v in batch(t).items()}
            given["image"] = given["image"].astype(np.float32)
            state, metrics = step(state, to_global(given, mesh))
            losses.append(float(metrics["loss"]))
        return state, losses

    plain = recipe_of(Wide(), OPTIMIZER).state_sharding
    _, one = run(1, plain)
    state, shared = run(8, fully_sharded)
    np.testing.assert_allclose(shared, one, rtol=1e-5)
    kernel = state.params["Conv_1"]["kernel"]
    assert kernel.shape == (3, 3, 64, 64)
    for leaf in (kernel, state.average["Conv_1"]["kernel"]):
        assert leaf.addressable_shards[0].data.size * 8 == leaf.size
    momentum = [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
    assert momentum and all(x.addressable_shards[0].data.size * 8 == x.size for x in momentum)
    assert state.params["Conv_0"]["bias"].sharding.is_fully_replicated


def test_settings_reach_the_recipe():
    own = Experiment(model=Model(), accumulate=2, ema_decay=0.9, state_sharding=fully_sharded)
    recipe = own.build(3)
    assert (recipe.micro_batches, recipe.ema_decay) == (2, 0.9)
    assert recipe.state_sharding is fully_sharded
    assert recipe.abstract_state().average is not None
    assert Experiment(model=Model()).build(3).abstract_state().average is None


def small(num_classes, *, dropout=0.1, dtype=jnp.float32):
    """A ResNet of two blocks, an SDN neck and an FCN head."""
    return EncoderDecoder(
        backbone=ResNet(18, output_stride=8, blocks=(1, 1, 0, 0), dtype=dtype),
        neck=SDNNeck(EqualPartial(SDN, reduction=8, dtype=dtype)),
        decoder=FCNHead(channels=16, dtype=dtype),
        classifier=Classifier(num_classes, dropout, dtype),
    )


@functools.cache
def trained(devices, *, model=small, steps=20, rules=(), **changes):
    """The state and the losses of a small network of the library."""
    recipe = Experiment(
        model=model,
        data=Data(crop_size=(17, 17)),
        batch_size=8,
        optimizer=Optimizer(learning_rate=0.005, rules=rules),
        steps=20,
        **changes,
    ).build(3)
    mesh = mesh_of(devices)
    state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
    rng, losses = np.random.default_rng(0), []
    for _ in range(steps):
        label = rng.integers(0, 3, (8, 17, 17)).astype(np.int32)
        noise = rng.normal(size=(8, 17, 17, 3)).astype(np.float32)
        noise *= np.linspace(0.2, 3, 8, dtype=np.float32)[:, None, None, None]  # images differ
        given = {"image": np.eye(3, dtype=np.float32)[label] + noise, "label": label}
        state, metrics = step(state, to_global(given, mesh))
        losses.append(float(metrics["loss"]))
    return state, np.array(losses)


STATISTICS_HELD = (ParameterRule("", frozen_statistics=True),)


def without_dropout(num_classes):
    return small(num_classes, dropout=0.0).clone(neck=None)


@pytest.mark.slow
def test_twenty_steps_are_the_same_however_they_are_computed():
    """In float32, on one device, eight, with blocks computed again, and with a state in shares."""
    _, one = trained(1)
    assert one[-1] < one[0]
    ways = {
        "remat": (1, {"remat": "blocks"}),
        "eight devices": (8, {"remat": "blocks", "state_sharding": fully_sharded}),
    }
    for way, (devices, changes) in ways.items():
        _, found = trained(devices, **changes)
        np.testing.assert_allclose(found, one, rtol=1e-5, err_msg=way)


@pytest.mark.slow
def test_twenty_steps_in_parts_are_those_of_the_whole():
    """Where neither dropout nor batch norm sees the parts."""
    options = {"model": without_dropout, "rules": STATISTICS_HELD}
    _, one = trained(1, **options)
    _, parts = trained(1, accumulate=4, **options)
    np.testing.assert_allclose(parts, one, rtol=1e-5)


def test_what_is_computed_again_is_not_kept():
    """The residuals between the passes: a number for each block, dropout and statistics as ever."""

    def kept(remat):
        recipe = Experiment(model=small, data=Data(crop_size=(33, 33)), remat=remat).build(3)
        batch = {
            "image": jax.ShapeDtypeStruct((8, 33, 33, 3), jnp.float32),
            "label": jax.ShapeDtypeStruct((8, 33, 33), jnp.int32),
        }
        jaxpr = jax.make_jaxpr(recipe.step)(recipe.abstract_state(), batch)
        return str(jaxpr).count("remat"), jaxpr

    assert kept("none")[0] == 0
    assert kept("blocks")[0] >= 2
    only_layer1 = kept(lambda module: module.name == "layer1_0")[0]
    assert 0 < only_layer1 < kept("blocks")[0]


def test_batch_norm_of_groups_is_that_of_each_group():
    norm = BatchNorm()
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, (6, 5, 4, 3)), jnp.float32)
    variables = norm.init(jax.random.key(0), x, train=True)
    y, after = norm.apply(variables, x, train=True, images=2, mutable="batch_stats")
    of_groups = [
        norm.apply(variables, x[i : i + 2], train=True, mutable="batch_stats") for i in (0, 2, 4)
    ]
    np.testing.assert_allclose(y, jnp.concatenate([one for one, _ in of_groups]), rtol=1e-5)
    for name in ("mean", "var"):
        mean = sum(stats["batch_stats"][name] for _, stats in of_groups) / 3
        np.testing.assert_allclose(after["batch_stats"][name], mean, rtol=1e-5)
    whole, _ = norm.apply(variables, x, train=True, images=6, mutable="batch_stats")
    plain, _ = norm.apply(variables, x, train=True, mutable="batch_stats")
    np.testing.assert_array_equal(whole, plain)
    with pytest.raises(InputError, match="batch_norm_images 4 does not divide the 6 images"):
        norm.apply(variables, x, train=True, images=4, mutable="batch_stats")


@pytest.mark.slow
def test_batch_norm_images_reach_every_batch_norm_of_a_step():
    """On eight devices, an image each, as by hand; and the whole batch is another result."""
    _, whole = trained(1)
    _, one = trained(1, steps=3, batch_norm_images=1)
    _, eight = trained(8, steps=3, batch_norm_images=1)
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    assert not np.allclose(one, whole[:3], rtol=1e-4)
    Experiment(model=small, batch_size=8, batch_norm_images=4).build(3).check()
    with pytest.raises(InputError, match="batch_norm_images 3 does not divide 8 images"):
        Experiment(batch_size=8, batch_norm_images=3)
    with pytest.raises(InputError, match="batch_norm_images 4 does not divide 2 images"):
        Experiment(batch_size=8, accumulate=4, batch_norm_images=4)


def narrow(num_classes):
    return small(num_classes, dtype=jnp.bfloat16)


@pytest.mark.slow
def test_bfloat16_follows_float32_and_devices_agree():
    """Parameters, statistics and gradients stay float32; losses stay within two percent."""
    _, wide = trained(1)
    held, half = trained(1, model=narrow)
    np.testing.assert_allclose(half, wide, rtol=0.02)
    assert not np.array_equal(half, wide)
    kept = jax.tree.leaves((held.params, held.batch_stats, held.opt_state))
    assert {x.dtype.name for x in kept} <= {"float32", "int32"}
    _, eight = trained(8, model=narrow)
    np.testing.assert_allclose(eight, half, rtol=0.02)
