"""OCRNet's head (Yuan et al., 2020): pixels attend to the classes' regions."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.layers import Classifier, ConvBNReLU, Dtype, Head, at_least_float32
from sdnjax.ops import resize_bilinear


def gather_regions(features: jax.Array, scores: jax.Array) -> jax.Array:
    """One vector per class: the mean of the pixels, weighted by a softmax *over pixels*.

    `features [B, h, w, C]`, `scores [B, h, w, K]` → `[B, K, C]` (Eq. 8: f_k = Σ_i m_ki x_i).
    """
    weights = jax.nn.softmax(scores, axis=(1, 2)).astype(features.dtype)
    return jnp.einsum("bhwk,bhwc->bkc", weights, features)


class ObjectAttention(nn.Module):
    """Each pixel reads from the K regions what resembles it (Eq. 9 to 11).

    `x [B, h, w, C]`, `regions [B, K, C]` → `[B, h, w, C]`. Query and key are two 1×1
    convolutions each, value and output one, all with batch norm and ReLU; for the regions
    its statistics run over B·K.
    """

    key_channels: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, regions: jax.Array, *, train: bool) -> jax.Array:
        def project(x: jax.Array, channels: int, *names: str) -> jax.Array:
            for name in names:
                x = ConvBNReLU(channels, 1, dtype=self.dtype, name=name)(x, train=train)
            return x

        width = self.key_channels
        query = project(x, width, "query1", "query2")
        regions = regions[:, :, None]
        key = project(regions, width, "key1", "key2")[:, :, 0]
        value = project(regions, width, "value")[:, :, 0]

        similarity = jnp.einsum("bhwc,bkc->bhwk", query, key) * width**-0.5
        weights = jax.nn.softmax(at_least_float32(similarity), axis=-1).astype(value.dtype)
        context = jnp.einsum("bhwk,bkc->bhwc", weights, value)
        context = project(context, x.shape[-1], "out")
        return project(jnp.concatenate([context, x], axis=-1), x.shape[-1], "bottleneck")


class OCRHead(nn.Module):
    """Four maps → features that know of their classes' regions, and the scores of the regions.

    The maps are brought to the finest grid and concatenated. Returns a dict of
    `features [B, h, w, channels]`, `regions [B, K, channels]` and `auxiliary [B, h, w, K]`, the
    scores of a head of its own that say where each class's region is. The gradient of the loss
    on the network's scores reaches that head too.

    mmseg's training step runs its auxiliary head twice, which moves that head's batch-norm
    statistics twice; here they move once.

    Attributes:
      num_classes, dropout: of the auxiliary head.
    """

    num_classes: int
    channels: int = 512
    key_channels: int = 256
    dropout: float = 0.0
    align_corners: bool = False
    dtype: Dtype = jnp.float32

    has_auxiliary_scores = True

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], *, train: bool) -> dict[str, jax.Array]:
        grid = stages[0].shape[1:3]
        x = jnp.concatenate(
            [resize_bilinear(s, grid, align_corners=self.align_corners) for s in stages], axis=-1
        )
        # Without a parent both become parts of the head instead of this module.
        auxiliary = Head(
            FCNHead(x.shape[-1], 1, False, kernel_size=1, dtype=self.dtype, parent=None),
            Classifier(self.num_classes, self.dropout, self.dtype, parent=None),
            name="auxiliary",
        )(x, train=train)
        x = ConvBNReLU(self.channels, 3, dtype=self.dtype, name="bottleneck")(x, train=train)
        regions = gather_regions(x, auxiliary)
        attention = ObjectAttention(self.key_channels, self.dtype, name="attention")
        x = attention(x, regions, train=train)
        return {"features": x, "auxiliary": auxiliary, "regions": regions}
