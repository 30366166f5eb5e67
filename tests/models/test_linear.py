"""Layers under 16 bits: whose gradients are summed over the devices in float32."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.models.layers import conv
from sdnjax.models.transformer import dense
from sdnjax.training.sharding import split_by_batch
from tests.training.test_step import mesh_of


def test_gradients_of_16_bits_are_summed_in_float32():
    """Of a kernel products are rounded on each device, their sum is not; of a bias nothing is."""
    x = jnp.asarray(np.random.default_rng(3).normal(size=(8, 6, 5, 4)), jnp.bfloat16)
    for layer in (conv(3, 3, bias=True, dtype=jnp.bfloat16), dense(3, dtype=jnp.bfloat16)):
        params = layer.init(jax.random.key(0), x)

        def gradient(params, x, layer=layer):
            def loss(params):
                y = layer.clone(dtype=x.dtype).apply(params, x)
                assert y.dtype == x.dtype
                return jnp.sum(jnp.sin(y.astype(jnp.float32)))

            return jax.grad(loss)(params)["params"]

        shape = ",".join(map(str, params["params"]["kernel"].shape))
        wide = jax.jit(gradient)(params, x.astype(jnp.float32))
        mesh = mesh_of(8)
        with jax.set_mesh(mesh):
            found = jax.jit(gradient)(params, jax.device_put(x, split_by_batch(mesh)))
            program = str(jax.make_jaxpr(gradient)(params, x))
        assert re.search(rf"f32\[{shape}\] = psum", program), program
        for name in ("kernel", "bias"):
            assert found[name].dtype == jnp.float32
            bound = 0.02 * np.abs(wide[name]).max()
            np.testing.assert_allclose(found[name], wide[name], atol=bound)
