"""EfficientNet-Lite0: mobile inverted bottlenecks without squeeze-and-excitation, with ReLU6.

"EfficientNet" (Tan and Le, 2019) in the form that its authors published for mobile devices in
2020. Its ImageNet weights expect RGB images as `(pixel − 127) / 128`, 224 pixels wide.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import (
    BatchNorm,
    Dtype,
    at_least_float32,
    kaiming_normal,
    stage_outputs,
)
from sdnjax.models.linear import Conv, Dense


class Group(NamedTuple):
    """Blocks in a row; the first has the stride."""

    blocks: int
    kernel_size: int
    stride: int
    expansion: int
    features: int


LITE0 = (
    Group(1, 3, 1, 1, 16),
    Group(2, 3, 2, 6, 24),
    Group(2, 5, 2, 6, 40),
    Group(3, 3, 2, 6, 80),
    Group(3, 5, 1, 6, 112),
    Group(4, 5, 2, 6, 192),
    Group(1, 3, 1, 6, 320),
)


def _conv_bn(
    x: jax.Array,
    features: int,
    kernel_size: int,
    name: str,
    *,
    train: bool,
    stride: int = 1,
    groups: int = 1,
    dtype: Dtype,
) -> jax.Array:
    """TensorFlow's padding: at stride 2, an even size is padded on the far side alone."""
    x = Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        padding="SAME",
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=kaiming_normal,
        name=f"{name}_conv",
    )(x)
    return BatchNorm(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x, train=train)


class InvertedBottleneck(nn.Module):
    """1×1 up by `expansion`, depthwise k×k, 1×1 down without activation, shortcut if it fits.

    `drop_path` is the probability with which an image's residual is left out in training.
    """

    features: int
    kernel_size: int
    stride: int
    expansion: int
    drop_path: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y, width = x, x.shape[-1] * self.expansion
        options = {"train": train, "dtype": self.dtype}
        if self.expansion > 1:
            y = nn.relu6(_conv_bn(y, width, 1, "expand", **options))
        y = _conv_bn(
            y, width, self.kernel_size, "depthwise", stride=self.stride, groups=width, **options
        )
        y = _conv_bn(nn.relu6(y), self.features, 1, "project", **options)
        if self.stride > 1 or x.shape[-1] != self.features:
            return y
        y = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)(y)
        return x + y


class EfficientNetLite(nn.Module):
    """`[B, H, W, 3]` → four maps at strides 4, 8, 16, 32 of 24, 40, 112, 320 channels.

    A stage is the last map of its resolution. Batch norm has ε = 1e-3 and momentum 0.99.

    Attributes:
      groups: the blocks; another table for a smaller network.
      drop_path: grows from 0 at the first block towards this at the last.
    """

    groups: tuple[Group, ...] = LITE0
    drop_path: float = 0.2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        x = x.astype(self.dtype)
        x = nn.relu6(_conv_bn(x, 32, 3, "stem", stride=2, train=train, dtype=self.dtype))
        stages: list[jax.Array] = []
        total, index = sum(group.blocks for group in self.groups), 0
        for group in self.groups:
            if group.stride > 1:
                stages.append(x)
            for b in range(group.blocks):
                block = InvertedBottleneck(
                    group.features,
                    group.kernel_size,
                    group.stride if b == 0 else 1,
                    group.expansion,
                    self.drop_path * index / total,
                    self.dtype,
                    name=f"block{index}",
                )
                x, index = block(x, train=train), index + 1
        return (*stages[1:], x)  # without the one at stride 2


class EfficientNetLiteClassifier(nn.Module):
    """ImageNet classification: `[B, H, W, 3]` → a dict of `logits [B, K]`, at least float32.

    Beside them `stage1…4`, and `feature [B, 1280]`, what the classifier reads.
    """

    num_classes: int = 1000
    backbone: nn.Module = EfficientNetLite()
    dropout: float = 0.2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        stages = self.backbone(images, train=train)
        x = _conv_bn(stages[-1], 1280, 1, "head", train=train, dtype=self.dtype)
        feature = jnp.mean(nn.relu6(x), (1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(feature)
        scores = Dense(self.num_classes, dtype=self.dtype, name="fc")(x)
        named = stage_outputs(stages, "stage")
        return {"logits": at_least_float32(scores), "feature": feature, **named}
