"""Segmenter's mask transformer (Strudel et al., 2021), a classifier with attention.

Its linear variant is the plain `Classifier` on the backbone's map, without dropout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import Dtype, at_least_float32
from sdnjax.models.transformer import LayerNorm, TransformerBlock, dense, linear_rates, normal_002


class MaskTransformer(nn.Module):
    """Patches and one embedding per class pass through transformer blocks together.

    `[B, h, w, C]` → scores `[B, h, w, K]`, at least float32: products of L2-normalised patches and
    class embeddings, layer norm over the K classes.

    Attributes:
      width: of the blocks, as a rule the encoder's.
      epsilon: of the layer norms: 1e-5 in mmseg and in the official Segmenter.
      drop_path: of the last block; it grows linearly from 0.
    """

    num_classes: int
    width: int
    heads: int
    depth: int = 2
    epsilon: float = 1e-5
    dropout: float = 0.0
    drop_path: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        b, h, w, c = x.shape
        x = dense(self.width, dtype=self.dtype, name="input_projection")(x.reshape(b, h * w, c))
        classes = self.param("class_embedding", normal_002, (1, self.num_classes, self.width))
        classes = jnp.broadcast_to(classes, (b, *classes.shape[1:])).astype(self.dtype)
        x = jnp.concatenate([x, classes], axis=1)
        for i, rate in enumerate(linear_rates(self.drop_path, self.depth)):
            block = TransformerBlock(
                self.heads, self.dropout, rate, self.epsilon, self.dtype, name=f"block{i}"
            )
            x = block(x, train=train)
        x = LayerNorm(self.epsilon, name="norm")(x)

        def directions(tokens: jax.Array, name: str) -> jax.Array:
            return _unit(dense(self.width, bias=False, dtype=self.dtype, name=name)(tokens))

        patches = directions(x[:, : h * w], "patch_projection")
        classes = directions(x[:, h * w :], "class_projection")
        scores = jnp.einsum("bnc,bkc->bnk", patches, classes)
        return LayerNorm(self.epsilon, name="mask_norm")(scores).reshape(b, h, w, -1)


def _unit(x: jax.Array) -> jax.Array:
    """x over its L2 norm, or over 1e-12 where that is smaller, as `F.normalize` has it."""
    x = at_least_float32(x)
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    # The square root of 0 has no gradient.
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))
