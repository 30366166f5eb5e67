"""Mix transformers (Xie et al., 2021), the encoders of SegFormer: MiT-B0 to B5."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.layers import Dtype, conv, kaiming_normal
from sdnjax.models.linear import Conv
from sdnjax.models.transformer import Attention, LayerNorm, dense, drop_path, linear_rates


class Size(NamedTuple):
    """Channels of the first stage and blocks per stage."""

    width: int
    depths: tuple[int, int, int, int]


SIZES = {
    "b0": Size(32, (2, 2, 2, 2)),
    "b1": Size(64, (2, 2, 2, 2)),
    "b2": Size(64, (3, 4, 6, 3)),
    "b3": Size(64, (3, 4, 18, 3)),
    "b4": Size(64, (3, 8, 27, 3)),
    "b5": Size(64, (3, 6, 40, 3)),
}


class OverlappingEmbedding(nn.Module):
    """A strided convolution whose windows overlap, then a layer norm."""

    features: int
    size: int
    stride: int
    epsilon: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = conv(
            self.features, self.size, stride=self.stride, bias=True, dtype=self.dtype, name="conv"
        )
        return LayerNorm(self.epsilon, name="norm")(layer(x))


class EfficientAttention(nn.Module):
    """Self-attention whose keys and values are the map reduced by `reduction` on each side.

    `[B, h, w, C]` → the same. The reducing convolution has no padding: rows and columns that
    do not fill a window of it are seen by no query.
    """

    heads: int
    reduction: int
    epsilon: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        b, h, w, c = x.shape
        reduced = x
        if self.reduction > 1:
            layer = Conv(
                c,
                (self.reduction, self.reduction),
                strides=self.reduction,
                padding="VALID",
                dtype=self.dtype,
                kernel_init=kaiming_normal,
                name="reduce",
            )
            reduced = LayerNorm(self.epsilon, name="reduce_norm")(layer(x))
        tokens = x.reshape(b, h * w, c)
        reduced = reduced.reshape(b, -1, c)
        attention = Attention(self.heads, dtype=self.dtype, name="attention")
        return attention(tokens, reduced, reduced, train=train).reshape(b, h, w, c)


class MixFFN(nn.Module):
    """Linear, 3×3 depthwise convolution, exact GELU, linear: positions come from its border."""

    dtype: Dtype
    ratio: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        hidden = self.ratio * width
        y = dense(hidden, dtype=self.dtype, name="fc1")(x)
        depthwise = Conv(
            hidden,
            (3, 3),
            padding=((1, 1), (1, 1)),
            feature_group_count=hidden,
            dtype=self.dtype,
            kernel_init=nn.initializers.normal((2 / 9) ** 0.5),
            name="depthwise",
        )
        y = nn.gelu(depthwise(y), approximate=False)
        return dense(width, dtype=self.dtype, name="fc2")(y)


class MixBlock(nn.Module):
    """Pre-norm efficient attention and mix-FFN with residual connections."""

    heads: int
    reduction: int
    drop_path: float
    epsilon: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = LayerNorm(self.epsilon, name="norm1")(x)
        y = EfficientAttention(
            self.heads, self.reduction, self.epsilon, self.dtype, name="attention"
        )(y, train=train)
        x = x + drop_path(y, self.drop_path, train=train)
        y = LayerNorm(self.epsilon, name="norm2")(x)
        y = MixFFN(self.dtype, name="ffn")(y)
        return x + drop_path(y, self.drop_path, train=train)


class MiT(nn.Module):
    """Mix transformer that returns its four stages, at strides 4, 8, 16 and 32.

    `[B, H, W, 3]` → maps of `width` times 1, 2, 5 and 8 channels; sizes are rounded up.

    Attributes:
      width, depths: see `SIZES`.
      epsilon: of the layer norms: 1e-6 in mmseg, 1e-5 in Hugging Face's.
      drop_path: of the last block; it grows linearly from 0 over all blocks.

    Raises: InputError for an image of which the first attention leaves nothing.
    """

    width: int = 32
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    epsilon: float = 1e-6
    drop_path: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        # Where ⌈side / 4⌉ is below the first stage's reduction, nothing is left to attend to.
        least = 4 * max(self.reductions) - 3
        if any(n < least for n in x.shape[1:3]):
            raise InputError(
                f"{x.shape[1]}×{x.shape[2]} pixels are too few for a mix transformer, which needs "
                f"{least}×{least}: enlarge pictures (evaluation.resize_to), pad them "
                "(evaluation.size_multiple 32), or train on a larger data.crop_size"
            )
        x = x.astype(self.dtype)
        rates = iter(linear_rates(self.drop_path, sum(self.depths)))
        stages = []
        for s, (depth, heads, reduction) in enumerate(
            zip(self.depths, self.heads, self.reductions, strict=True), start=1
        ):
            size, stride = (7, 4) if s == 1 else (3, 2)
            embedding = OverlappingEmbedding(
                self.width * heads, size, stride, self.epsilon, self.dtype, name=f"embedding{s}"
            )
            x = embedding(x)
            for b in range(depth):
                block = MixBlock(
                    heads,
                    reduction,
                    next(rates),
                    self.epsilon,
                    self.dtype,
                    name=f"stage{s}_block{b}",
                )
                x = block(x, train=train)
            x = LayerNorm(self.epsilon, name=f"norm{s}")(x)
            stages.append(x)
        return tuple(stages)
