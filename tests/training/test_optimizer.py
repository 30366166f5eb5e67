"""Schedules and optimizers against the formulas, written out step by step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
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
    step = Optimizer(
        schedule="step", learning_rate=0.2, milestones=(30, 60), step_factor=0.5, warmup_steps=10
    )
    found = [float(schedule_of(step, steps)(t)) for t in (5, 10, 29, 30, 59, 60, 99)]
    assert found == pytest.approx([0.1, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    assert {"power", "end_learning_rate"} <= step.unused().keys()
    assert {"milestones", "step_factor"} <= cosine.unused().keys()
    for wrong in ((30, 20), (5,), ()):
        with pytest.raises(InputError, match=r"optimizer\.(milestones|schedule)"):
            Optimizer(schedule="step", milestones=wrong, warmup_steps=10)
    # It is what the optimizer follows.
    params = {"w": jnp.ones(())}
    optimizer = make_optimizer(dataclasses.replace(cosine, weight_decay=0.0, momentum=0.0), steps)
    state = optimizer.init(params)
    for t in range(3):
        updates, state = optimizer.update({"w": jnp.ones(())}, state, params)
        assert float(updates["w"]) == pytest.approx(-float(schedule_of(cosine, steps)(t)))
    assert isinstance(optimizer, optax.GradientTransformation)


def test_lars_and_lamb_by_hand(x64):
    """Kernels by the ratio of norms, one-dimensional leaves as by SGD and Adam; NumPy, float64."""
    rng = np.random.default_rng(5)
    params = {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=(4,))}
    grads = [jax.tree.map(lambda x: rng.normal(size=x.shape), params) for _ in range(3)]
    shared = {"learning_rate": 0.3, "schedule": "constant", "weight_decay": 0.01}
    for kind in ("lars", "lamb"):
        config = Optimizer(kind=kind, trust=0.02, **shared)
        optimizer = make_optimizer(config, 10)
        found, expected = dict(params), dict(params)
        state = optimizer.init(found)
        m, v = ({k: np.zeros_like(x) for k, x in params.items()} for _ in "mv")
        for t, gradient in enumerate(grads, start=1):
            updates, state = optimizer.update(gradient, state, found)
            found = optax.apply_updates(found, updates)
            for name, w in expected.items():
                g = np.asarray(gradient[name])
                if kind == "lars":
                    g = g + 0.01 * w
                    if w.ndim > 1:
                        g = g * 0.02 * np.linalg.norm(w) / np.linalg.norm(g)
                    m[name] = 0.9 * m[name] + 0.3 * g
                    expected[name] = w - m[name]
                else:
                    m[name] = 0.9 * m[name] + 0.1 * g
                    v[name] = 0.999 * v[name] + 0.001 * g * g
                    root = np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8
                    u = m[name] / (1 - 0.9**t) / root + 0.01 * w
                    if w.ndim > 1:
                        u = u * np.linalg.norm(w) / np.linalg.norm(u)
                    expected[name] = w - 0.3 * u
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-7, err_msg=kind)
    assert {"b1", "b2"} <= Optimizer(kind="lars").unused().keys()
    assert {"momentum", "trust"} <= Optimizer(kind="lamb").unused().keys()


def test_rates_for_a_batch_size():
    """In proportion for SGD and LARS, by the root for Adam and LAMB; in the recipe and the log."""
    for kind, factor in (("sgd", 4), ("lars", 4), ("adamw", 2), ("lamb", 2)):
        optimizer = Optimizer(kind=kind, learning_rate=0.1, reference_batch=16)
        scaled = Experiment(batch_size=64, optimizer=optimizer).scaled_optimizer
        assert scaled.learning_rate == pytest.approx(0.1 * factor), kind
        assert scaled.end_learning_rate == pytest.approx(1e-4 * factor), kind
    plain = Experiment(batch_size=64, optimizer=Optimizer(learning_rate=0.1))
    assert plain.scaled_optimizer.learning_rate == 0.1
    # What the built optimizer does, not only what the setting says.
    sgd = Optimizer(learning_rate=0.1, weight_decay=0.0, momentum=0.0, reference_batch=16)
    built = Experiment(batch_size=64, optimizer=sgd).build(3).optimizer
    params = {"w": jnp.ones(())}
    updates, _ = built.update({"w": jnp.ones(())}, built.init(params), params)
    assert float(updates["w"]) == pytest.approx(-0.4)
