"""Swin transformers (Liu et al., 2021): T, S and B."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sdnjax.models.layers import Dtype
from sdnjax.models.transformer import (
    MLP,
    Attention,
    LayerNorm,
    PatchEmbedding,
    dense,
    drop_path,
    linear_rates,
    normal_002,
)


class Size(NamedTuple):
    """Channels of the first stage, blocks and heads per stage, side of the windows."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int


SIZES = {
    "t": Size(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "s": Size(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "b": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
}


class WindowAttention(nn.Module):
    """Attention within windows of a map, with a learned bias per relative position.

    `[B, h, w, C]` → the same. The map is padded with 0 below and to the right up to whole
    windows; padded tokens take part, as in mmseg and Hugging Face. With `shift`, windows are
    moved by it cyclically, and tokens that meet across the border of the map are kept apart
    by a bias of −100.
    """

    heads: int
    window: int
    shift: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        _, h, w, _ = x.shape
        side, shift = self.window, self.shift
        x = jnp.pad(x, ((0, 0), (0, -h % side), (0, -w % side), (0, 0)))
        grid = x.shape[1:3]

        table = self.param("relative_position_bias", normal_002, ((2 * side - 1) ** 2, self.heads))
        bias = table[relative_positions(side)].transpose(2, 0, 1)[None]
        if shift:
            x = jnp.roll(x, (-shift, -shift), axis=(1, 2))
            apart = jnp.asarray(_apart(grid, side, shift), bias.dtype)
            bias = bias - 100 * apart[:, None]

        tokens = _to_windows(x, side)
        tokens = Attention(self.heads, dtype=self.dtype, name="attention")(
            tokens, tokens, tokens, bias, train=train
        )
        x = _from_windows(tokens, side, grid)
        if shift:
            x = jnp.roll(x, (shift, shift), axis=(1, 2))
        return x[:, :h, :w]


def _to_windows(x: jax.Array, side: int) -> jax.Array:
    """`[B, h, w, C]` → `[B, windows, side², C]`, windows row by row."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).swapaxes(2, 3)
    return x.reshape(b, -1, side * side, c)


def _from_windows(x: jax.Array, side: int, grid: tuple[int, ...]) -> jax.Array:
    """The inverse of `_to_windows`."""
    (b, _, _, c), (h, w) = x.shape, grid
    x = x.reshape(b, h // side, w // side, side, side, c).swapaxes(2, 3)
    return x.reshape(b, h, w, c)


def relative_positions(side: int) -> np.ndarray:
    """`[side², side²]` rows of the table: (Δy + side − 1)·(2·side − 1) + Δx + side − 1."""
    y, x = np.divmod(np.arange(side * side), side)
    dy, dx = (a[:, None] - a[None, :] + side - 1 for a in (y, x))
    return dy * (2 * side - 1) + dx


def _apart(grid: tuple[int, ...], side: int, shift: int) -> np.ndarray:
    """`[windows, side², side²]`: pairs of tokens that a shift brought together, as 1."""

    def region(size: int) -> np.ndarray:
        i = np.arange(size)
        return (i >= size - side).astype(int) + (i >= size - shift)

    regions = 3 * region(grid[0])[:, None] + region(grid[1])
    h, w = grid
    windows = regions.reshape(h // side, side, w // side, side).swapaxes(1, 2)
    windows = windows.reshape(-1, side * side)
    return windows[:, :, None] != windows[:, None, :]


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP with residual connections."""

    heads: int
    window: int
    shift: int
    drop_path: float
    epsilon: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = LayerNorm(self.epsilon, name="norm1")(x)
        attention = WindowAttention(
            self.heads, self.window, self.shift, self.dtype, name="attention"
        )
        x = x + drop_path(attention(y, train=train), self.drop_path, train=train)
        y = LayerNorm(self.epsilon, name="norm2")(x)
        y = MLP(dtype=self.dtype, name="mlp")(y, train=train)
        return x + drop_path(y, self.drop_path, train=train)


class PatchMerging(nn.Module):
    """`[B, h, w, C]` → `[B, ⌈h/2⌉, ⌈w/2⌉, 2·C]`.

    The four pixels of a 2×2 square are concatenated column by column, as in the original and
    in Hugging Face (mmseg interleaves their channels, row by row: its table reorders them).
    """

    epsilon: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, h, w, c = x.shape
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
        x = LayerNorm(self.epsilon, name="norm")(x)
        return dense(2 * c, bias=False, dtype=self.dtype, name="reduction")(x)


class Swin(nn.Module):
    """Swin transformer that returns its four stages, at strides 4, 8, 16 and 32.

    `[B, H, W, 3]` → maps of `width` times 1, 2, 4 and 8 channels, each after a layer norm of
    its own, as dense prediction uses them; sizes are rounded up.

    Attributes:
      width, depths, heads, window: see `SIZES`. Every other block is shifted by half a window.
      drop_path: of the last block; it grows linearly from 0 over all blocks.
    """

    width: int = 96
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    window: int = 7
    epsilon: float = 1e-5
    drop_path: float = 0.3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        embedding = PatchEmbedding(self.width, 4, dtype=self.dtype, name="patch_embedding")
        x = LayerNorm(self.epsilon, name="embedding_norm")(embedding(x.astype(self.dtype)))
        rates = iter(linear_rates(self.drop_path, sum(self.depths)))
        stages = []
        for s, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True), start=1):
            if s > 1:
                x = PatchMerging(self.epsilon, self.dtype, name=f"merge{s - 1}")(x)
            for b in range(depth):
                block = SwinBlock(
                    heads,
                    self.window,
                    self.window // 2 if b % 2 else 0,
                    next(rates),
                    self.epsilon,
                    self.dtype,
                    name=f"stage{s}_block{b}",
                )
                x = block(x, train=train)
            stages.append(LayerNorm(self.epsilon, name=f"norm{s}")(x))
        return tuple(stages)
