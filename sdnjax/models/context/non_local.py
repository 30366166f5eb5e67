"""The non-local block (Wang et al., 2018), the attention that E-CRF's Table 2 compares with."""

from __future__ import annotations

import jax
from flax import linen as nn

from sdnjax.models.layers import conv
from sdnjax.ops.attention import blocked_attention
from sdnjax.ops.pooling import max_pool
from sdnjax.settings import check_types, setting


class NonLocal(nn.Module):
    """`F + W softmax(θφᵀ/√C') g`, embedded Gaussian: `[B, h, w, C]` → the same shape and dtype.

    E-CRF's paper does not say which form it compares with; this is mmcv's. θ, φ and g are 1×1
    convolutions with biases, C → C'. W starts at zero, so that the block starts as the identity.
    At stride 4 of a crop of 512² the softmax would be 16384² for each image: it is computed in
    blocks of rows.
    """

    reduction: int = setting(2, "C' is C / reduction", least=1)
    subsample: bool = setting(False, "keys and values are max-pooled 2×2 (mmcv's sub_sample)")

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, features: jax.Array, *, train: bool) -> jax.Array:
        del train
        b, h, w, c = features.shape
        inner = max(c // self.reduction, 1)

        def project(name: str) -> jax.Array:
            init = nn.initializers.normal(0.01)
            layer = conv(inner, 1, bias=True, dtype=features.dtype, kernel_init=init, name=name)
            return layer(features)

        queries, keys, values = project("theta"), project("phi"), project("g")
        if self.subsample:
            keys, values = (max_pool(x, (2, 2), (2, 2)) for x in (keys, values))

        def flat(x: jax.Array) -> jax.Array:
            return x.reshape(b, -1, inner)

        attended = blocked_attention(flat(queries), flat(keys), flat(values), scale=inner**-0.5)
        attended = attended.reshape(b, h, w, inner).astype(features.dtype)
        out = conv(
            c,
            1,
            bias=True,
            dtype=features.dtype,
            kernel_init=nn.initializers.zeros,
            name="out",
        )
        return features + out(attended)
