"""FCN head (Long et al., 2015), as mmseg defines it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import ConvBNReLU, Dtype


class FCNHead(nn.Module):
    """Square convolutions, optionally concatenated with their input and mixed by another one.

    `[B, h, w, C]` → features `[B, h, w, channels]`. With `convs=2, concat_input=True` the main
    head, with `convs=1, concat_input=False` the auxiliary one; HRNet's has `kernel_size=1`.
    """

    channels: int
    convs: int = 2
    concat_input: bool = True
    kernel_size: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        def layer(name: str) -> ConvBNReLU:
            return ConvBNReLU(self.channels, self.kernel_size, dtype=self.dtype, name=name)

        y = x
        for i in range(self.convs):
            y = layer(f"conv{i + 1}")(y, train=train)
        if self.concat_input:
            y = layer("conv_cat")(jnp.concatenate([x, y], axis=-1), train=train)
        return y
