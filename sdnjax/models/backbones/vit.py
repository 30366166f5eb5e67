"""Vision transformers (Dosovitskiy et al., 2021): T, S, B and L with patches of 16 pixels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import Dtype
from sdnjax.models.transformer import (
    LayerNorm,
    PatchEmbedding,
    TransformerBlock,
    linear_rates,
    normal_002,
)
from sdnjax.ops import resize_bicubic, resize_bilinear

PositionResize = Literal["bicubic", "bilinear"]


class Size(NamedTuple):
    """How wide and deep a vision transformer is."""

    width: int
    depth: int
    heads: int


SIZES = {
    "t": Size(192, 12, 3),
    "s": Size(384, 12, 6),
    "b": Size(768, 12, 12),
    "l": Size(1024, 24, 16),
}


class ViT(nn.Module):
    """A vision transformer that returns its patches as a map.

    `[B, H, W, 3]` → one map `[B, ⌈H/p⌉, ⌈W/p⌉, C]`: the patch tokens after the final norm,
    the class token dropped. An image whose size is no multiple of p is padded with 0 below
    and to the right, as mmseg and the official Segmenter do (timm refuses it).

    Attributes:
      width, depth, heads: see `SIZES`.
      position_grid: rows and columns of the position embedding that is stored. It is resized
        to the grid of the image wherever the two differ. (mmseg resizes where their numbers
        of patches differ, and so leaves a 32×32 embedding as it is on a grid of 16×64.)
      position_resize: "bicubic" (mmseg, Hugging Face) or "bilinear" (official Segmenter).
      patch_bias: the patch embedding has a bias (timm, official) or none (mmseg).
      epsilon: of the layer norms: 1e-6 in mmseg and timm, 1e-5 in the official Segmenter,
        1e-12 in Hugging Face's ViT.
      drop_path: of the last block; it grows linearly from 0. It drops both branches, as the
        official code and timm do; mmseg drops the MLP's only.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch_size: int = 16
    position_grid: tuple[int, int] = (32, 32)
    position_resize: PositionResize = "bicubic"
    patch_bias: bool = True
    epsilon: float = 1e-6
    dropout: float = 0.0
    drop_path: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        embed = PatchEmbedding(
            self.width, self.patch_size, self.patch_bias, self.dtype, name="patch_embedding"
        )
        x = embed(x.astype(self.dtype))
        b, h, w, c = x.shape

        class_token = self.param("class_token", normal_002, (1, 1, c))
        tokens = 1 + self.position_grid[0] * self.position_grid[1]
        position = self.param("position_embedding", normal_002, (1, tokens, c))
        position = resize_position_embedding(
            position, self.position_grid, (h, w), self.position_resize
        )
        # Spread over the images before they are rounded: their gradient is summed before it is.
        class_tokens = jnp.broadcast_to(class_token, (b, 1, c)).astype(self.dtype)
        x = jnp.concatenate([class_tokens, x.reshape(b, h * w, c)], axis=1)
        x = x + jnp.broadcast_to(position, x.shape).astype(self.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)

        for i, rate in enumerate(linear_rates(self.drop_path, self.depth)):
            block = TransformerBlock(
                self.heads, self.dropout, rate, self.epsilon, self.dtype, name=f"block{i}"
            )
            x = block(x, train=train)
        x = LayerNorm(self.epsilon, name="norm")(x)
        return (x[:, 1:].reshape(b, h, w, c),)


def resize_position_embedding(
    embedding: jax.Array,
    old: tuple[int, int],
    new: tuple[int, int],
    mode: PositionResize = "bicubic",
) -> jax.Array:
    """Position embedding `[1, 1 + h·w, C]` of one grid for another; the class token's stays."""
    if tuple(old) == tuple(new):
        return embedding
    resize = {"bicubic": resize_bicubic, "bilinear": resize_bilinear}[mode]
    c = embedding.shape[-1]
    patches = resize(embedding[:, 1:].reshape(1, *old, c), new)
    return jnp.concatenate([embedding[:, :1], patches.reshape(1, -1, c)], axis=1)
