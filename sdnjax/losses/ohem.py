"""Online hard example mining: cross-entropy of the pixels that are classified worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, log_probability, weights_of
from sdnjax.ops.ranking import sorted_nonnegative
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class Ohem:
    """Cross-entropy of the pixels whose true class has a probability below `threshold`, and of at
    least `kept` of the least probable ones per image.

    mmsegmentation's `OHEMPixelSampler` takes them out of the whole batch (`over="batch"`) and, with
    its cross-entropy, divides by all pixels (`normalize_by="all_pixels"`). Out of each image, the
    default, the loss does not depend on how a batch is divided over devices and micro-batches.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    threshold: float | None = setting(
        0.7,
        "pixels whose true class is less probable count; none: just `kept` pixels",
        least=0,
        most=1,
    )
    kept: int = setting(10_000, "pixels of an image that count at least", least=1)
    over: Literal["image", "batch"] = setting(
        "image", "out of what the pixels are taken; batch: kept × images out of the whole batch"
    )
    normalize_by: Literal["kept", "valid_pixels", "all_pixels"] = setting(
        "kept", "what the sum is divided by: the pixels that count, the labelled ones, or all"
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "a factor for the pixels of each class; none: 1", least=0
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores, index, valid = labelled(output(outputs, self.on), batch["label"])
        log_p, _ = log_probability(scores, index)
        hard = self.hard(jax.lax.stop_gradient(jnp.exp(log_p)), valid)
        if self.class_weights is not None:
            log_p *= weights_of(self.class_weights, scores.shape[-1], scores.dtype)[index]
        total = -jnp.sum(jnp.where(hard, log_p, 0))
        counted = {"kept": hard, "valid_pixels": valid}.get(self.normalize_by)
        if counted is None:
            return {"ohem": Mean(total, jnp.asarray(valid.size, total.dtype))}
        return {"ohem": Mean(total, jnp.sum(counted, dtype=jnp.int32))}

    def hard(self, probability: jax.Array, valid: jax.Array) -> jax.Array:
        """Which pixels count, booleans `[B, H, W]`.

        Args:
          probability: of the true class, `[B, H, W]`.
          valid: whether a pixel has a label.
        """
        images = valid.shape[0]
        kept = self.kept if self.over == "image" else self.kept * images
        groups = (images, -1) if self.over == "image" else (1, -1)
        # Void pixels lie behind all others.
        ranked = sorted_nonnegative(jnp.where(valid, probability, jnp.inf).reshape(groups))
        found = jnp.sum(valid.reshape(groups), axis=-1, dtype=jnp.int32)
        place = jnp.minimum(kept, found - 1) if self.threshold is not None else kept - 1
        place = jnp.clip(place, 0, ranked.shape[-1] - 1)
        limit = jnp.take_along_axis(ranked, jnp.broadcast_to(place, found.shape)[:, None], axis=-1)
        if self.threshold is None:
            # The `kept` least probable ones, and what is as probable as the last of them.
            below = probability.reshape(groups) <= limit
        else:
            below = probability.reshape(groups) < jnp.maximum(limit, self.threshold)
        return valid & below.reshape(valid.shape)
