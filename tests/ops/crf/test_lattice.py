"""The permutohedral filter against the matrix that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.ops.crf import bilateral_features, build_index, permutohedral_filter, position_features
from sdnjax.ops.crf import lattice_index as module
from tests.ops.crf.restated import lattice, lattice_matrix


def features_of(n, d, spread, seed=0):
    return np.random.default_rng(seed).normal(0, spread, (n, d)).astype(np.float32)


def applied(index, values):
    padded = jnp.zeros((index.points, values.shape[1]), values.dtype).at[: len(values)].set(values)
    return permutohedral_filter(index)(padded)


@pytest.mark.parametrize(
    ("n", "d", "spread"),
    [
        (1, 5, 1.0),
        (60, 5, 4.0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((37, 1, 2.0), (90, 2, 0.2), (90, 2, 3.0), (70, 5, 0.4), (40, 3, 1))
        ),
    ],
)
def test_filter_is_the_matrix_and_its_gradient_the_transpose(n, d, spread):
    features = features_of(n, d, spread)
    matrix = lattice_matrix(features)
    rng = np.random.default_rng(1)
    channels = 11 if d == 5 else 3  # above and below the width of a register
    x, g = (rng.normal(size=(n, channels)).astype(np.float32) for _ in range(2))
    index = build_index(features)
    found, pull = jax.vjp(lambda x: applied(index, x)[:n], jnp.asarray(x))
    np.testing.assert_allclose(found, matrix @ x, atol=2e-5 * np.abs(matrix @ x).max())
    transposed = matrix.T @ g
    np.testing.assert_allclose(
        pull(jnp.asarray(g))[0], transposed, atol=2e-5 * np.abs(transposed).max()
    )
    if n > 60 and d > 1:  # the order of the axes shows, or nothing is tested
        assert np.abs(matrix - matrix.T).max() > 1e-3 * matrix.max()


def test_index_holds_the_lattice():
    """As many lattice points, each point's weights summing to 1, neighbours of each other."""
    features = features_of(80, 5, 1.0)
    splat, blurs, _ = lattice(features)
    index = build_index(features)
    n, m = len(features), len(splat)
    assert (index.points, index.capacity) == (module.bucket(n), module.bucket(m + 1))
    assert len(np.unique(index.vertices[:, :n])) == m
    assert index.vertices[:, :n].min() == 1
    np.testing.assert_allclose(index.weights[:, :n].sum(axis=0), 1, atol=1e-6)
    assert index.weights.min() > -1e-5
    assert not index.weights[:, n:].any()
    for axis, (before, after) in enumerate(index.neighbours):
        assert (before[0], after[0]) == (0, 0)
        there = np.flatnonzero(before)
        np.testing.assert_array_equal(after[before[there]], there)
        assert 2 * len(there) == np.count_nonzero(blurs[axis]) - m


@pytest.mark.parametrize("at_once", [2, 4, 16])
def test_many_points_in_one_cell(monkeypatch, at_once):
    """Most points are beyond the first of their lattice point, whatever is summed at once."""
    monkeypatch.setattr(module, "_MOST_AT_ONCE", at_once)
    features = np.concatenate([features_of(150, 2, 0.05), features_of(9, 2, 5.0)])
    index = build_index(features)
    assert index.rest_weights[:, 0].any()
    values = np.random.default_rng(0).normal(size=(159, 2)).astype(np.float32)
    wanted = lattice_matrix(features) @ values
    np.testing.assert_allclose(applied(index, jnp.asarray(values))[:159], wanted, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (4, 9)])
def test_constant_picture(size):
    """Only positions matter: the result is that of a lattice in which colours are one number."""
    h, w = size
    picture = np.full((h, w, 3), 77, np.uint8)
    features = bilateral_features(picture, 3.3, 13.0)
    shifted = features + np.float32(1e-3)
    values = np.random.default_rng(0).random((h * w, 4)).astype(np.float32)
    found = applied(build_index(features), jnp.asarray(values))[: h * w]
    assert np.isfinite(found).all()
    other = applied(build_index(shifted), jnp.asarray(values))[: h * w]
    # Another place in the lattice: the same filter but for the lattice's error.
    assert np.abs(np.asarray(found) - np.asarray(other)).max() < 0.35 * np.abs(found).max()


