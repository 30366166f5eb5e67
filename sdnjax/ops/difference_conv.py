"""Central difference convolution, the operator that SDC is compared with in Table 3(a)."""

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import accumulation_dtype, as_pair, tap_offsets


def central_difference_conv(
    u: jax.Array,
    kernel: jax.Array,
    *,
    theta: float = 0.7,
    dilation: int | tuple[int, int] = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Central difference convolution (CDC): `conv(u, W) − θ · conv1x1(u, Σ_k W_k)`.

    θ = 1 is `Σ_k (u[p + o_k] − u[p]) W_k` with u = 0 outside; θ = 0 is the plain convolution;
    0.7 is the default of the method's released code. Both terms are linear in u, so the second
    is folded into the centre tap and CDC costs one convolution.

    Args:
        u: `[B, H, W, Ci]`, floating.
        kernel: `[kh, kw, Ci, Co]`, kh and kw odd; cast to u's dtype.
        theta: share of the central difference, a scalar, traced or not.
        dilation: integer ≥ 1 or pair `(y, x)`.
        precision: `jax.lax.Precision` of the convolution.

    Returns:
        `[B, H, W, Co]` in u's dtype; zero padding, the input's size.

    Raises:
        ValueError: shapes that do not fit, an even kernel.
    """
    if u.ndim != 4 or kernel.ndim != 4 or kernel.shape[2] != u.shape[3]:
        raise ValueError(
            f"features [B, H, W, Ci] and kernel [kh, kw, Ci, Co] must share Ci, "
            f"got {u.shape} and {kernel.shape}"
        )
    kh, kw = kernel.shape[:2]
    ry, rx = (abs(n) for n in tap_offsets((kh, kw), dilation)[0])
    wide = kernel.astype(accumulation_dtype(u.dtype))
    removed = jnp.asarray(theta).astype(wide.dtype) * jnp.sum(wide, axis=(0, 1))
    return lax.conv_general_dilated(
        u,
        wide.at[kh // 2, kw // 2].add(-removed).astype(u.dtype),
        window_strides=(1, 1),
        padding=((ry, ry), (rx, rx)),
        rhs_dilation=as_pair("dilation", dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
