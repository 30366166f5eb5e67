"""What large training needs: batches in parts, an average of the parameters, a state in shares."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy, Dice, Ohem
from sdnjax.models import Model
from sdnjax.training.checkpoints import (
    CheckpointWriter,
    find_checkpoint,
    load_items,
    restore_state,
)
from sdnjax.training.optimizer import Optimizer, make_optimizer, schedule_of
from sdnjax.training.sharding import data_mesh, fully_sharded, to_global
from tests.training.test_checkpoints import abstract, assert_same
from tests.training.test_step import mesh_of
from tests.training.tiny import Tiny, batch_of, recipe_of

OPTIMIZER = make_optimizer(Optimizer(learning_rate=0.1), 10)


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
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9),
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


def test_schedules():
    steps = 100
    constant = Optimizer(schedule="constant", learning_rate=0.2, warmup_steps=10)
    assert [float(schedule_of(constant, steps)(t)) for t in (5, 10, 99)] == pytest.approx(
        [0.1, 0.2, 0.2]
    )
    cosine = Optimizer(schedule="cosine", learning_rate=0.2, end_learning_rate=0.02)
    found = [float(schedule_of(cosine, steps)(t)) for t in (0, 25, 50, 100)]
    wanted = [0.02 + 0.18 * (1 + np.cos(np.pi * t / 100)) / 2 for t in (0, 25, 50, 100)]
    assert found == pytest.approx(wanted)
    assert "power" in cosine.unused() and "end_learning_rate" in constant.unused()
    # It is what the optimizer follows.
    params = {"w": jnp.ones(())}
    optimizer = make_optimizer(dataclasses.replace(cosine, weight_decay=0.0, momentum=0.0), steps)
    state = optimizer.init(params)
    for t in range(3):
        updates, state = optimizer.update({"w": jnp.ones(())}, state, params)
        assert float(updates["w"]) == pytest.approx(-float(schedule_of(cosine, steps)(t)))
    assert isinstance(optimizer, optax.GradientTransformation)


def test_settings_reach_the_recipe():
    own = Experiment(model=Model(), accumulate=2, ema_decay=0.9, state_sharding=fully_sharded)
    recipe = own.build(3)
    assert (recipe.micro_batches, recipe.ema_decay) == (2, 0.9)
    assert recipe.state_sharding is fully_sharded
    assert recipe.abstract_state().average is not None
    assert Experiment(model=Model()).build(3).abstract_state().average is None
