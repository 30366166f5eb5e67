"""ResNet-18/34/50/101 with torchvision's or mmseg's stem, plain or dilated to stride 8."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import BatchNorm, ConvBNReLU, Dtype, conv, max_pool_3x3

STAGE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; only the first is strided and dilated, as in mmseg."""

    width: int
    stride: int
    dilation: int
    dtype: Dtype
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = conv(
            self.width,
            3,
            stride=self.stride,
            dilation=self.dilation,
            dtype=self.dtype,
            name="conv1",
        )(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train=train))
        y = conv(self.width, 3, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(name="bn2")(y, train=train)
        return nn.relu(y + _shortcut(x, y, self.stride, self.dtype, train))


class Bottleneck(nn.Module):
    """1×1 down, 3×3 with the stride and the dilation, 1×1 up to four times the width."""

    width: int
    stride: int
    dilation: int
    dtype: Dtype
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = conv(self.width, 1, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train=train))
        y = conv(
            self.width,
            3,
            stride=self.stride,
            dilation=self.dilation,
            dtype=self.dtype,
            name="conv2",
        )(y)
        y = nn.relu(BatchNorm(name="bn2")(y, train=train))
        y = conv(self.width * self.expansion, 1, dtype=self.dtype, name="conv3")(y)
        y = BatchNorm(name="bn3")(y, train=train)
        return nn.relu(y + _shortcut(x, y, self.stride, self.dtype, train))


def _shortcut(x: jax.Array, y: jax.Array, stride: int, dtype: Dtype, train: bool) -> jax.Array:
    """The identity, or a strided 1×1 convolution where the shape changes."""
    if stride == 1 and x.shape[-1] == y.shape[-1]:
        return x
    x = conv(y.shape[-1], 1, stride=stride, dtype=dtype, name="downsample_conv")(x)
    return BatchNorm(name="downsample_bn")(x, train=train)


class ResNet(nn.Module):
    """ResNet (He et al., 2016) that returns its four stages.

    `[B, H, W, 3]` → four maps of 64/128/256/512 channels (×4 from depth 50 on).

    Attributes:
      depth: 18, 34, 50 or 101.
      stem: "v1" is torchvision's 7×7 convolution, "v1c" mmseg's three 3×3 ones.
      output_stride: 32 (strides 1, 2, 2, 2) or 8 (strides 1, 2, 1, 1 with dilations
        1, 1, 2, 4, where the first block of a dilated stage uses half of it).
    """

    depth: int
    stem: Literal["v1", "v1c"] = "v1c"
    output_stride: Literal[8, 32] = 32
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        if self.depth not in STAGE_BLOCKS:
            raise ValueError(f"depth must be one of {sorted(STAGE_BLOCKS)}, not {self.depth}")
        x = x.astype(self.dtype)
        if self.stem == "v1c":
            for i, (width, stride) in enumerate(((32, 2), (32, 1), (64, 1)), start=1):
                layer = ConvBNReLU(width, 3, stride=stride, dtype=self.dtype, name=f"stem{i}")
                x = layer(x, train=train)
        else:
            x = ConvBNReLU(64, 7, stride=2, dtype=self.dtype, name="stem1")(x, train=train)
        x = max_pool_3x3(x)

        block = BasicBlock if self.depth < 50 else Bottleneck
        strides, dilations = (
            ((1, 2, 2, 2), (1, 1, 1, 1))
            if self.output_stride == 32
            else ((1, 2, 1, 1), (1, 1, 2, 4))
        )
        stages = []
        for s, blocks in enumerate(STAGE_BLOCKS[self.depth]):
            for b in range(blocks):
                stride = strides[s] if b == 0 else 1
                dilation = max(1, dilations[s] // 2) if b == 0 else dilations[s]
                name = f"layer{s + 1}_{b}"
                x = block(64 * 2**s, stride, dilation, self.dtype, name=name)(x, train=train)
            stages.append(x)
        return tuple(stages)
