"""Pairs of edge maps of which one is moved, and a regressor that learns by how much."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.ndimage import map_coordinates

from sdnjax.losses import InverseForm
from sdnjax.losses.inverse_form import regress
from sdnjax.training.regressor import (
    errors,
    initial_regressor,
    moved_pairs,
    random_pairs,
    regressor_step,
)
from tests.ops.test_edges import blocks
from tests.ops.test_edges import restated as edges_of

LOSS = InverseForm(size=(16, 24), tiles=(2, 2))


def test_moved_tiles_are_samples_of_the_map():
    labels = blocks((16, 24), grain=6)
    answer = np.random.default_rng(0).uniform(-1, 1, (8, 4)).astype(np.float32)
    pairs = jax.jit(moved_pairs, static_argnums=2)(labels, answer, LOSS)
    maps = edges_of(labels, 2).astype(float)  # already of the size
    for n, (b, i, j) in enumerate(itertools.product(range(2), range(2), range(2))):
        tile = maps[b, 8 * i : 8 * i + 8, 12 * j : 12 * j + 12]
        np.testing.assert_allclose(pairs.target[n].reshape(8, 12), tile, atol=1e-6)
        assert pairs.counted[n] == tile.any()
        t, s = 0.1 * answer[n, :2], 1 + 0.2 * answer[n, 2:]
        middle = np.array([8 * i + 3.5, 12 * j + 5.5])
        expected = np.empty((8, 12))
        for y, x in np.ndindex(8, 12):
            at = np.array([8 * i + y, 12 * j + x])
            source = middle + (at - middle - t * (8, 12)) / s
            expected[y, x] = map_coordinates(
                maps[b], source[:, None], order=1, mode="grid-constant"
            )[0]
        np.testing.assert_allclose(pairs.moved[n].reshape(8, 12), expected, atol=1e-5)


def test_an_answer_of_0_moves_nothing_and_void_does_not_count():
    labels = blocks((16, 24), grain=6)
    labels[1] = 255
    pairs = moved_pairs(jnp.asarray(labels), jnp.zeros((8, 4)), LOSS)
    np.testing.assert_allclose(pairs.moved, pairs.target, atol=1e-5)
    assert pairs.counted[:4].all() and not pairs.counted[4:].any()
    layers = initial_regressor(jax.random.key(0), LOSS, (6, 5))
    assert [w.shape for w, _ in layers] == [(6, 192), (5, 6), (4, 5)]
    ours, zero, count = errors(layers, pairs)
    assert (float(zero), int(count)) == (0.0, 4) and ours > 0


def test_moves_are_a_function_of_seed_and_step():
    labels, key = jnp.asarray(blocks((16, 24))), jax.random.key(0)
    first, again, other = (
        random_pairs(k, labels, LOSS).answer for k in (key, key, jax.random.key(1))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1 and np.abs(first).max() <= 1


def test_the_step_learns():
    """One image over and over: the moves differ each time."""
    loss, labels = dataclasses.replace(LOSS, tiles=(1, 1)), blocks((16, 24), grain=6)
    labels = np.repeat(labels[:1], 32, 0)
    layers = initial_regressor(jax.random.key(0), loss, (64, 16))
    optimizer = optax.adam(3e-3)
    state, step = optimizer.init(layers), jax.jit(regressor_step(loss, optimizer, 0))
    history = []
    for i in range(60):
        layers, state, error = step(layers, state, labels, i)
        history.append(float(error))
    assert np.mean(history[-5:]) < 0.5 * np.mean(history[:5])
    # As a loss it falls while predicted edges move towards the true ones.
    measured = [
        float(jnp.mean(jnp.linalg.norm(regress(layers, pairs.moved, pairs.target), axis=-1)))
        for shift in (1.0, 0.6, 0.0)
        for pairs in [moved_pairs(labels[:1], jnp.array([[0.0, shift, 0.0, 0.0]]), loss)]
    ]
    assert measured[0] > measured[1] > measured[2]


@pytest.mark.parametrize("key", ["size", "tiles", "radius"])
def test_settings_of_the_loss_decide_the_pairs(key):
    labels, seed = jnp.asarray(blocks((16, 24))), jax.random.key(0)
    change = {"size": (32, 24), "tiles": (1, 2), "radius": 1}[key]
    before, after = (
        random_pairs(seed, labels, x).target
        for x in (LOSS, dataclasses.replace(LOSS, **{key: change}))
    )
    assert before.shape != after.shape or np.abs(before - after).max() > 0.5
