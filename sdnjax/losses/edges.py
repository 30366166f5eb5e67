"""The loss of an edge head: where do the labels have edges?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.ops.edges import label_edges
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class EdgeCrossEntropy:
    """Binary cross-entropy of edge logits, in which edges and the rest weigh alike.

    Pixels that are edges weigh the share of those that are not, and the other way round; the mean
    is over all pixels. The code released with InverseForm counts both in the whole batch
    (`over="batch"`); out of each image, the default, the loss does not depend on how a batch is
    divided over devices and micro-batches. Edges are those of `sdnjax.ops.edges.label_edges`.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("edge", "output that is scored, logits [B, H, W, 1]")
    radius: int = setting(2, "pixels from another class within which a pixel is an edge", least=1)
    over: Literal["image", "batch"] = setting(
        "image", "where edges are counted; batch: in all images, as released"
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        logits, edges = edge_pair(output(outputs, self.on), batch["label"], self.radius)
        axes = (1, 2) if self.over == "image" else (0, 1, 2)
        share = jnp.mean(edges, axis=axes, keepdims=True)
        weights = jnp.where(edges > 0, 1 - share, share)
        # −log σ(x) where there is an edge, −log σ(−x) elsewhere.
        losses = jax.nn.softplus(jnp.where(edges > 0, -logits, logits))
        return {"edge": Mean(jnp.sum(weights * losses), jnp.asarray(edges.size, losses.dtype))}


def edge_pair(scores: jax.Array, labels: jax.Array, radius: int) -> tuple[jax.Array, jax.Array]:
    """Edge logits and the labels' edge map of 0 and 1, both `[B, H, W]` and at least float32.

    Raises: ValueError for scores of another form.
    """
    logits = edge_logits(scores, labels)
    return logits, label_edges(labels, radius).astype(logits.dtype)


def edge_logits(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Scores `[B, H, W, 1]` as `[B, H, W]`, at least float32; ValueError if they do not fit."""
    if scores.shape != (*labels.shape, 1):
        raise ValueError(f"edge logits {scores.shape} do not fit labels {labels.shape}")
    return scores[..., 0].astype(jnp.promote_types(scores.dtype, jnp.float32))
