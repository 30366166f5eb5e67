"""Exact and separable filters, and normalisations, against matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops.crf import (
    bilateral_features,
    exact_filter,
    normalized,
    position_features,
    separable_filter,
)
from tests.ops.crf.restated import kernel, normalised


def random(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("block", [1, 7, 35, 100, None])
def test_exact_is_the_kernel_and_so_is_its_gradient(x64, block):
    features, values, g = random(35, 5), random(35, 3, seed=1), random(35, 3, seed=2)
    matrix = kernel(features)
    apply = exact_filter(jnp.asarray(features), block=block)
    found, pull = jax.vjp(apply, jnp.asarray(values))
    np.testing.assert_allclose(found, matrix @ values, atol=1e-12)
    np.testing.assert_allclose(pull(jnp.asarray(g))[0], matrix @ g, atol=1e-12)


def test_exact_far_from_the_origin():
    """Distances are of differences: large features lose nothing."""
    features = random(30, 3, dtype=np.float32)
    values = random(30, 2, dtype=np.float32)
    shift = np.float32(64)
    near = (features + shift) - shift  # what is left of the features there
    found = exact_filter(jnp.asarray(features + shift))(jnp.asarray(values))
    np.testing.assert_allclose(found, kernel(near) @ values, atol=2e-5)


def test_exact_holds_no_kernel():
    n = 4096
    features, values = jnp.ones((n, 5)), jnp.ones((n, 4))

    def loss(v):
        return jnp.sum(jnp.square(exact_filter(features, block=64)(v)))

    compiled = jax.jit(jax.grad(loss)).lower(values).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 8


def test_features_have_no_gradient():
    features = jnp.asarray(random(9, 2, dtype=np.float32))
    gradient = jax.grad(lambda f: jnp.sum(exact_filter(f)(jnp.ones((9, 1)))))(features)
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize("sigma", [1.7, (0.8, 2.3)])
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (9, 2)])
def test_separable_is_exact(x64, size, sigma):
    h, w = size
    # float32 features, so not to the last digits of float64
    matrix = kernel(position_features(h, w, sigma))
    values, g = random(h * w, 3), random(h * w, 3, seed=1)
    found, pull = jax.vjp(separable_filter(h, w, sigma), jnp.asarray(values))
    np.testing.assert_allclose(found, matrix @ values, atol=1e-5)
    np.testing.assert_allclose(pull(jnp.asarray(g))[0], matrix @ g, atol=1e-5)


@pytest.mark.parametrize("how", ["symmetric", "before", "after", "none"])
def test_normalisations(x64, how):
    features, values, g = random(20, 3), random(20, 4, seed=1), random(20, 4, seed=2)
    matrix = normalised(kernel(features), how)
    apply = normalized(exact_filter(jnp.asarray(features)), 20, how, np.dtype(np.float64))
    found, pull = jax.vjp(apply, jnp.asarray(values))
    np.testing.assert_allclose(found, matrix @ values, atol=1e-12)
    np.testing.assert_allclose(pull(jnp.asarray(g))[0], matrix.T @ g, atol=1e-12)


def test_bilateral_features():
    picture = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    found = bilateral_features(picture, (2.0, 4.0), 5.0)
    assert (found.dtype, type(found)) == (np.float32, np.ndarray)
    for y in range(3):
        for x in range(4):
            wanted = [x / 4, y / 2, *(picture[y, x] / 5)]
            np.testing.assert_allclose(found[4 * y + x], wanted, rtol=1e-6)
    traced = jax.jit(lambda p: bilateral_features(p, (2.0, 4.0), 5.0))(jnp.asarray(picture))
    np.testing.assert_allclose(traced, found, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: exact_filter(jnp.ones(3)), r"features must be \[N, d\], not \(3,\)"),
        (lambda: exact_filter(jnp.ones((3, 2), jnp.int32)), "floating dtype"),
        (lambda: exact_filter(jnp.ones((3, 2)), block=0), "block must be at least 1"),
        (lambda: exact_filter(jnp.ones((3, 2)))(jnp.ones((4, 1))), r"\[3, C\].*not \(4, 1\)"),
        (lambda: separable_filter(0, 3, 1.0), "a grid of 0×3"),
        (lambda: separable_filter(2, 3, 0.0), "must be positive"),
        (lambda: separable_filter(2, 3, 1.0)(jnp.ones((5, 1))), r"\[6, C\].*not \(5, 1\)"),
        (lambda: position_features(2, 3, (1.0, -1.0)), "must be positive"),
        (lambda: bilateral_features(np.ones((2, 3)), 1.0, 1.0), r"\[H, W, C\], not \(2, 3\)"),
        (lambda: bilateral_features(np.ones((2, 3, 3)), 1.0, 0.0), "must be positive"),
        (
            lambda: normalized(lambda x: x, 3, "both", np.dtype(np.float32)),
            "symmetric, before, after or none, not 'both'",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
