"""Random walks and adaptive pooling against plain loops in float64, forward and all gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.ops import adaptive_max_pool, random_walk_step, transition_rows
from sdnjax.ops.random_walk import propagate

SHAPES = [
    ((7, 5), (7, 5)),
    ((9, 13), (4, 5)),
    ((17, 6), (5, 6)),
    ((8, 8), (4, 2)),
    ((3, 4), (5, 7)),
]


def pooled(x, shape, g):
    """Values of the bins, and the gradient, which goes to the first of a bin's largest."""
    b, n, m, channels = x.shape
    y, dx = np.empty((b, *shape, channels)), np.zeros(x.shape)
    for image in range(b):
        for i in range(shape[0]):
            rows = range(i * n // shape[0], -(-(i + 1) * n // shape[0]))
            for j in range(shape[1]):
                columns = range(j * m // shape[1], -(-(j + 1) * m // shape[1]))
                for c in range(channels):
                    places = [(r, s) for r in rows for s in columns]
                    values = [x[image, r, s, c] for r, s in places]
                    best = int(np.argmax(values))
                    y[image, i, j, c] = values[best]
                    dx[(image, *places[best], c)] += g[image, i, j, c]
    return y, dx


@pytest.mark.parametrize(("size", "shape"), SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_bins_of_the_pool(size, shape, ties, x64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3))
    x = np.round(x) if ties else x
    g = rng.normal(size=(2, *shape, 3))
    y, pullback = jax.vjp(lambda x: adaptive_max_pool(x, shape), jnp.asarray(x))
    expected, gradient = pooled(x, shape, g)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(pullback(jnp.asarray(g))[0], gradient, atol=1e-14)


def test_the_pool_keeps_what_it_cannot_compare_and_its_dtype():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 7, 2)), jnp.bfloat16)
    y = adaptive_max_pool(x, (4, 3))
    assert y.dtype == jnp.bfloat16
    spoilt = adaptive_max_pool(x.at[0, 4, 3, 1].set(jnp.nan), (4, 3))
    where = np.isnan(np.asarray(spoilt, np.float32))
    assert where[0, 1:3, 1, 1].all() and where.sum() == 2  # row 4 lies in two bins
    assert adaptive_max_pool(x, (9, 7)) is x
    with pytest.raises(ValueError, match=r"cannot pool \(1, 9, 7, 2\) .* to \(0, 3\)"):
        adaptive_max_pool(x, (0, 3))


def walked(psi, y, seed, alpha, beta):
    """Eq. 4 and 5 with the whole matrix."""
    (b, h, w, k), n = y.shape, y.shape[1] * y.shape[2]
    result = np.empty(y.shape)
    mu, beta = 1 / (1 + np.exp(alpha)), 1 / (1 + np.exp(beta))
    for image in range(b):
        nodes = psi[image].reshape(n, -1)
        logits = nodes @ nodes.T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        moved = (p @ y[image].reshape(n, k)).reshape(h, w, k)
        walk = mu * moved + (1 - mu) * seed[image]
        result[image] = beta * walk + (1 - beta) * y[image]
    return result


def operands(h=5, w=7, b=2, d=6, k=3):
    rng = np.random.default_rng(3)
    psi = rng.normal(size=(b, h, w, d))
    y, seed = rng.normal(size=(2, b, h, w, k))
    return psi, y, seed, np.float64(0.4), np.float64(-0.7)


