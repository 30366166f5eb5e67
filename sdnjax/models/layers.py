"""Layers with PyTorch's conventions: explicit padding, batch norm's unbiased running variance."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.linear import Conv
from sdnjax.ops.pooling import max_pool

Dtype = Any

# PyTorch's and mmseg's `kaiming_normal_(mode="fan_out")`.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# PyTorch's own for convolutions and linear layers: U(±1/√fan_in).
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's own start of a bias, U(±1/√fan_in)."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def conv(
    features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    dtype: Dtype = jnp.float32,
    kernel_init: nn.initializers.Initializer = kaiming_normal,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    name: str | None = None,
) -> Conv:
    """A square convolution padded by `dilation · (kernel_size // 2)` on every side.

    Flax's "SAME" pads one side only at stride 2, which shifts features by a pixel against
    PyTorch's.
    """
    pad = dilation * (kernel_size // 2)
    return Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=bias,
        dtype=dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        name=name,
    )


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    Under a data-parallel `jit` the means run over the global batch, which is what other
    frameworks call synchronised batch norm; with `images` they run over so many consecutive
    images each, and the running statistics follow the means of these. Statistics are computed in
    float32 (float64 for float64); the running variance is the unbiased one, n/(n−1) times the
    batch's, and `running ← momentum · running + (1 − momentum) · batch` (PyTorch's momentum is
    1 − ours).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, images: int | None = None) -> jax.Array:
        channels, shape = x.shape[-1], x.shape
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))

        if train:
            groups = 1 if images is None else _groups(shape[0], images)
            if groups > 1:  # [groups, images, …, C], so that a mean stays where its images are
                x = x.reshape(groups, -1, *shape[1:])
            axes = tuple(range(1 if groups > 1 else 0, x.ndim - 1))
            wide = at_least_float32(x)
            mean = jnp.mean(wide, axes)
            var = jnp.mean(jnp.square(wide - _row(mean, x.ndim)), axes)
            if not self.is_initializing():
                n = x.size // channels // groups
                keep, new = self.momentum, 1.0 - self.momentum
                seen, spread = (jnp.mean(v, 0) if groups > 1 else v for v in (mean, var))
                running_mean.value = keep * running_mean.value + new * seen
                running_var.value = keep * running_var.value + new * spread * (n / max(n - 1, 1))
        else:
            mean, var = running_mean.value, running_var.value

        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        y = at_least_float32(x) * _row(factor, x.ndim) + _row(offset, x.ndim)
        return y.astype(x.dtype).reshape(shape)


def _groups(batch: int, images: int) -> int:
    if batch % images:
        raise InputError(
            f"batch_norm_images {images} does not divide the {batch} images that a batch norm sees"
        )
    return batch // images


def at_least_float32(x: jax.Array) -> jax.Array:
    """Widens bfloat16 and float16, leaves float32 and float64."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _row(vectors: jax.Array, ndim: int) -> jax.Array:
    """`[C]` or `[groups, C]` with axes of 1 before C, `ndim` in all."""
    first = vectors.ndim - 1
    return jnp.expand_dims(vectors, tuple(range(first, ndim - 1)))


class ConvBNReLU(nn.Module):
    """Convolution, batch norm, ReLU: mmseg's `ConvModule`."""

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(BatchNorm(name="bn")(x, train=train))


class Classifier(nn.Module):
    """Channel dropout and a 1×1 convolution to class scores, `[B, H, W, K]`, at least float32.

    Attributes:
      binary: of two classes the first scores 0 and the convolution has one channel, z: the softmax
        of (0, z) is the sigmoid of z, so whatever takes scores of classes takes these.
    """

    num_classes: int
    dropout: float = 0.1
    dtype: Dtype = jnp.float32
    binary: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        init = nn.initializers.normal(0.01)
        width = 1 if self.binary else self.num_classes
        layer = conv(width, 1, bias=True, dtype=self.dtype, kernel_init=init, name="seg")
        scores = at_least_float32(layer(x))
        return jnp.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0))) if self.binary else scores


class Head(nn.Module):
    """Features and the classifier that reads them, `[B, h, w, C]` → `[B, h, w, K]`.

    A complete head by itself, such as an auxiliary one. The parameters of `features` lie directly
    in the head ("auxiliary/conv1"), those of the classifier in "classifier" next to them.

    Attributes:
      features: a decoder of one map.
      classifier: `Classifier`, or a module of its kind.
    """

    features: nn.Module
    classifier: nn.Module

    def setup(self) -> None:
        nn.share_scope(self, self.features)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self.classifier(self.features(x, train=train), train=train)


def max_pool_3x3(x: jax.Array, *, ceil_mode: bool = False) -> jax.Array:
    """Max-pool 3×3, stride 2, padding 1 with −∞; sizes are rounded down, or up with `ceil_mode`.

    Rounded up, as PyTorch does it, n pixels give ⌈(n − 1)/2⌉ + 1: 8 are 5 instead of 4, 9 are 5
    either way.
    """
    # An even size has one more window, which reaches one pixel further.
    rows, columns = ((1, 1 + int(ceil_mode and n % 2 == 0)) for n in x.shape[1:3])
    return max_pool(x, (3, 3), (2, 2), (rows, columns))


def stage_outputs(features: Sequence[jax.Array], prefix: str) -> dict[str, jax.Array]:
    """`{prefix}1 … {prefix}L`: the names under which a network shows its stages."""
    return {f"{prefix}{i}": x for i, x in enumerate(features, start=1)}


class EqualPartial(functools.partial):
    """A `functools.partial` that equals another of the same function and arguments.

    A module with a plain one as an attribute equals no other that was made alike, so a `jit` to
    which it is static compiles each of them.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EqualPartial) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[Any, ...]:
        return self.func, self.args, tuple(sorted(self.keywords.items()))
