"""Similarity maps against their definition, and where their formulas are delicate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax import ops
from sdnjax.ops.neighbours import inside, mirror, tap_offsets, weighted_difference
from tests.ops.oracles import NAMES, arrays, lopsided, similarity_loop, slope, value_and_pullback

# Compiled once per call: op by op, every primitive would be compiled on its own.
OPTIONS = ("kernel_size", "dilation", "similarity", "boundary")
similarity_maps = jax.jit(ops.similarity_maps, static_argnames=OPTIONS)

borders = pytest.mark.parametrize("boundary", ["no_flux", "zeros"])


@borders
@pytest.mark.parametrize("similarity", [*NAMES, lopsided])
@pytest.mark.parametrize(("kernel_size", "dilation"), [((1, 3), 2), ((5, 3), (3, 1))])
def test_equals_the_definition(x64, kernel_size, dilation, similarity, boundary):
    (v,) = arrays((2, 4, 5, 3))
    options = {"dilation": dilation, "similarity": similarity, "scale": 1.3, "boundary": boundary}
    s = similarity_maps(jnp.array(v), kernel_size=kernel_size, **options)
    np.testing.assert_allclose(s, similarity_loop(v, kernel_size, **options), rtol=0, atol=1e-12)


@borders
@pytest.mark.parametrize("similarity", [*NAMES, lopsided])
def test_gradients_equal_finite_differences(x64, similarity, boundary):
    v, ds = arrays((2, 3, 4, 2), (2, 3, 4, 15), seed=1)
    options = {"similarity": similarity, "boundary": boundary}

    def loss(v, scale):
        s = similarity_maps(v, kernel_size=(3, 5), scale=scale, **options)
        return jnp.sum(s * ds)

    def loop(v, scale):
        return np.sum(similarity_loop(v, (3, 5), scale=scale, **options) * ds)

    dv, dscale = jax.jit(jax.grad(loss, argnums=(0, 1)))(jnp.array(v), jnp.float64(0.8))
    np.testing.assert_allclose(dv, slope(lambda v: loop(v, 0.8), v), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(dscale, slope(lambda a: loop(v, a), 0.8), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("similarity", NAMES)
@pytest.mark.parametrize("value", [0.0, 3.0])
@borders
def test_constant_guidance(similarity, value, boundary):
    v = jnp.full((1, 4, 5, 3), value, jnp.float32)

    def f(v, scale):
        return similarity_maps(
            v, kernel_size=3, similarity=similarity, scale=scale, boundary=boundary
        )

    expected = 0.0 if similarity == "cosine" and value == 0 else 1.0
    s = f(v, 1.0)
    interior = np.delete(np.asarray(s[:, 1:-1, 1:-1]), 4, axis=-1)
    np.testing.assert_allclose(interior, expected, rtol=1e-6)
    if similarity == "relative":
        np.testing.assert_array_equal(s[s > 0], 1)
    gradients = jax.jit(jax.grad(lambda *a: jnp.sum(f(*a)), argnums=(0, 1)))(v, 1.0)
    assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("size", [1e-18, 1e-6, 1.0, 1e6])
def test_relative_is_free_of_scale_and_finite(size):
    (v,) = arrays((2, 5, 5, 3), dtype=np.float32)

    def f(v):
        return similarity_maps(v, kernel_size=3, similarity="relative")

    s, (dv,) = value_and_pullback(f, (np.float32(size) * v,), np.ones((2, 5, 5, 9), np.float32))
    assert np.all(np.isfinite(dv))
    if size > 1e-10:
        np.testing.assert_allclose(s, f(jnp.array(v)), rtol=1e-5, atol=1e-6)


def test_relative_is_computed_per_image(x64):
    (v,) = arrays((2, 4, 4, 3))
    v[1] *= 100
    options = {"kernel_size": 3, "similarity": "relative"}
    both = similarity_maps(jnp.array(v), **options)
    for n in range(2):
        alone = similarity_maps(jnp.array(v[n : n + 1]), **options)
        np.testing.assert_allclose(both[n : n + 1], alone, rtol=1e-14)


def test_distance_is_a_sum_over_channels(x64):
    v = np.zeros((1, 1, 2, 8))
    v[0, 0, 1] = 1
    s = similarity_maps(jnp.array(v), kernel_size=(1, 3))
    np.testing.assert_allclose(s[0, 0, 0], [0, 1, 1 / 3])  # d² = 8


def test_bfloat16_is_computed_in_float32():
    (v,) = arrays((1, 5, 5, 32))
    v = jnp.array(v, jnp.bfloat16)
    s = similarity_maps(v, kernel_size=3)
    assert s.dtype == jnp.float32
    expected = similarity_loop(np.asarray(v, np.float64), (3, 3))
    np.testing.assert_allclose(s, expected, rtol=1e-5)


def test_callable_may_close_over_traced_values(x64):
    (v,) = arrays((1, 3, 3, 2))

    def loss(temperature):
        def similarity(neighbour, centre):
            return jnp.exp(-temperature * jnp.sum(jnp.abs(neighbour - centre), axis=-1))

        return jnp.sum(similarity_maps(jnp.array(v), kernel_size=3, similarity=similarity))

    expected = slope(lambda t: float(loss(jnp.float64(t))), 0.7)
    np.testing.assert_allclose(jax.grad(loss)(0.7), expected, rtol=1e-8)


def test_weighted_difference_and_its_gradient(x64):
    """Weights that are neither symmetric nor 0 outside."""
    offsets = tap_offsets((3, 5), (2, 1))
    u, s, dy = arrays((1, 4, 3, 2), (1, 4, 3, 15), (1, 4, 3, 2))

    def loop(u, s):
        padded = np.pad(u, ((0, 0), (2, 2), (2, 2), (0, 0)))
        reads = [padded[:, 2 + y : 6 + y, 2 + x : 5 + x] for y, x in offsets]
        return sum(s[..., k, None] * (read - u) for k, read in enumerate(reads))

    y, (du, ds) = value_and_pullback(lambda u, s: weighted_difference(u, s, offsets), (u, s), dy)
    np.testing.assert_allclose(y, loop(u, s), rtol=0, atol=1e-13)
    np.testing.assert_allclose(du, slope(lambda u: np.sum(loop(u, s) * dy), u), atol=1e-9)
    np.testing.assert_allclose(ds, slope(lambda s: np.sum(loop(u, s) * dy), s), atol=1e-9)


def test_symmetric_maps_are_their_own_mirror(x64):
    (v,) = arrays((1, 5, 4, 3))
    offsets = tap_offsets((3, 3), 2)
    s = similarity_maps(jnp.array(v), kernel_size=3, dilation=2)
    np.testing.assert_array_equal(mirror(s, offsets), s)
    np.testing.assert_array_equal(inside(v.shape, offsets), s > 0)
