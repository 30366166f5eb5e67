"""FCN head (Long et al., 2015), as mmseg defines it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.layers import Classifier, ConvBNReLU, Dtype


class FCNHead(nn.Module):
    """3×3 convolutions, optionally concatenated with their input, then a classifier.

    `[B, h, w, C]` → `[B, h, w, K]`. With `convs=2, concat_input=True` the main head, with
    `convs=1, concat_input=False` the auxiliary one.
    """

    num_classes: int
    channels: int
    convs: int = 2
    concat_input: bool = True
    dropout: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = x
        for i in range(self.convs):
            y = ConvBNReLU(self.channels, 3, dtype=self.dtype, name=f"conv{i + 1}")(y, train=train)
        if self.concat_input:
            y = jnp.concatenate([x, y], axis=-1)
            y = ConvBNReLU(self.channels, 3, dtype=self.dtype, name="conv_cat")(y, train=train)
        classifier = Classifier(self.num_classes, self.dropout, self.dtype, name="classifier")
        return classifier(y, train=train)