@pytest.mark.parametrize("block", [None, 1, 6, 12, 35, 99])
def test_a_walk_forward_and_all_gradients(block, x64):
    """Blocks that divide the 35 nodes, that do not, and that are more."""
    arguments = operands()
    g = np.random.default_rng(4).normal(size=arguments[1].shape)

    def ours(*arguments):
        return random_walk_step(*arguments, block=block)

    y, pullback = jax.vjp(ours, *map(jnp.asarray, arguments))
    np.testing.assert_allclose(y, walked(*arguments), atol=1e-12)
    step = 1e-6
    for i, gradient in enumerate(pullback(jnp.asarray(g))):
        x = arguments[i]
        for place in list(np.ndindex(x.shape))[:: max(1, x.size // 23)]:
            moved = [np.array(a, np.float64) for a in arguments]
            values = []
            for sign in (1, -1):
                moved[i] = x + sign * step * _unit(x.shape, place)
                values.append(np.sum(g * walked(*moved)))
            expected = (values[0] - values[1]) / (2 * step)
            assert np.asarray(gradient)[place] == pytest.approx(expected, abs=2e-7), (i, place)


def _unit(shape, place):
    unit = np.zeros(shape)
    unit[place] = 1
    return unit


@pytest.mark.slow
def test_blocks_change_no_value_and_no_gradient():
    arguments = [jnp.asarray(x, jnp.float32) for x in operands(9, 11)]

    def energy(block):
        def of(*arguments):
            return jnp.sum(jnp.sin(random_walk_step(*arguments, block=block)))

        return jax.value_and_grad(of, argnums=tuple(range(5)))(*arguments)

    for a, b in zip(jax.tree.leaves(energy(99)), jax.tree.leaves(energy(10)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_large_inner_products_stay_exact():
    """Logits of hundreds: no overflow, and no bfloat16 or TF32 in between."""
    psi, y, *_ = operands(6, 6, d=64)
    psi = (3 * psi).reshape(2, 36, 64)
    y = y.reshape(2, 36, 3)
    narrow = propagate(jnp.asarray(psi, jnp.float32), jnp.asarray(y, jnp.float32))
    logits = psi @ psi.transpose(0, 2, 1)
    p = np.exp(logits - logits.max(axis=2, keepdims=True))
    expected = p / p.sum(axis=2, keepdims=True) @ y
    assert logits.max() > 400
    np.testing.assert_allclose(narrow, expected, atol=2e-5)


def test_narrow_operands_are_widened():
    psi, y, seed, *_ = (jnp.asarray(x, jnp.bfloat16) for x in operands())
    zero = jnp.zeros((), jnp.float32)
    found = random_walk_step(psi, y, seed, zero, zero)
    assert found.dtype == jnp.float32
    wide = [np.asarray(x, np.float64) for x in (psi, y, seed)]
    np.testing.assert_allclose(found, walked(*wide, 0.0, 0.0), atol=1e-5)


def test_the_first_walk_keeps_equal_mu_and_beta_equal(x64):
    """With y = s only μβ acts, so descending from α = β never parts them."""
    psi, y, _, *_ = map(jnp.asarray, operands())

    def loss(alpha, beta):
        return jnp.sum(jnp.square(random_walk_step(psi, y, y, alpha, beta) - 1))

    alpha = beta = jnp.zeros(())
    for _ in range(5):
        a, b = jax.grad(loss, argnums=(0, 1))(alpha, beta)
        assert float(a) != 0
        alpha, beta = alpha - 0.01 * a, beta - 0.01 * b
    assert float(alpha) == pytest.approx(float(beta), abs=1e-13)
    other = loss(jnp.asarray(0.3), jnp.asarray(-0.5)), loss(jnp.asarray(-0.5), jnp.asarray(0.3))
    assert float(other[0]) == pytest.approx(float(other[1]), abs=1e-12)


def test_a_constant_map_stays_and_rows_sum_to_one(x64):
    psi, y, *_ = map(jnp.asarray, operands())
    constant = jnp.ones(y.shape) * jnp.asarray([1.0, -2.0, 5.0]).reshape(1, 1, 1, 3)
    zero = jnp.zeros(())
    np.testing.assert_allclose(
        random_walk_step(psi, constant, constant, zero, zero, block=8), constant, atol=1e-12
    )
    nodes = psi[1].reshape(35, -1)
    chosen = np.array([34, 0, 17], np.int32)
    rows = transition_rows(nodes, jnp.asarray(chosen))
    np.testing.assert_allclose(jnp.sum(rows, axis=1), 1, atol=1e-12)
    # They are the rows that the walks use.
    whole = propagate(nodes[None], jnp.eye(35)[None], block=4)[0]
    np.testing.assert_allclose(rows, whole[chosen], atol=1e-12)


def test_shapes_that_do_not_fit_are_told():
    psi, y, seed, alpha, beta = (jnp.asarray(x, jnp.float32) for x in operands())
    with pytest.raises(ValueError, match=r"on one grid, not \(2, 5, 7, 6\), \(2, 5, 6, 3\)"):
        random_walk_step(psi, y[:, :, :6], seed[:, :, :6], alpha, beta)
    with pytest.raises(ValueError, match="block must be at least 1 row, not 0"):
        random_walk_step(psi, y, seed, alpha, beta, block=0)
    with pytest.raises(ValueError, match=r"\[B, N, D\] and \[B, N, K\], not \(5, 7, 6\)"):
        propagate(psi[0], y[1, :2])
    with pytest.raises(ValueError, match=r"\[N, D\] and \[n\], not \(5, 7, 6\)"):
        transition_rows(psi[0], jnp.zeros(2, jnp.int32))


def test_the_gradient_holds_no_matrix():
    """Temporaries of five walks on 48² nodes: a few blocks of P, not five P's and their kin."""
    n, d, k = 48, 64, 21
    shapes = [(5, 1, n, n, d), (1, n, n, k)]
    psis, seed = (jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)

    def mib(block):
        def loss(psis, seed):
            y, zero = seed, jnp.zeros((), jnp.float32)
            for t in range(5):
                y = random_walk_step(psis[t], y, seed, zero, zero, block=block)
            return jnp.sum(jnp.square(y))

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(psis, seed).compile()
        return compiled.memory_analysis().temp_size_in_bytes / 2**20

    matrix = n**4 * 4 / 2**20  # 20 MiB
    assert mib(None) < 1.5 * matrix < 2 * matrix < mib(n * n)
