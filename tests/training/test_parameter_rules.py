"""Factors of single parameters against the formulas; what is frozen stays, bit for bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy
from sdnjax.models.layers import BatchNorm, conv
from sdnjax.ops.normalization import Normalization
from sdnjax.recipe import Recipe
from sdnjax.training.optimizer import Optimizer, make_optimizer
from sdnjax.training.parameter_rules import (
    ParameterRule,
    check_rules,
    factors,
    groups,
    is_frozen,
    layer_decay,
    vit_layers,
)
from tests.training.tiny import Tiny, batch_of

PARAMS = {
    "backbone": {"norm": {"scale": jnp.ones(3)}, "conv": {"kernel": jnp.full((2, 2), 2.0)}},
    "head": {"kernel": jnp.full((3, 1), -1.0), "bias": jnp.zeros(1)},
}
RULES = (
    ParameterRule("backbone/", learning_rate=0.1),
    ParameterRule("^head", learning_rate=10.0),
    ParameterRule(most_dims=1, weight_decay=0.0),
)


def test_factors_of_all_rules_that_match_are_multiplied():
    assert factors(RULES, "backbone/norm/scale", 1) == (0.1, 0.0)
    assert factors(RULES, "backbone/conv/kernel", 2) == (0.1, 1.0)
    assert factors(RULES, "head/bias", 1) == (10.0, 0.0)
    assert factors(RULES, "neck/head", 2) == (1.0, 1.0)
    twice = (*RULES, ParameterRule("conv", learning_rate=0.5, weight_decay=2.0))
    assert factors(twice, "backbone/conv/kernel", 2) == (0.05, 2.0)


def trained(config, steps=4):
    tx = make_optimizer(config, steps)
    params, state = PARAMS, tx.init(PARAMS)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        gradient = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), PARAMS)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def leaves(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x, np.float64)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_every_parameter_is_trained_by_its_own_rate_and_decay(kind):
    """As PyTorch's groups are, of which each has a rate and a decay of its own."""
    config = Optimizer(kind=kind, learning_rate=0.1, weight_decay=0.05, rules=RULES)
    found = leaves(trained(config)[0])
    for path in leaves(PARAMS):
        dims = leaves(PARAMS)[path].ndim
        rate, decay = factors(RULES, path, dims)
        alone = Optimizer(
            kind=kind,
            learning_rate=0.1 * rate,
            end_learning_rate=1e-4 * rate,
            weight_decay=0.05 * decay,
        )
        np.testing.assert_allclose(found[path], leaves(trained(alone)[0])[path], rtol=2e-6)


