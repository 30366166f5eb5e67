"""Max-pooling against JAX's own and against PyTorch: ties, borders, NaN, odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.ops.pooling import max_pool

CASES = [
    ((2, 9, 12, 3), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 8, 7, 4), (3, 3), (2, 2), ((1, 2), (1, 1))),
    ((1, 1, 1, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 9, 10, 2), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((1, 11, 8, 2), (3, 2), (1, 3), ((1, 1), (0, 1))),
    ((1, 13, 14, 2), (2, 3), (3, 5), ((0, 0), (1, 1))),
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_those_of_jax(case, ties):
    shape, window, strides, padding = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    x = jnp.asarray(np.maximum(np.round(x), 0) if ties else x)
    y, pullback = jax.vjp(lambda x: max_pool(x, window, strides, padding), x)
    want, theirs = jax.vjp(lambda x: nn.max_pool(x, window, strides, padding), x)
    np.testing.assert_array_equal(y, want)
    dy = jnp.asarray(rng.standard_normal(y.shape, np.float32))
    np.testing.assert_allclose(pullback(dy)[0], theirs(dy)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_is_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x = np.maximum(np.round(2 * rng.standard_normal((2, 5, 11, 10))), 0).astype(np.float32)
    x[0, 0, 3, 4] = x[1, 2, 5, 5] = x[1, 2, 5, 7] = np.nan
    dy = rng.standard_normal((2, 5, 6, 5)).astype(np.float32)
    there = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    result = torch.nn.functional.max_pool2d(there, 3, 2, 1)
    result.backward(torch.tensor(dy, dtype=there.dtype))

    def channels_last(a):
        return jnp.asarray(np.moveaxis(a, 1, -1), dtype)

    y, pullback = jax.vjp(lambda x: max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), channels_last(x))
    want = np.moveaxis(result.detach().float().numpy(), 1, -1)
    np.testing.assert_array_equal(np.asarray(y, np.float32), want)
    got, want = pullback(channels_last(dy))[0], np.moveaxis(there.grad.float().numpy(), 1, -1)
    rounding = 1e-6 if dtype == "float32" else 2e-2  # PyTorch adds up to four in 16 bits
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=rounding, atol=rounding)
    assert got.dtype == jnp.dtype(dtype)


def test_nothing_is_scattered():
    """What is gathered adds in one order everywhere; a scatter on a GPU does not."""
    x = jnp.zeros((1, 8, 8, 4))
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))))
    assert "scatter" not in str(jax.make_jaxpr(gradient)(x))
