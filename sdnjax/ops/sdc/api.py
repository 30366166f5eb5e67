"""The public operator: checks its arguments, computes the similarities, picks an implementation."""

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.neighbours import accumulation_dtype, as_pair, check_name
from sdnjax.ops.sdc import reference, xla
from sdnjax.ops.similarity import Similarity, similarity_maps

# Tried in this order; each refuses with NotImplementedError what it cannot serve.
IMPLEMENTATIONS = {
    "xla": xla.semantic_difference,
    "reference": reference.semantic_difference,
}


def semantic_difference_conv(
    u: jax.Array,
    v: jax.Array,
    kernel: jax.Array,
    *,
    similarity: Similarity = "charbonnier",
    scale: float | jax.Array = 1.0,
    dilation: int | tuple[int, int] = 1,
    boundary: str = "no_flux",
    stop_guidance_gradient: bool = False,
    precision: lax.PrecisionLike = None,
    implementation: str | None = None,
) -> jax.Array:
    """Semantic difference convolution (SDC), Eq. 5 of the SDN paper:

        Y[p] = Σ_k S(V[p + o_k], V[p]) · (U[p + o_k] − U[p]) W_k

    a convolution of differences, each weighted by how alike the guidance is at its two ends. No
    bias, no normalisation, no activation. The centre tap multiplies zero: it costs nothing and
    its gradient is exactly 0. Linear in U and in W.

    Args:
        u: features `[B, H, W, Ci]`, floating.
        v: guidance `[B, H, W, Cf]`, floating, on u's grid.
        kernel: `[kh, kw, Ci, Co]`, kh and kw odd; cast to u's dtype.
        similarity: S, a choice: `"charbonnier"` (`1/√(1 + d²/λ²)`, d² summed over channels),
            `"relative"`, `"gaussian"`, `"cosine"`, `"constant"` or a function; see
            `similarity_maps`.
        scale: λ or σ of the similarity, a positive scalar, traced or not.
        dilation: integer ≥ 1 or pair `(y, x)`.
        boundary: a choice. `"no_flux"`: a tap outside the image contributes 0. `"zeros"`: U and V
            read as 0 outside, what a zero-padded unfold computes.
        stop_guidance_gradient: whether V is a constant to the gradient.
        precision: `jax.lax.Precision` of the matrix products.
        implementation: `"xla"` (tap by tap, a few feature maps of memory, reverse mode only),
            `"reference"` (the definition: gathers all patches) or None, the first in that order
            that can serve.

    Returns:
        `[B, H, W, Co]` in u's dtype. Differences, weights and sums are float32 (float64 for
        float64); under bfloat16 the weighted differences are rounded once for the product.

    Raises:
        ValueError: shapes that do not fit, an even kernel, an unknown name.
        NotImplementedError: the named implementation cannot serve these shapes or this device.
    """
    if u.ndim != 4 or v.ndim != 4 or u.shape[:3] != v.shape[:3]:
        raise ValueError(
            f"features [B, H, W, Ci] and guidance [B, H, W, Cf] must share B, H and W, "
            f"got {u.shape} and {v.shape}"
        )
    if kernel.ndim != 4 or kernel.shape[2] != u.shape[3]:
        raise ValueError(
            f"kernel must be [kh, kw, Ci, Co] with Ci = {u.shape[3]} of the features {u.shape}, "
            f"got {kernel.shape}"
        )
    dilation = as_pair("dilation", dilation)
    if implementation is not None:
        check_name("implementation", implementation, tuple(IMPLEMENTATIONS))

    s = similarity_maps(
        lax.stop_gradient(v) if stop_guidance_gradient else v,
        kernel_size=kernel.shape[:2],
        dilation=dilation,
        similarity=similarity,
        scale=scale,
        boundary=boundary,
    ).astype(accumulation_dtype(u.dtype))
    kernel = jnp.asarray(kernel, u.dtype)

    refusals = []
    for name in IMPLEMENTATIONS if implementation is None else (implementation,):
        try:
            return IMPLEMENTATIONS[name](u, s, kernel, dilation=dilation, precision=precision)
        except NotImplementedError as refusal:
            refusals.append(f"{name}: {refusal}")
    raise NotImplementedError("; ".join(refusals))
