"""SemanticFPN (Kirillov et al., 2019): a feature pyramid and a head that sums its levels."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import ConvBNReLU, Dtype, conv
from sdnjax.models.linear import Conv
from sdnjax.ops import resize_bilinear, resize_nearest


class FeaturePyramid(nn.Module):
    """1×1 laterals, nearest top-down addition, 3×3 convolutions; no norm, no activation."""

    channels: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        def layer(size: int, name: str) -> Conv:
            init = nn.initializers.xavier_uniform()
            return conv(
                self.channels, size, bias=True, dtype=self.dtype, kernel_init=init, name=name
            )

        levels = [layer(1, f"lateral{i}")(x) for i, x in enumerate(stages, start=1)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resize_nearest(levels[i], levels[i - 1].shape[1:3])
        return tuple(layer(3, f"out{i}")(x) for i, x in enumerate(levels, start=1))


class SemanticFPNHead(nn.Module):
    """Every level is brought to stride 4 by convolutions and ×2 upsampling, then summed.

    Four maps at strides 4, 8, 16, 32 → features `[B, H/4, W/4, channels]`.
    """

    pyramid_channels: int = 256
    channels: int = 128
    align_corners: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], *, train: bool) -> jax.Array:
        levels = FeaturePyramid(self.pyramid_channels, self.dtype, name="pyramid")(stages)
        grid = levels[0].shape[1:3]
        scaled = []
        for i, x in enumerate(levels):
            for j in range(max(1, i)):  # stride 4·2^i needs i doublings
                x = ConvBNReLU(self.channels, 3, dtype=self.dtype, name=f"scale{i + 1}_{j}")(
                    x, train=train
                )
                if i > 0:
                    doubled = (2 * x.shape[1], 2 * x.shape[2])
                    x = resize_bilinear(x, doubled, align_corners=self.align_corners)
            # Doubling overshoots where a stride-2 stage rounded its size up.
            scaled.append(resize_bilinear(x, grid, align_corners=self.align_corners))
        return functools.reduce(jnp.add, scaled)
