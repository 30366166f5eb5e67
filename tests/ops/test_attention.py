"""Blocked attention against the whole matrix, gradients and memory included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sdnjax.ops.attention import blocked_attention
from tests.ops.oracles import arrays, slope, value_and_pullback


def whole(q, k, v, scale):
    logits = scale * np.einsum("bnd,bmd->bnm", q, k)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("bnm,bmc->bnc", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("block", [None, 1, 3, 100])
def test_blocks_change_nothing(x64, block):
    """7 rows in blocks of 3 leave a partial last one."""
    q, k, v, dy = arrays((2, 7, 3), (2, 5, 3), (2, 5, 4), (2, 7, 4))
    highest = lax.Precision.HIGHEST

    def f(q, k, v):
        return blocked_attention(q, k, v, scale=0.7, block=block, precision=highest)

    y, pullback = value_and_pullback(f, (q, k, v), dy)
    np.testing.assert_allclose(y, whole(q, k, v, 0.7), rtol=0, atol=1e-12)
    for i in range(3):

        def total(x, i=i):
            return np.sum(whole(*[x if j == i else a for j, a in enumerate((q, k, v))], 0.7) * dy)

        np.testing.assert_allclose(pullback[i], slope(total, (q, k, v)[i]), rtol=1e-7, atol=1e-8)


def test_large_logits_do_not_overflow():
    q = 100 * jnp.eye(4)[None]
    y = blocked_attention(q, q, jnp.arange(4.0)[None, :, None], block=2)
    np.testing.assert_array_equal(y[0, :, 0], [0, 1, 2, 3])


def test_the_matrix_is_never_whole():
    x = jax.ShapeDtypeStruct((1, 4096, 8), jnp.float32)

    def gradient(q, k, v):
        return jax.grad(lambda *a: jnp.sum(blocked_attention(*a) ** 2), (0, 1, 2))(q, k, v)

    memory = jax.jit(gradient).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes
    assert memory < 4096**2 * 4 / 2  # which is 64 MiB; two blocks of 4 MiB, and what goes with them


@pytest.mark.parametrize(
    "shapes", [((1, 3, 2), (1, 4, 3), (1, 4, 1)), ((1, 3, 2), (1, 4, 2), (1, 3, 1)), ((3, 2),) * 3]
)
def test_shapes_that_do_not_fit_are_named(shapes):
    with pytest.raises(ValueError, match="attention takes queries"):
        blocked_attention(*map(jnp.zeros, shapes))
    with pytest.raises(ValueError, match="at least 1 row"):
        blocked_attention(*[jnp.zeros((1, 2, 2))] * 3, block=0)
