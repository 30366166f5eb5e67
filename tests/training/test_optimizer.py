"""Schedules and optimizers against the formulas, written out step by step."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sdnjax.errors import InputError
from sdnjax.training.optimizer import Optimizer, make_optimizer, schedule_of


def test_poly_is_the_papers():
    schedule = schedule_of(Optimizer(), 80_000)
    for t in (0, 1, 40_000, 79_999, 80_000):
        expected = (0.01 - 1e-4) * (1 - t / 80_000) ** 0.9 + 1e-4
        np.testing.assert_allclose(schedule(t), expected, rtol=1e-5)


def test_poly_of_the_transformers_reaches_zero():
    config = Optimizer(learning_rate=6e-5, end_learning_rate=0.0, power=1.0)
    schedule = schedule_of(config, 100)
    np.testing.assert_allclose([schedule(t) for t in (0, 50, 100)], [6e-5, 3e-5, 0], atol=1e-12)


def test_warmup_rises_linearly_and_decay_takes_the_rest():
    schedule = schedule_of(Optimizer(learning_rate=1.0, warmup_steps=10), 110)
    np.testing.assert_allclose([schedule(t) for t in (0, 5, 10)], [0, 0.5, 1], atol=1e-6)
    expected = (1 - 1e-4) * 0.5**0.9 + 1e-4
    np.testing.assert_allclose(schedule(60), expected, rtol=1e-5)


def gradients(steps):
    rng = np.random.default_rng(0)
    return rng.normal(size=(steps, 4))


def run(config, steps=6):
    tx = make_optimizer(config, steps)
    w = jnp.asarray([1.0, -2.0, 3.0, 0.5])
    state = tx.init(w)
    for g in gradients(steps):
        updates, state = tx.update(jnp.asarray(g, jnp.float32), state, w)
        w = optax.apply_updates(w, updates)
    return np.asarray(w)


def test_sgd_is_pytorchs():
    config = Optimizer(learning_rate=0.1, weight_decay=0.05)
    w, m = np.array([1.0, -2.0, 3.0, 0.5]), np.zeros(4)
    for t, g in enumerate(gradients(6)):
        m = 0.9 * m + g + 0.05 * w
        w = w - ((0.1 - 1e-4) * (1 - t / 6) ** 0.9 + 1e-4) * m
    np.testing.assert_allclose(run(config), w, rtol=1e-5)


def test_adamw_is_pytorchs():
    config = Optimizer(
        kind="adamw", learning_rate=0.1, end_learning_rate=0.0, power=1.0, weight_decay=0.05
    )
    w, m, v = np.array([1.0, -2.0, 3.0, 0.5]), np.zeros(4), np.zeros(4)
    for t, g in enumerate(gradients(6)):
        lr = 0.1 * (1 - t / 6)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w * (1 - lr * 0.05)
        w = w - lr * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    np.testing.assert_allclose(run(config), w, rtol=1e-5)


def test_clipping_limits_the_global_norm():
    config = Optimizer(learning_rate=1.0, end_learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    free = run(config, 1) - [1.0, -2.0, 3.0, 0.5]
    clipped = run(Optimizer(**{**vars(config), "clip_norm": 0.25}), 1) - [1.0, -2.0, 3.0, 0.5]
    assert np.linalg.norm(free) > 0.5
    np.testing.assert_allclose(np.linalg.norm(clipped), 0.25, rtol=1e-5)


def test_negative_rates_are_refused():
    with pytest.raises(InputError, match="must be at least 0"):
        Optimizer(learning_rate=-1.0)
