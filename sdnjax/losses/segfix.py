"""SegFix's loss (Yuan et al., ECCV 2020): two cross-entropies that weigh rare classes more."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, log_probability
from sdnjax.ops import resize_bilinear
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.offsets import DIRECTIONS
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class SegFixLoss:
    """Cross-entropy of boundary and direction, for networks that have outputs of these names.

    Labels are codes, direction + 8 · boundary. Logits are resized to them with align_corners. The
    direction counts where the *predicted* probability of the boundary is above `threshold`, not
    on the true boundary. The weight of class c is 1 less its share of the whole batch, 1 − n_c/Σn,
    and the mean is weighted by it. Where one class is alone its weight is 0, and so is the loss.
    """

    weight: float = setting(1.0, "factor of the whole loss", least=0)
    direction: float = setting(1.0, "weight of the direction beside the boundary", least=0)
    threshold: float = setting(
        0.5,
        "predicted probability of the boundary from which on directions count",
        least=0,
        below=1,
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        labels = batch["label"]
        boundary, direction = (
            resize_bilinear(output(outputs, name), labels.shape[1:3], align_corners=True)
            for name in ("boundary", "direction")
        )
        valid = labels != IGNORE
        b, d = labels // len(DIRECTIONS), labels % len(DIRECTIONS)
        near = jax.nn.softmax(jax.lax.stop_gradient(boundary), axis=-1)[..., 1] > self.threshold
        of_direction = weighted_mean(direction, jnp.where(valid & near, d, IGNORE))
        return {
            "boundary": weighted_mean(boundary, jnp.where(valid, b, IGNORE)),
            "direction": Mean(self.direction * of_direction.total, of_direction.count),
        }


def weighted_mean(logits: jax.Array, labels: jax.Array) -> Mean:
    """`−log softmax(logits)[label]` weighted by 1 − n_c/Σn of the pixels that count.

    Inside a data-parallel `jit` n_c is the global batch's. Sums of parts of a batch, whose shares
    differ, do not add up to those of the whole.

    Args:
      logits: `[B, H, W, K]`.
      labels: `[B, H, W]`, 0…K−1 and 255.
    """
    scores, index, valid = labelled(logits, labels)
    classes = jnp.arange(scores.shape[-1])
    is_of = valid[..., None] & (index[..., None] == classes)
    # Integers: a float32 counts to 2²⁴ only.
    counts = jnp.sum(is_of, axis=(0, 1, 2), dtype=jnp.int32)
    weights = 1 - counts.astype(scores.dtype) / jnp.maximum(jnp.sum(counts), 1)
    log_p, _ = log_probability(scores, index)
    total = -jnp.sum(jnp.where(valid, weights[index] * log_p, 0))
    return Mean(total, jnp.sum(weights * counts))
