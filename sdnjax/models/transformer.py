"""What the transformers share: layer norm, attention, the MLP, stochastic depth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sdnjax.models.layers import Dtype, at_least_float32
from sdnjax.models.linear import Conv, Dense

# PyTorch's `trunc_normal_(std=0.02)`, whose cut at ±2 is a hundred deviations out.
normal_002 = nn.initializers.normal(0.02)


class LayerNorm(nn.Module):
    """Layer norm over the last axis, computed in at least float32, in x's dtype.

    The variance is that of the centred values: Flax's default, E[x²] − E[x]², loses digits.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        wide = at_least_float32(x)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(x.dtype)


def dense(
    features: int, *, bias: bool = True, dtype: Dtype = jnp.float32, name: str | None = None
) -> Dense:
    """A linear layer, initialised as transformers are: N(0, 0.02), bias 0."""
    return Dense(features, use_bias=bias, dtype=dtype, kernel_init=normal_002, name=name)


def drop_path(x: jax.Array, rate: float, *, train: bool) -> jax.Array:
    """Stochastic depth: drops x for whole images and rescales the rest; inside `@nn.compact`."""
    axes = tuple(range(1, x.ndim))
    return nn.Dropout(rate, broadcast_dims=axes, deterministic=not train)(x)


def linear_rates(rate: float, depth: int) -> list[float]:
    """Drop-path rates that grow linearly from 0 at the first block to `rate` at the last."""
    return [float(r) for r in np.linspace(0, rate, depth)]


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    heads: int,
    bias: jax.Array | None = None,
    dropout: float = 0.0,
    train: bool = False,
) -> jax.Array:
    """Scaled dot-product attention with the softmax in at least float32; inside `@nn.compact`.

    `query [..., M, C]`, `key, value [..., N, C]`, `bias` that broadcasts to
    `[..., heads, M, N]` → `[..., M, C]`.
    """

    def split(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -3, -2)

    # Heads before pixels: left to einsum, XLA's CPU compiler turns all weights round instead.
    query, key, value = split(query), split(key), split(value)
    wide = jnp.promote_types(query.dtype, jnp.float32)
    query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    scores = jnp.einsum("...mc,...nc->...mn", query, key, preferred_element_type=wide)
    if bias is not None:
        scores = scores + bias.astype(wide)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = nn.Dropout(dropout, deterministic=not train)(weights)
    y = jnp.swapaxes(weights @ value, -3, -2)
    return y.reshape(*y.shape[:-2], -1)


class Attention(nn.Module):
    """Multi-head attention of `query [..., M, C]` over `key, value [..., N, ·]`, with biases."""

    heads: int
    dropout: float = 0.0
    qkv_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        bias: jax.Array | None = None,
        *,
        train: bool,
    ) -> jax.Array:
        width = query.shape[-1]
        inputs = {"query": query, "key": key, "value": value}
        q, k, v = (
            dense(width, bias=self.qkv_bias, dtype=self.dtype, name=name)(x)
            for name, x in inputs.items()
        )
        y = attend(q, k, v, heads=self.heads, bias=bias, dropout=self.dropout, train=train)
        return dense(width, dtype=self.dtype, name="out")(y)


class MLP(nn.Module):
    """Linear, exact GELU, linear."""

    ratio: int = 4
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        width = x.shape[-1]
        y = dense(self.ratio * width, dtype=self.dtype, name="fc1")(x)
        y = nn.gelu(y, approximate=False)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = dense(width, dtype=self.dtype, name="fc2")(y)
        return nn.Dropout(self.dropout, deterministic=not train)(y)


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP with residual connections, `[B, N, C]` → `[B, N, C]`."""

    heads: int
    dropout: float = 0.0
    drop_path: float = 0.0
    epsilon: float = 1e-6
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = LayerNorm(self.epsilon, name="norm1")(x)
        y = Attention(self.heads, dtype=self.dtype, name="attention")(y, y, y, train=train)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        x = x + drop_path(y, self.drop_path, train=train)
        y = LayerNorm(self.epsilon, name="norm2")(x)
        y = MLP(dropout=self.dropout, dtype=self.dtype, name="mlp")(y, train=train)
        return x + drop_path(y, self.drop_path, train=train)


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its size, on the image padded with 0 below and right.

    `[B, H, W, 3]` → `[B, ⌈H/p⌉, ⌈W/p⌉, C]`: what mmseg calls padding "corner".
    """

    features: int
    size: int
    bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, h, w, _ = x.shape
        x = jnp.pad(x, ((0, 0), (0, -h % self.size), (0, -w % self.size), (0, 0)))
        # Without padding of its own: `conv` pads by half the kernel.
        layer = Conv(
            self.features,
            (self.size, self.size),
            strides=self.size,
            padding="VALID",
            use_bias=self.bias,
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            name="conv",
        )
        return layer(x)
