"""A head that says where edges are, trained beside the classifier."""

from __future__ import annotations

import jax
from flax import linen as nn

from sdnjax.models.layers import Classifier, ConvBNReLU
from sdnjax.settings import check_types, setting


class EdgeHead(nn.Module):
    """What the classifier reads, `[B, h, w, C]` → edge scores `[B, h, w, 1]`, at least float32.

    As released with InverseForm (Borse et al., CVPR 2021) it is one 1×1 convolution; `hidden`
    puts another one with batch norm and ReLU before it, which their auxiliary head has.
    """

    hidden: int = setting(0, "channels of a 1×1 convolution before the scores'; 0: none", least=0)

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, features: jax.Array, *, train: bool) -> jax.Array:
        x, dtype = features, features.dtype
        if self.hidden:
            x = ConvBNReLU(self.hidden, 1, dtype=dtype, name="conv1")(x, train=train)
        return Classifier(1, 0.0, dtype, name="classifier")(x, train=train)
