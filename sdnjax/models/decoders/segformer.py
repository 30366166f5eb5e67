"""SegFormer's head (Xie et al., 2021): one linear layer per stage, concatenation, fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import ConvBNReLU, Dtype
from sdnjax.models.transformer import dense
from sdnjax.ops import resize_bilinear


class SegFormerHead(nn.Module):
    """Four maps at strides 4 to 32 → features `[B, H/4, W/4, channels]`.

    Attributes:
      channels: 256 in mmseg; 256 for B0 and B1, 768 for the rest in the official code.
      projection: per stage: "conv_bn_relu" without a bias (mmseg), or "linear" with a bias and
        nothing else (the paper, the official code, Hugging Face).
    """

    channels: int = 256
    projection: Literal["conv_bn_relu", "linear"] = "conv_bn_relu"
    align_corners: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], *, train: bool) -> jax.Array:
        grid = stages[0].shape[1:3]

        def project(x: jax.Array, name: str) -> jax.Array:
            if self.projection == "linear":
                return dense(self.channels, dtype=self.dtype, name=name)(x)
            return ConvBNReLU(self.channels, 1, dtype=self.dtype, name=name)(x, train=train)

        levels = [
            resize_bilinear(project(x, f"project{i}"), grid, align_corners=self.align_corners)
            for i, x in enumerate(stages, start=1)
        ]
        fuse = ConvBNReLU(self.channels, 1, dtype=self.dtype, name="fuse")
        return fuse(jnp.concatenate(levels, axis=-1), train=train)
