"""Focal loss (Lin et al., 2017): pixels that are classified well already count less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, log_probability, members, weights_of
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class Focal:
    """`−α (1 − p)^γ log p`.

    Of sigmoids, a binary problem for each class, averaged over pixels and classes: mmsegmentation's
    `FocalLoss`, which divides by all pixels. Of the softmax, of the true class alone, without α.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    activation: Literal["sigmoid", "softmax"] = setting("sigmoid", "what makes probabilities")
    gamma: float = setting(
        2.0, "how much less a pixel counts the better it is; 0: no less", least=0
    )
    alpha: float = setting(
        0.5,
        "weight of a class's own pixels, 1 − alpha of the others; sigmoid only",
        least=0,
        most=1,
    )
    normalize_by: Literal["valid_pixels", "all_pixels"] = setting(
        "valid_pixels", "what the sum is divided by; all_pixels, void included, is mmseg's rule"
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "a factor for each class; none: 1", least=0
    )

    def __post_init__(self) -> None:
        check_types(self)

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        return {"alpha": "activation is softmax"} if self.activation == "softmax" else {}

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores, index, valid = labelled(output(outputs, self.on), batch["label"])
        classes = scores.shape[-1]
        weights = None
        if self.class_weights is not None:
            weights = weights_of(self.class_weights, classes, scores.dtype)
        if self.activation == "sigmoid":
            losses = self._of_sigmoids(scores, index, valid, weights)
        else:
            log_p, _ = log_probability(scores, index)
            losses = -((-jnp.expm1(log_p)) ** self.gamma) * log_p
            losses = losses if weights is None else weights[index] * losses
        total = jnp.sum(jnp.where(valid, losses, 0))
        if self.normalize_by == "all_pixels":
            return {"focal": Mean(total, jnp.asarray(valid.size, total.dtype))}
        return {"focal": Mean(total, jnp.sum(valid, dtype=jnp.int32))}

    def _of_sigmoids(
        self, scores: jax.Array, index: jax.Array, valid: jax.Array, weights: jax.Array | None
    ) -> jax.Array:
        """The mean over classes `[B, H, W]` of `optax.losses.sigmoid_focal_loss`.

        With z positive where a sigmoid is right, `α σ(−z)^γ softplus(−z)`, of which compiled
        programs keep no array of K channels; of optax's form they keep eight.
        """

        @jax.checkpoint
        def means(scores: jax.Array) -> jax.Array:
            own = members(index, valid, scores.shape[-1], scores.dtype) > 0
            z = jnp.where(own, scores, -scores)
            losses = jnp.exp(-self.gamma * jax.nn.softplus(z)) * jax.nn.softplus(-z)
            losses *= jnp.where(own, self.alpha, 1 - self.alpha).astype(scores.dtype)
            return jnp.mean(losses if weights is None else weights * losses, axis=-1)

        return means(scores)