def test_what_is_frozen_has_no_state_and_takes_no_part_in_the_gradients_norm():
    frozen = (ParameterRule("^backbone", frozen=True),)
    config = Optimizer(clip_norm=0.5, momentum=0.9, rules=frozen)
    params, state = trained(config)
    for a, b in zip(
        jax.tree.leaves(params["backbone"]), jax.tree.leaves(PARAMS["backbone"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert not any(x.shape in ((2, 2),) for x in jax.tree.leaves(state))
    tx = make_optimizer(Optimizer(**{**vars(config), "learning_rate": 1.0, "weight_decay": 0.0}), 9)
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(gradient, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-5)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = BatchNorm(name="stem_norm")(conv(4, 3, name="stem")(x), train=train)
        x = BatchNorm(name="body_norm")(conv(4, 3, name="body")(nn.relu(x)), train=train)
        return {"logits": conv(3, 1, bias=True, name="classifier")(x)}


def stepped(rules, steps=3):
    recipe = Recipe(
        network=Net(),
        losses=(CrossEntropy(),),
        optimizer=make_optimizer(Optimizer(learning_rate=0.1, rules=rules), 10),
        num_classes=3,
        image_size=(8, 8),
        normalization=Normalization((0.0,) * 3, (1.0,) * 3),
        rules=rules,
    )
    first = state = recipe.init_state()
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(2, 3, size=(2, 8, 8, 3)).astype(np.float32),
        "label": rng.integers(0, 3, (2, 8, 8)),
    }
    step = jax.jit(recipe.step)
    for _ in range(steps):
        state, metrics = step(state, batch)
    return first, state, metrics, recipe, batch


def test_a_frozen_part_is_that_of_evaluation_and_the_rest_trains():
    rules = (ParameterRule("^stem", frozen=True),)
    first, state, _, recipe, batch = stepped(rules)
    before, after = leaves(first.variables), leaves(state.variables)
    for path, x in before.items():
        same = np.array_equal(after[path], x)
        assert same == ("/stem" in path), path
    # The frozen norm uses its running statistics, 0 and 1, in training too.
    assert not np.array_equal(after["batch_stats/body_norm/mean"], np.zeros(4))
    statistics = (ParameterRule("^stem", frozen_statistics=True),)
    held = leaves(stepped(statistics)[1].variables)
    np.testing.assert_array_equal(held["batch_stats/stem_norm/mean"], np.zeros(4))
    assert not np.array_equal(held["params/stem_norm/scale"], np.ones(4))
    half = (ParameterRule("^stem/", frozen=True),)  # the convolution alone: its norm still moves
    moved = leaves(stepped(half)[1].variables)
    assert not np.array_equal(moved["batch_stats/stem_norm/mean"], np.zeros(4))
    _, metrics = recipe.step(first, batch)
    plain = stepped(())
    _, other = plain[3].step(plain[0], batch)
    assert abs(float(metrics["loss"]) - float(other["loss"])) > 1e-3


def test_rules_that_match_nothing_are_refused():
    with pytest.raises(InputError, match=r"'bakbone' matches no parameter; did you mean backbone"):
        check_rules((ParameterRule("bakbone", frozen=True),), PARAMS)
    with pytest.raises(InputError, match="every parameter is frozen"):
        check_rules((ParameterRule(frozen=True),), PARAMS)
    with pytest.raises(InputError, match="is no regular expression"):
        ParameterRule("(")
    with pytest.raises(InputError, match="the one for backbone changes nothing"):
        ParameterRule("backbone")
    config = Optimizer(rules=(ParameterRule("necks", learning_rate=2.0),))
    with pytest.raises(InputError, match="matches no parameter"):
        make_optimizer(config, 3).init(PARAMS)


def test_groups_are_told():
    told = groups((*RULES, ParameterRule("^head/bias", frozen=True)), PARAMS)
    assert told == [
        "1 tensors, 0.00 M parameters: learning rate × 0.1, weight decay × 1",
        "1 tensors, 0.00 M parameters: learning rate × 0.1, weight decay × 0",
        "1 tensors, 0.00 M parameters: frozen",
        "1 tensors, 0.00 M parameters: learning rate × 10, weight decay × 1",
    ]


def test_layer_decay_of_a_vit_is_beits():
    """mmseg's get_layer_id_for_vit: embeddings 0, block i has i + 1, the rest depth + 1."""
    depth, rate = 3, 0.65
    rules = layer_decay(vit_layers(depth), rate)
    ids = {
        "backbone/patch_embedding/kernel": 0,
        "backbone/class_token": 0,
        "backbone/position_embedding": 0,
        "backbone/block0/norm1/scale": 1,
        "backbone/block2/mlp/fc1/kernel": 3,
        "backbone/norm/scale": depth + 1,
        "decoder/block0/norm1/scale": depth + 1,
    }
    for path, layer in ids.items():
        np.testing.assert_allclose(factors(rules, path, 2)[0], rate ** (depth + 1 - layer))
    assert not is_frozen(rules, "backbone/class_token", 3)


class Flax(nn.Module):
    """With Flax's own batch norm, told at its call or when it is made whether it trains."""

    at_call: bool = True

    @nn.compact
    def __call__(self, x, *, train):
        x = conv(4, 3, name="stem")(x)
        if self.at_call:
            x = nn.BatchNorm(name="stem_norm")(x, use_running_average=not train)
        else:
            x = nn.BatchNorm(use_running_average=not train, name="stem_norm")(x)
        return {"logits": conv(3, 1, name="classifier")(x)}


def test_flaxs_own_batch_norm_is_frozen_too_or_refused():
    rules = (ParameterRule("^stem", frozen=True),)
    batch = {"image": jnp.ones((2, 8, 8, 3)), "label": jnp.zeros((2, 8, 8), int)}
    recipe = Recipe(
        network=Flax(),
        losses=(CrossEntropy(),),
        optimizer=make_optimizer(Optimizer(rules=rules), 10),
        num_classes=3,
        image_size=(8, 8),
        normalization=Normalization((0.0,) * 3, (1.0,) * 3),
        rules=rules,
    )
    first = recipe.init_state()
    state, _ = recipe.step(first, batch)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, first.batch_stats)
    with pytest.raises(InputError, match="stem_norm is frozen, but Flax's BatchNorm"):
        dataclasses.replace(recipe, network=Flax(at_call=False)).check()


def test_no_gradient_is_computed_for_what_is_frozen():
    """The logged norm is that of the rest, and the compiled step has fewer convolutions."""
    rules = (ParameterRule("^conv", frozen=True),)

    def made(rules):
        optimizer = Optimizer(learning_rate=0.1, rules=rules)
        recipe = Experiment(model=Tiny, optimizer=optimizer, losses=(CrossEntropy(),)).build(3)
        step = jax.jit(recipe.step).lower(recipe.init_state(), batch_of(0)).compile()
        _, metrics = step(recipe.init_state(), batch_of(0))
        return float(metrics["gradient_norm"]), step.as_text().count("convolution(")

    (all_norm, all_convolutions), (norm, convolutions) = made(()), made(rules)
    assert 0 < norm < all_norm
    assert convolutions < all_convolutions
