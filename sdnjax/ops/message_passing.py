"""What E-CRF (Zhu et al., 2023) does to features: pairwise messages and superpixel means."""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.ops.devices import target_device
from sdnjax.ops.neighbours import (
    accumulation_dtype,
    neighbour_products,
    shift,
    tap_offsets,
    weighted_sum,
    without_centre,
)

Reduction = Literal["segment_sum", "one_hot"]


def position_encoding(height: int, width: int, channels: int = 32) -> np.ndarray:
    """Sines and cosines of each pixel's column and row, float32 `[H, W, 2·channels]`.

    The first half encodes x, the second y: `sin(t·ω_i)` on channel 2i and `cos(t·ω_i)` on 2i + 1
    with `ω_i = 10000^(−2i/channels)`, of pixel indices as they are.
    """
    frequency = 10000.0 ** (-np.arange(0, channels, 2) / channels)

    def encode(length: int) -> np.ndarray:
        angle = np.arange(length)[:, None] * frequency
        return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, channels)

    shape = (height, width, channels)
    x = np.broadcast_to(encode(width)[None, :], shape)
    y = np.broadcast_to(encode(height)[:, None], shape)
    return np.concatenate([x, y], axis=-1).astype(np.float32)


def pairwise_message(
    features: jax.Array,
    embedding: jax.Array,
    neighbour_score: jax.Array,
    centre_score: jax.Array | None = None,
    *,
    kernel_size: int | tuple[int, int] = 3,
    dilation: int | tuple[int, int] = 2,
    centre: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """The messages that a pixel's neighbours send it: E-CRF's `Σ_j ψ_p(i, j) F_j`, Eq. 4–7.

    `ψ_p(i, j) = μ(i, j)·⟨e_i, e_j⟩` with `μ(i, j) = sigmoid(a_j + b_i)`, over a window of taps j,
    each channel of F alike. The product is neither scaled nor made positive; what lies outside the
    image sends nothing.

    No window is unfolded: ψ is a map of one number per tap, and the sum a loop of shifted
    multiply-adds, whose backward pass reads F and the incoming gradient alone.

    Args:
        features: F, `[B, H, W, C]`, floating.
        embedding: e, `[B, H, W, D]`; Eq. 6's convolved colours and positions.
        neighbour_score: a, `[B, H, W]`, what compatibility sees of the neighbour.
        centre_score: b, `[B, H, W]`, what it sees of the pixel itself (the paper's Eq. 7); None
            for 0, as in the released code.
        kernel_size, dilation: of the window; odd sizes.
        centre: whether a pixel is its own neighbour: as released; the paper sums over j ≠ i.

    Returns:
        The messages `[B, H, W, C]` and ψ `[B, H, W, K]` of the taps in row-major order, 0
        outside the image (and in the middle without the centre), both in float32 (float64 for
        float64).

    Raises:
        ValueError: shapes that do not fit.
    """
    grid = features.shape[:3]
    scores = [neighbour_score] if centre_score is None else [neighbour_score, centre_score]
    if features.ndim != 4 or embedding.shape[:3] != grid or any(s.shape != grid for s in scores):
        raise ValueError(
            f"features [B, H, W, C], embedding [B, H, W, D] and scores [B, H, W] must share "
            f"B, H and W, got {features.shape}, {embedding.shape}, {[s.shape for s in scores]}"
        )
    offsets = tap_offsets(kernel_size, dilation)
    dtype = accumulation_dtype(features.dtype)
    score = neighbour_score.astype(dtype)
    logits = jnp.stack([shift(score[..., None], o)[..., 0] for o in offsets], axis=-1)
    if centre_score is not None:
        logits += centre_score.astype(dtype)[..., None]
    weights = jax.nn.sigmoid(logits) * neighbour_products(embedding, offsets).astype(dtype)
    if centre:
        return weighted_sum(features, weights, offsets), weights
    middle = len(offsets) // 2
    around = offsets[:middle] + offsets[middle + 1 :]
    messages = weighted_sum(features, without_centre(weights, 3), around)
    return messages, weights.at[..., middle].set(0)


def superpixel_means(
    features: jax.Array,
    superpixels: jax.Array,
    segments: int,
    *,
    reduction: Reduction | None = None,
) -> jax.Array:
    """Each pixel's mean over its superpixel, `F_i^S` of E-CRF's Eq. 8: `sum / (n + 1e-5)`.

    Linear in F and self-adjoint, so that the backward pass is the operator itself and keeps
    nothing but the numbers of the superpixels.

    Args:
        features: `[B, H, W, C]`, floating.
        superpixels: integers `[B, H, W]`, 0…segments − 1; negative where there are none: such a
            pixel has no mean, which is 0, and is in none. A number that is too large makes its
            pixel's mean NaN, so that it cannot go unnoticed.
        segments: how many superpixels an image has at most.
        reduction: "segment_sum" adds up by number; "one_hot" is two products with a matrix of
            zeros and ones, of size segments × pixels; None is the latter on TPUs alone, where
            scattering is slow.

    Returns:
        `[B, H, W, C]` in float32 (float64 for float64).

    Raises:
        ValueError: shapes that do not fit, or superpixels that are no integers.
    """
    if features.ndim != 4 or superpixels.shape != features.shape[:3]:
        raise ValueError(
            f"features [B, H, W, C] and superpixels [B, H, W] must share B, H and W, "
            f"got {features.shape} and {superpixels.shape}"
        )
    if not jnp.issubdtype(superpixels.dtype, jnp.integer):
        raise ValueError(f"superpixels must be integers, not {superpixels.dtype}")
    if reduction is None:
        reduction = "one_hot" if target_device()[0] == "tpu" else "segment_sum"
    b, h, w, c = features.shape
    numbers = superpixels.reshape(b, h * w).astype(jnp.int32)
    means = _segment_means(features.reshape(b, h * w, c), numbers, segments, reduction)
    return means.reshape(b, h, w, c)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _segment_means(features, numbers, segments, reduction):
    """[B, P, C], int32 [B, P] → [B, P, C]."""
    dtype = accumulation_dtype(features.dtype)
    inside = (numbers >= 0) & (numbers < segments)

    # Image by image, so that images spread over devices stay where they are.
    def of_image(x, numbers, inside):
        if reduction == "one_hot":
            member = jax.nn.one_hot(numbers, segments, dtype=dtype)
            highest = jax.lax.Precision.HIGHEST
            count = jnp.sum(member, axis=0)
            total = jnp.einsum("ps,pc->sc", member, x, precision=highest)
            mean = total / (count[:, None] + 1e-5)
            return jnp.einsum("ps,sc->pc", member, mean, precision=highest)
        bucket = jnp.where(inside, numbers, segments)
        total = jax.ops.segment_sum(x, bucket, segments + 1)
        count = jax.ops.segment_sum(inside.astype(dtype), bucket, segments + 1)
        mean = total / (count[:, None] + 1e-5)
        return jnp.where(inside[:, None], mean[bucket], 0)

    means = jax.vmap(of_image)(features.astype(dtype), numbers, inside)
    return jnp.where((numbers >= segments)[..., None], jnp.nan, means)


def _segment_means_fwd(features, numbers, segments, reduction):
    # The dtype of F travels as an empty array: residuals are arrays.
    empty = jnp.zeros((0,), features.dtype)
    return _segment_means(features, numbers, segments, reduction), (numbers, empty)


def _segment_means_bwd(segments, reduction, residuals, g):
    numbers, empty = residuals
    return _segment_means(g, numbers, segments, reduction).astype(empty.dtype), None


_segment_means.defvjp(_segment_means_fwd, _segment_means_bwd)
