"""MaskFormer's decoder (Cheng et al., 2021): embeddings of pixels and of queries, and masks."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sdnjax.models.layers import Dtype, at_least_float32, conv, kaiming_normal
from sdnjax.models.linear import Conv
from sdnjax.models.transformer import Attention, LayerNorm, dense, normal_002
from sdnjax.ops import resize_nearest


class ConvGroupNorm(nn.Module):
    """Convolution without bias and group norm of 32 groups, with a ReLU or without."""

    features: int
    size: int
    relu: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = conv(self.features, self.size, dtype=self.dtype, name="conv")(x)
        y = GroupNorm(name="norm")(y)
        return nn.relu(y) if self.relu else y


class GroupNorm(nn.Module):
    """Group norm over the map and the channels of each group, in at least float32."""

    groups: int = 32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        wide = at_least_float32(x).reshape(*x.shape[:-1], self.groups, -1)
        centred = wide - jnp.mean(wide, axis=(1, 2, 4), keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=(1, 2, 4), keepdims=True)
        y = (centred * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape)
        return (y * scale + bias).astype(x.dtype)


class PixelDecoder(nn.Module):
    """A feature pyramid with group norm: four stages → pixel embeddings `[B, H/4, W/4, C]`."""

    channels: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array]) -> jax.Array:
        def layer(size: int, name: str, relu: bool = True) -> ConvGroupNorm:
            return ConvGroupNorm(self.channels, size, relu, self.dtype, name=name)

        count = len(stages)
        x = layer(3, f"out{count}")(stages[-1])
        for i in range(count - 1, 0, -1):
            lateral = layer(1, f"lateral{i}", relu=False)(stages[i - 1])
            x = layer(3, f"out{i}")(lateral + resize_nearest(x, lateral.shape[1:3]))
        return conv(self.channels, 3, bias=True, dtype=self.dtype, name="mask_projection")(x)


class QueryLayer(nn.Module):
    """DETR's decoder layer: self-attention of queries, attention to the map, MLP; post-norm.

    `x [B, Q, C]` with the query embeddings `queries [1, Q, C]`, which are added to queries and
    keys; `memory [B, N, C]` with `positions [1, N, C]`, which are added to its keys.
    """

    heads: int
    hidden: int
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        queries: jax.Array,
        memory: jax.Array,
        positions: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        def drop(y: jax.Array) -> jax.Array:
            return nn.Dropout(self.dropout, deterministic=not train)(y)

        def attention(name: str) -> Attention:
            return Attention(self.heads, self.dropout, dtype=self.dtype, name=name)

        y = attention("self_attention")(x + queries, x + queries, x, train=train)
        x = LayerNorm(name="norm1")(x + drop(y))
        y = attention("cross_attention")(x + queries, memory + positions, memory, train=train)
        x = LayerNorm(name="norm2")(x + drop(y))
        y = drop(nn.relu(dense(self.hidden, dtype=self.dtype, name="fc1")(x)))
        y = drop(dense(x.shape[-1], dtype=self.dtype, name="fc2")(y))
        return LayerNorm(name="norm3")(x + y)


class MaskFormerDecoder(nn.Module):
    """Four stages → classes and masks of `queries` queries, for the last L decoder layers.

    Returns `class_logits [L, B, Q, K + 1]`, whose last class is "no object", and
    `mask_logits [L, B, Q, H/4, W/4]`, both at least float32. L is `layers` while training, for
    the loss of every layer, and 1 otherwise. Every layer is read through the same norm and the
    same heads, as in the original and in mmseg.
    """

    num_classes: int
    channels: int = 256
    queries: int = 100
    layers: int = 6
    heads: int = 8
    hidden: int = 2048
    dropout: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, stages: Sequence[jax.Array], *, train: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        pixels = PixelDecoder(self.channels, self.dtype, name="pixel_decoder")(stages)

        memory = stages[-1].astype(self.dtype)
        if memory.shape[-1] != self.channels:
            memory = Conv(
                self.channels,
                (1, 1),
                dtype=self.dtype,
                kernel_init=kaiming_normal,
                name="input_projection",
            )(memory)
        b, h, w, c = memory.shape
        memory = memory.reshape(b, h * w, c)
        positions = jnp.asarray(sine_positions(h, w, c), self.dtype)[None]
        queries = self.param("query_embedding", normal_002, (self.queries, c))
        queries = jnp.broadcast_to(queries, (b, *queries.shape)).astype(self.dtype)

        x = jnp.zeros((b, self.queries, c), self.dtype)
        found = []
        for i in range(self.layers):
            layer = QueryLayer(self.heads, self.hidden, self.dropout, self.dtype, name=f"layer{i}")
            x = layer(x, queries, memory, positions, train=train)
            found.append(x)
        # Images first, as everywhere: the gradient of what follows is summed over them.
        x = jnp.stack(found if train else found[-1:], axis=1)
        x = LayerNorm(name="norm")(x)

        classes = dense(self.num_classes + 1, dtype=self.dtype, name="classifier")(x)
        for i in range(3):
            x = dense(c, dtype=self.dtype, name=f"mask_embedding{i + 1}")(x)
            x = nn.relu(x) if i < 2 else x
        wide = jnp.promote_types(self.dtype, jnp.float32)
        masks = jnp.einsum("blqc,bhwc->lbqhw", x, pixels, preferred_element_type=wide)
        return at_least_float32(classes.swapaxes(0, 1)), masks, pixels


def sine_positions(h: int, w: int, channels: int) -> np.ndarray:
    """DETR's position embedding of a map, `[h·w, channels]`: half for y, half for x.

    Positions 1…h are scaled to (0, 2π]; even channels are sines, odd ones cosines, at wave
    lengths that grow to 2π·10000.
    """
    half = channels // 2
    waves = 10000.0 ** (2 * (np.arange(half) // 2) / half)

    def axis(size: int) -> np.ndarray:
        at = np.arange(1, size + 1) / (size + 1e-6) * 2 * np.pi
        angles = at[:, None] / waves
        return np.where(np.arange(half) % 2 == 0, np.sin(angles), np.cos(angles))

    y = np.broadcast_to(axis(h)[:, None], (h, w, half))
    x = np.broadcast_to(axis(w)[None], (h, w, half))
    return np.concatenate([y, x], axis=-1).reshape(h * w, channels)
