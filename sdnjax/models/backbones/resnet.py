"""ResNet-18/34/50/101 with torchvision's or mmseg's stem, plain or dilated to stride 8."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import BatchNorm, ConvBNReLU, Dtype, conv, max_pool_3x3

STAGE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; the first is strided, and `dilated` says which one is dilated."""

    width: int
    stride: int
    dilation: int
    dtype: Dtype
    dilated: Literal["conv1", "conv2"] = "conv1"
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        first, second = (self.dilation if self.dilated == c else 1 for c in ("conv1", "conv2"))
        y = conv(self.width, 3, stride=self.stride, dilation=first, dtype=self.dtype, name="conv1")(
            x
        )
        y = nn.relu(BatchNorm(name="bn1")(y, train=train))
        y = conv(self.width, 3, dilation=second, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(name="bn2")(y, train=train)
        return nn.relu(y + _shortcut(x, y, self.stride, self.dtype, train))


class Bottleneck(nn.Module):
    """1×1 down, 3×3 with the dilation, 1×1 up to four times the width; `strided` has the stride."""

    width: int
    stride: int
    dilation: int
    dtype: Dtype
    strided: Literal["1x1", "3x3"] = "3x3"
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        first, second = (self.stride if self.strided == c else 1 for c in ("1x1", "3x3"))
        y = conv(self.width, 1, stride=first, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train=train))
        y = conv(
            self.width,
            3,
            stride=second,
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
      depth: 18, 34, 50 or 101: which blocks there are, and how many.
      stem: "v1" is torchvision's 7×7 convolution, "v1c" mmseg's three 3×3 ones.
      output_stride: 32 (strides 1, 2, 2, 2) or 8 (strides 1, 2, 1, 1 with dilations
        1, 1, 2, 4).
      first_dilation: of the first block of a dilated stage: half of the stage's, as in mmseg, or
        all of it.
      strided: the convolution of a bottleneck that has the stride: the 3×3 as in torchvision and
        mmseg, or the first 1×1 as in the original paper and DifNet.
      dilated: the convolution of a basic block that is dilated: conv1 as in mmseg, or conv2.
      ceil_mode: the pool of the stem rounds sizes up: 512 pixels are 256, then 129, then 65.
      blocks: of each stage, in place of the depth's own.
      bgr: images are turned to blue, green, red first, for weights that were trained so.
    """

    depth: int
    stem: Literal["v1", "v1c"] = "v1c"
    output_stride: Literal[8, 32] = 32
    dtype: Dtype = jnp.float32
    first_dilation: Literal["half", "full"] = "half"
    strided: Literal["1x1", "3x3"] = "3x3"
    dilated: Literal["conv1", "conv2"] = "conv1"
    ceil_mode: bool = False
    blocks: tuple[int, int, int, int] | None = None
    bgr: bool = False

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        """How many blocks each stage has."""
        return STAGE_BLOCKS[self.depth] if self.blocks is None else self.blocks

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        if self.depth not in STAGE_BLOCKS:
            raise ValueError(f"depth must be one of {sorted(STAGE_BLOCKS)}, not {self.depth}")
        x = (x[..., ::-1] if self.bgr else x).astype(self.dtype)
        if self.stem == "v1c":
            for i, (width, stride) in enumerate(((32, 2), (32, 1), (64, 1)), start=1):
                layer = ConvBNReLU(width, 3, stride=stride, dtype=self.dtype, name=f"stem{i}")
                x = layer(x, train=train)
        else:
            x = ConvBNReLU(64, 7, stride=2, dtype=self.dtype, name="stem1")(x, train=train)
        x = max_pool_3x3(x, ceil_mode=self.ceil_mode)

        def block(width: int, stride: int, dilation: int, name: str) -> nn.Module:
            sizes = (width, stride, dilation, self.dtype)
            if self.depth < 50:
                return BasicBlock(*sizes, dilated=self.dilated, name=name)
            return Bottleneck(*sizes, strided=self.strided, name=name)

        strides, dilations = (
            ((1, 2, 2, 2), (1, 1, 1, 1))
            if self.output_stride == 32
            else ((1, 2, 1, 1), (1, 1, 2, 4))
        )
        stages = []
        for s, blocks in enumerate(self.stage_blocks):
            for b in range(blocks):
                stride = strides[s] if b == 0 else 1
                halved = b == 0 and self.first_dilation == "half"
                dilation = max(1, dilations[s] // 2) if halved else dilations[s]
                x = block(64 * 2**s, stride, dilation, name=f"layer{s + 1}_{b}")(x, train=train)
            stages.append(x)
        return tuple(stages)
