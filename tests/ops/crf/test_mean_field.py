"""Mean field iterations against the same in float64 with whole kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops.crf import (
    bilateral_features,
    build_index,
    crf_rnn,
    exact_filter,
    mean_field,
    permutohedral_filter,
    position_features,
    separable_filter,
)
from tests.ops.crf.restated import kernel, lattice_matrix, normalised, softmax

H, W, K = 5, 7, 4


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    features = [position_features(H, W, 1.5), bilateral_features(picture, 4.0, 60.0)]
    features = [np.asarray(f, np.float64) for f in features]
    return rng.normal(0, 1.5, (H * W, K)), features


def restated(unary, kernels, compatibilities, iterations, how):
    q = softmax(-unary)
    for _ in range(iterations):
        e = -unary.copy()
        for k, c in zip(kernels, compatibilities, strict=True):
            message = normalised(k, how) @ q
            if np.ndim(c) == 0:
                e += c * message
            elif np.ndim(c) == 1:
                e -= c * message
            else:
                e -= 0.5 * message @ (c + c.T)
        q = softmax(e)
    return q


def compatibilities_of(kind):
    rng = np.random.default_rng(3)
    shape = {"number": (), "vector": (K,), "matrix": (K, K)}[kind]
    return [np.asarray(rng.normal(1, 1, shape)), np.asarray(rng.normal(1, 1, shape))]


@pytest.mark.parametrize("how", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("kind", ["number", "vector", "matrix"])
def test_equals_the_definition(x64, scene, how, kind):
    unary, features = scene
    weights = [0.2 * c for c in compatibilities_of(kind)]
    filters = [exact_filter(jnp.asarray(f), block=8) for f in features]
    found = mean_field(jnp.asarray(unary), filters, weights, iterations=3, normalization=how)
    wanted = restated(unary, [kernel(f) for f in features], weights, 3, how)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert np.abs(wanted - softmax(-unary)).max() > 0.01


@pytest.mark.parametrize("kind", ["number", "vector", "matrix"])
def test_gradients_are_finite_differences(x64, scene, kind):
    unary, features = scene
    weights = [0.3 * c for c in compatibilities_of(kind)]
    filters = [exact_filter(jnp.asarray(f), block=8) for f in features]
    rng = np.random.default_rng(5)
    g = rng.normal(size=unary.shape)

    @jax.jit
    def loss(unary, weights):
        return jnp.sum(g * mean_field(unary, filters, weights, iterations=2))

    arguments = (jnp.asarray(unary), [jnp.asarray(w) for w in weights])
    gradient = jax.grad(loss, argnums=(0, 1))(*arguments)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), arguments)

    def at(t):
        return loss(*jax.tree.map(lambda x, d: x + t * d, arguments, direction))

    numeric = (at(1e-5) - at(-1e-5)) / 2e-5
    pairs = jax.tree.map(lambda a, b: jnp.sum(a * b), gradient, direction)
    for part in jax.tree.leaves(gradient):
        assert np.abs(part).max() > 0
    np.testing.assert_allclose(sum(jax.tree.leaves(pairs)), numeric, rtol=1e-7)


def test_potts_number_is_the_vector_of_its_negative(scene):
    unary, features = scene
    unary = jnp.asarray(unary, jnp.float32)
    filters = [exact_filter(jnp.asarray(f, jnp.float32)) for f in features]
    a = mean_field(unary, filters, [2.0, 3.0], iterations=2)
    vectors = [jnp.full(K, -2.0), jnp.full(K, -3.0)]
    np.testing.assert_allclose(a, mean_field(unary, filters, vectors, iterations=2), atol=1e-6)


@pytest.mark.parametrize("iterations", [0, 5])
def test_without_weights_it_is_the_softmax(scene, iterations):
    unary, features = scene
    filters = [exact_filter(jnp.asarray(f, jnp.float32)) for f in features]
    found = mean_field(jnp.asarray(unary, jnp.float32), filters, [0.0, 0.0], iterations=iterations)
    np.testing.assert_allclose(found, softmax(-unary), atol=1e-6)


def test_one_label():
    features = jnp.asarray(position_features(3, 2, 1.0))
    found = mean_field(jnp.ones((6, 1)), [exact_filter(features)], [3.0], iterations=2)
    np.testing.assert_array_equal(found, np.ones((6, 1)))


@pytest.mark.parametrize("size", [(5, 7), (1, 9), (11, 3)])
def test_lattice(size):
    """The whole of the approximation, points that only fill up included."""
    h, w = size
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    features = [position_features(h, w, 1.5), bilateral_features(picture, 4.0, 60.0)]
    unary = rng.normal(0, 1.5, (h * w, K))
    indices = [build_index(f, points=80) for f in features]
    filled = jnp.zeros((80, K)).at[: h * w].set(jnp.asarray(unary, jnp.float32))
    filters = [permutohedral_filter(index) for index in indices]
    found = mean_field(filled, filters, [0.5, 0.8], iterations=4)
    matrices = [lattice_matrix(f) for f in features]
    wanted = restated(unary, matrices, [np.float64(0.5), np.float64(0.8)], 4, "symmetric")
    np.testing.assert_allclose(found[: h * w], wanted, atol=5e-6)


@pytest.mark.slow
def test_gradient_through_the_lattice(scene):
    """The transpose, not the filter itself: against the gradient with the matrix."""
    unary, features = scene
    matrices = [normalised(lattice_matrix(f), "after") for f in features]
    indices = [build_index(f, points=H * W) for f in features]
    g = np.random.default_rng(2).normal(size=unary.shape)

    def gradient(filters, normalization, dtype):
        def loss(unary):
            q = mean_field(unary, filters, [2.0, 3.0], iterations=3, normalization=normalization)
            return jnp.sum(jnp.asarray(g, dtype) * q)

        return jax.grad(loss)(jnp.asarray(unary, dtype))

    found = gradient([permutohedral_filter(i) for i in indices], "after", jnp.float32)
    dense = [lambda x, m=m: jnp.asarray(m, jnp.float32) @ x for m in matrices]
    wanted = gradient(dense, "none", jnp.float32)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def restated_rnn(u, kernels, weights, c, iterations):
    e = u
    for _ in range(iterations):
        q = softmax(e)
        pairs = zip(kernels, weights, strict=True)
        e = u + sum((normalised(k, "after") @ q) @ w.T for k, w in pairs) @ c.T
    return e


def test_crf_rnn_and_its_gradients(x64, scene):
    u, features = scene
    rng = np.random.default_rng(4)
    weights, c = [rng.normal(size=(K, K)) for _ in range(2)], rng.normal(size=(K, K))
    filters = [separable_filter(H, W, 1.5), exact_filter(jnp.asarray(features[1]), block=9)]
    g = rng.normal(size=u.shape)

    @jax.jit
    def run(u, weights, c):
        return crf_rnn(u, filters, weights, c, iterations=3)

    arguments = jax.tree.map(jnp.asarray, (u, weights, c))
    kernels = [kernel(features[0]), kernel(features[1])]
    np.testing.assert_allclose(run(*arguments), restated_rnn(u, kernels, weights, c, 3), atol=1e-5)

    def loss(*arguments):
        return jnp.sum(g * run(*arguments))

    gradient = jax.grad(loss, argnums=(0, 1, 2))(*arguments)
    leaves, structure = jax.tree.flatten(arguments)
    for i, part in enumerate(jax.tree.leaves(gradient)):
        direction = jnp.asarray(rng.normal(size=part.shape))

        def at(t, i=i, direction=direction):
            moved = [x + t * direction if j == i else x for j, x in enumerate(leaves)]
            return loss(*jax.tree.unflatten(structure, moved))

        numeric = (at(1e-5) - at(-1e-5)) / 2e-5
        np.testing.assert_allclose(jnp.sum(part * direction), numeric, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: mean_field(jnp.ones((2, 3, 4)), [f], [1.0], iterations=1), r"\[N, K\]"),
        (lambda f: mean_field(jnp.ones((6, 4)), [f], [], iterations=1), "1 filters and 0"),
        (lambda f: mean_field(jnp.ones((6, 4)), [f], [1.0], iterations=-1), "iterations"),
        (
            lambda f: mean_field(jnp.ones((6, 4)), [f], [jnp.ones(3)], iterations=1),
            r"a number, \[4\] or \[4, 4\], not \(3,\)",
        ),
        (lambda f: mean_field(jnp.ones((6, 4), jnp.int32), [f], [1.0], iterations=1), "floating"),
        (
            lambda f: crf_rnn(jnp.ones((6, 4)), [f], [jnp.eye(3)], jnp.eye(4), iterations=1),
            r"must be \(4, 4\), not \(3, 3\)",
        ),
        (
            lambda f: crf_rnn(jnp.ones((6, 4)), [f], [], jnp.eye(4), iterations=1),
            "1 filters and 0 weights",
        ),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(exact_filter(jnp.ones((6, 2))))
