"""Cross-entropy over the valid pixels of the global batch."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int = 255,
    normalize_by: Literal["valid_pixels", "all_pixels"] = "valid_pixels",
) -> jax.Array:
    """Mean of `−log softmax(logits)[label]`, a scalar, float32 (float64 for float64).

    Inside a data-parallel `jit` both sums run over the global batch, so the loss does not
    depend on how images with much void fall onto devices.

    Args:
      logits: `[B, H, W, K]`.
      labels: `[B, H, W]` integers, 0…K−1 or `ignore`.
      ignore: the label that counts nowhere.
      normalize_by: "valid_pixels" divides by the pixels that are not ignored, and a batch
        without any has loss 0; "all_pixels" by B·H·W, mmseg's rule.

    Raises:
      ValueError: shapes that do not fit.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} differ in B, H or W")
    valid = labels != ignore
    index = jnp.where(valid, labels, 0).astype(jnp.int32)
    log_probabilities = jax.nn.log_softmax(
        logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1
    )
    picked = jnp.take_along_axis(log_probabilities, index[..., None], axis=-1)[..., 0]
    total = -jnp.sum(jnp.where(valid, picked, 0.0))
    if normalize_by == "all_pixels":
        return total / labels.size
    # A float count is exact to 2^24 pixels only; int32 to 2^31, a batch of 2000 megapixels.
    count = jnp.sum(valid, dtype=jnp.int32)
    return total / jnp.maximum(count, 1).astype(total.dtype)
