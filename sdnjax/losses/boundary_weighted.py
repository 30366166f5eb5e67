"""Cross-entropy in which pixels near the boundaries of the labels weigh more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.losses.cross_entropy import cross_entropy_mean
from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.ops.labels import IGNORE
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class BoundaryWeighted:
    """Cross-entropy whose pixels within `radius` of a boundary weigh `boundary_weight` times.

    A boundary lies between two different labels of neighbouring pixels; void makes none. The sum is
    divided by the sum of weights.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    radius: int = setting(3, "pixels on either side of a boundary (of a square)", least=1)
    boundary_weight: float = setting(5.0, "factor of the pixels there", least=0)
    normalize_by: Literal["weights", "all_pixels"] = setting(
        "weights", "what the sum is divided by: the pixels' weights, or the number of all pixels"
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores, labels = output(outputs, self.on), batch["label"]
        near = near_boundary(labels, self.radius)
        weights = jnp.where(near, jnp.float32(self.boundary_weight), jnp.float32(1))
        found = cross_entropy_mean(
            scores,
            labels,
            normalize_by="all_pixels" if self.normalize_by == "all_pixels" else "valid_pixels",
            pixel_weights=weights,
        )
        return {"boundary_weighted": found}


def near_boundary(labels: jax.Array, radius: int, ignore: int = IGNORE) -> jax.Array:
    """Pixels within `radius`, of a square, of two neighbours with different labels.

    `[B, H, W]` integers → booleans. Both neighbours of a boundary are at distance 1.
    """

    def differ(axis: int) -> jax.Array:
        first = lax.slice_in_dim(labels, 0, labels.shape[axis] - 1, axis=axis)
        second = lax.slice_in_dim(labels, 1, labels.shape[axis], axis=axis)
        unlike = (first != second) & (first != ignore) & (second != ignore)
        before, after = [(0, 0)] * 3, [(0, 0)] * 3
        before[axis], after[axis] = (0, 1), (1, 0)
        return jnp.pad(unlike, before) | jnp.pad(unlike, after)

    boundary = differ(1) | differ(2)
    size = (1, 2 * radius - 1, 2 * radius - 1)
    return lax.reduce_window(boundary, False, lax.bitwise_or, size, (1, 1, 1), "SAME")
