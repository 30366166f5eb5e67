"""What comparing with PyTorch does not show: drop path, narrow types, a batch of one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.models.backbones.efficientnet_lite import InvertedBottleneck
from sdnjax.models.decoders.deeplab import SeparableASPP
from tests.models.small import small_network
from tests.models.variables import random_variables


def test_drop_path_leaves_out_the_residual_of_whole_images():
    x = np.random.default_rng(0).normal(size=(40, 3, 5, 4)).astype(np.float32)
    blocks = {p: InvertedBottleneck(4, 3, 1, 2, drop_path=p) for p in (0.0, 0.5)}
    variables = jax.eval_shape(lambda: blocks[0.0].init(jax.random.key(0), x, train=False))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda v: rng.uniform(0.5, 1.5, v.shape), variables)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def residual(p, train, seed=0):
        rngs = {"dropout": jax.random.key(seed)}
        y, _ = blocks[p].apply(variables, x, train=train, rngs=rngs, mutable=["batch_stats"])
        return y - x

    expected, dropped = residual(0.0, True), np.asarray(residual(0.5, True))
    kept = np.abs(dropped).max(axis=(1, 2, 3)) > 0
    assert 10 < kept.sum() < 30
    np.testing.assert_allclose(dropped[kept], 2 * np.asarray(expected)[kept], atol=1e-5)
    assert np.any(residual(0.5, True, 1) != dropped)
    np.testing.assert_array_equal(residual(0.5, False), residual(0.0, False))


@pytest.mark.parametrize(
    "name", ["ocrnet_hr18", "deeplabv3plus_r18-d8", "deeplabv2_r50-d8", "fpn_efficientnet-lite0"]
)
def test_bfloat16_stays_inside(name):
    model = small_network(name, num_classes=3, neck="sdn", dtype=jnp.bfloat16)
    image = jax.ShapeDtypeStruct((2, 33, 47, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=True), image
    )
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    for key, x in outputs.items():
        wide = key in ("logits", "scores", "decoder", "auxiliary")
        assert x.dtype == (jnp.float32 if wide else jnp.bfloat16), key


def test_image_pooling_of_a_single_image_in_training():
    """Where PyTorch refuses to normalise one value: its batch norm gives its bias."""
    x = np.random.default_rng(0).normal(size=(1, 5, 7, 4)).astype(np.float32)
    model = SeparableASPP(channels=3, dilations=(1, 2))
    variables = jax.tree.map(np.float32, random_variables(model, x, 1))

    @jax.jit
    def inside(variables):
        shown = {"capture_intermediates": True, "mutable": ["intermediates", "batch_stats"]}
        return model.apply(variables, x, train=True, **shown)[1]["intermediates"]

    pooled = inside(variables)["image_pool"]["__call__"][0]
    bias = variables["params"]["image_pool"]["bn"]["bias"]
    np.testing.assert_allclose(pooled[0, 0, 0], np.maximum(bias, 0), atol=1e-6)