def test_room_and_what_fills_it_change_nothing():
    features = features_of(50, 5, 1.0)
    small = build_index(features)
    large = build_index(features, points=96, capacity=2 * small.capacity)
    assert (large.points, large.capacity) == (96, 2 * small.capacity)
    values = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    a, b = applied(small, values), applied(large, values)
    np.testing.assert_allclose(a[:50], b[:50], atol=1e-5)
    assert not np.asarray(b[50:]).any()


def test_one_compilation_serves_lattices_of_one_room():
    """Pictures whose lattices differ, in rooms of the same shape."""
    a, b = (build_index(features_of(64, 5, 1.0, s), capacity=400) for s in (0, 1))
    count = 0

    @jax.jit
    def filtered(index, values):
        nonlocal count
        count += 1
        return permutohedral_filter(index)(values)

    for index in (a, b):
        filtered(index, jnp.ones((index.points, 2)))
    assert count == 1


def test_numbers_too_large_to_sort_with_the_pixels(monkeypatch):
    """Keys that leave no room for the pixel's number are sorted otherwise."""
    features = features_of(40, 5, 100.0)
    index = build_index(features)
    monkeypatch.setattr(module, "_sorted", lambda keys, span: module_sorted(keys, 2**62))
    other = build_index(features)
    jax.tree.map(np.testing.assert_array_equal, index, other)


module_sorted = module._sorted


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (features_of(30, 5, 3.0), {"capacity": 16}, r"lattice has \d+ points and room for 16"),
        (features_of(30, 5, 3.0), {"points": 16}, "index of 16 points cannot take 30"),
        (np.zeros(4, np.float32), {}, r"numbers \[N, d\], not float32 \(4,\)"),
        (np.zeros((0, 2), np.float32), {}, r"not float32 \(0, 2\)"),
        (np.full((3, 2), np.nan, np.float32), {}, "not finite"),
        (np.full((3, 2), np.inf, np.float32), {}, "not finite"),
        (features_of(30, 14, 500.0), {}, "do not fit into 62 bits"),
    ],
)
def test_refused(features, options, message):
    with pytest.raises(InputError, match=message):
        build_index(features, **options)


def test_values_of_another_length():
    index = build_index(features_of(10, 2, 1.0))
    with pytest.raises(ValueError, match=r"values must be \[10, C\] as the index is, not \(9, 2\)"):
        permutohedral_filter(index)(jnp.ones((9, 2)))


def test_bfloat16_is_filtered_in_float32():
    features = features_of(60, 5, 0.3)
    index = build_index(features)
    values = jnp.asarray(np.random.default_rng(0).random((60, 2)), jnp.bfloat16)
    found = applied(index, values)
    assert found.dtype == jnp.bfloat16
    exact = applied(index, values.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.asarray(exact, np.float32))


def test_batch_by_vmap():
    """Indices of one shape stack."""
    indices = [build_index(features_of(40, 5, 1.0, s), capacity=300) for s in (0, 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *indices)
    values = jnp.asarray(np.random.default_rng(0).random((2, 40, 3)), jnp.float32)
    found = jax.vmap(lambda i, v: permutohedral_filter(i)(v))(stacked, values)
    for i in range(2):
        np.testing.assert_allclose(found[i], applied(indices[i], values[i]), atol=1e-5)


def test_position_features_are_x_and_y():
    features = position_features(3, 4, 2.0)
    np.testing.assert_array_equal(features[4 * 2 + 3], np.float32([1.5, 1.0]))
    features = position_features(3, 4, (2.0, 4.0))
    np.testing.assert_array_equal(features[4 * 2 + 3], np.float32([0.75, 1.0]))
