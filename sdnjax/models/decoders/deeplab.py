"""DeepLab: V2's classifier (Chen et al., 2017) and V3+'s decoder (2018), as mmseg defines it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import (
    ConvBNReLU,
    Dtype,
    at_least_float32,
    conv,
    kaiming_normal,
    torch_bias,
)
from sdnjax.ops import resize_bilinear


class DeepLabV2Classifier(nn.Module):
    """The sum of dilated 3×3 classifiers, `[B, h, w, C]` → scores `[B, h, w, K]`.

    With the dilations 6, 12, 18, 24 this is DeepLabV2's ASPP-L on a ResNet, and on DifNet's ResNet
    the seed head of DifNet and of the baseline that its paper calls Sim-Deeplab.

    Attributes:
      dilations: one convolution, with a bias, for each.
      init_std: weights start from N(0, init_std), DeepLabV2's 0.01, and biases from 0. None is what
        DifNet's released code starts from, where its network's own loop overwrites that 0.01:
        N(0, √(2/(9K))), biases U(±1/√(9C)).
    """

    num_classes: int
    dilations: tuple[int, ...] = (6, 12, 18, 24)
    dropout: float = 0.0
    dtype: Dtype = jnp.float32
    init_std: float | None = 0.01

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        std, zeros = self.init_std, nn.initializers.zeros
        scores = [
            conv(
                self.num_classes,
                3,
                dilation=dilation,
                bias=True,
                dtype=self.dtype,
                kernel_init=kaiming_normal if std is None else nn.initializers.normal(std),
                bias_init=torch_bias(9 * x.shape[-1]) if std is None else zeros,
                name=f"seg{i}",
            )(x)
            for i, dilation in enumerate(self.dilations, start=1)
        ]
        return at_least_float32(functools.reduce(jnp.add, scores))


class SeparableConv(nn.Module):
    """A 3×3 convolution of each channel by itself, then a 1×1; batch norm and ReLU after both."""

    features: int
    dilation: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        c = x.shape[-1]
        depthwise = ConvBNReLU(
            c, 3, dilation=self.dilation, groups=c, dtype=self.dtype, name="depthwise"
        )
        pointwise = ConvBNReLU(self.features, 1, dtype=self.dtype, name="pointwise")
        return pointwise(depthwise(x, train=train), train=train)


class SeparableASPP(nn.Module):
    """Atrous spatial pyramid pooling: the image's mean and one dilated convolution per rate.

    `[B, h, w, C]` → `[B, h, w, channels]`. In training the batch norm of the mean, a 1×1 map,
    sees B values per channel; with B = 1 it returns its bias, where PyTorch refuses.
    """

    channels: int = 512
    dilations: tuple[int, ...] = (1, 12, 24, 36)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        def layer(size: int, name: str) -> ConvBNReLU:
            return ConvBNReLU(self.channels, size, dtype=self.dtype, name=name)

        mean = layer(1, "image_pool")(jnp.mean(x, (1, 2), keepdims=True), train=train)
        parts = [jnp.broadcast_to(mean, (*x.shape[:3], self.channels))]
        for i, dilation in enumerate(self.dilations, start=1):
            part: nn.Module
            if dilation == 1:
                part = layer(1, f"rate{i}")
            else:
                part = SeparableConv(self.channels, dilation, self.dtype, name=f"rate{i}")
            parts.append(part(x, train=train))
        return layer(3, "bottleneck")(jnp.concatenate(parts, axis=-1), train=train)


class DeepLabV3PlusHead(nn.Module):
    """ASPP on the coarse map, joined with the fine one.

    Two maps, the first and the last stage → features `[B, H/4, W/4, channels]`.
    """

    channels: int = 512
    fine_channels: int = 48
    dilations: tuple[int, ...] = (1, 12, 24, 36)
    align_corners: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], *, train: bool) -> jax.Array:
        fine, coarse = stages
        x = SeparableASPP(self.channels, self.dilations, self.dtype, name="aspp")(
            coarse, train=train
        )
        fine = ConvBNReLU(self.fine_channels, 1, dtype=self.dtype, name="fine")(fine, train=train)
        x = resize_bilinear(x, fine.shape[1:3], align_corners=self.align_corners)
        x = jnp.concatenate([x, fine], axis=-1)
        for i in (1, 2):
            x = SeparableConv(self.channels, dtype=self.dtype, name=f"separable{i}")(x, train=train)
        return x
