"""Cross-entropy over the valid pixels of the global batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sdnjax.errors import InputError
from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.ops.labels import IGNORE
from sdnjax.settings import check_types, setting

Divisor = Literal["valid_pixels", "all_pixels"]


@dataclass(frozen=True)
class CrossEntropy:
    """`−log softmax(scores)[label]`, averaged over the pixels of the global batch."""

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored; auxiliary: the auxiliary head's")
    normalize_by: Divisor = setting(
        "valid_pixels", "what the sum is divided by; all_pixels, void included, is mmseg's rule"
    )
    class_weights: tuple[float, ...] | None = setting(
        None,
        "a weight for the pixels of each class, by which valid_pixels are counted too, as in "
        "PyTorch; none: 1",
        least=0,
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        name = "decoder" if self.on == "logits" else self.on
        scores = output(outputs, self.on)
        return {
            name: cross_entropy_mean(
                scores,
                batch["label"],
                normalize_by=self.normalize_by,
                class_weights=self.class_weights,
            )
        }


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int = IGNORE,
    normalize_by: Divisor = "valid_pixels",
) -> jax.Array:
    """The value of `cross_entropy_mean`, a scalar, float32 (float64 for float64)."""
    return cross_entropy_mean(logits, labels, ignore=ignore, normalize_by=normalize_by).value()


def cross_entropy_mean(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int = IGNORE,
    normalize_by: Divisor = "valid_pixels",
    class_weights: Sequence[float] | None = None,
) -> Mean:
    """`−log softmax(logits)[label]`, summed, and the pixels to divide by.

    Inside a data-parallel `jit` both sums run over the global batch, so the loss does not
    depend on how images with much void fall onto devices.

    Args:
      logits: `[B, H, W, K]`.
      labels: `[B, H, W]` integers, 0…K−1 or `ignore`.
      ignore: the label that counts nowhere.
      normalize_by: "valid_pixels" divides by the pixels that are not ignored, and a batch
        without any has loss 0; "all_pixels" by B·H·W, mmseg's rule.
      class_weights: K factors of the pixels' losses; "valid_pixels" then divides by the sum of
        the pixels' weights (PyTorch's and mmseg's definition).

    Raises:
      ValueError: shapes that do not fit.
      InputError: another number of weights than there are classes.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} differ in B, H or W")
    valid = labels != ignore
    index = jnp.where(valid, labels, 0).astype(jnp.int32)
    log_probabilities = jax.nn.log_softmax(
        logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1
    )
    picked = jnp.take_along_axis(log_probabilities, index[..., None], axis=-1)[..., 0]
    if class_weights is not None:
        if len(class_weights) != logits.shape[-1]:
            raise InputError(
                f"losses: {len(class_weights)} class_weights for {logits.shape[-1]} classes"
            )
        weights = jnp.asarray(class_weights, picked.dtype)[index]
        total = -jnp.sum(jnp.where(valid, weights * picked, 0.0))
        counted = jnp.sum(jnp.where(valid, weights, 0.0))
        everything = jnp.asarray(labels.size, total.dtype)
        return Mean(total, everything if normalize_by == "all_pixels" else counted)
    total = -jnp.sum(jnp.where(valid, picked, 0.0))
    if normalize_by == "all_pixels":
        return Mean(total, jnp.asarray(labels.size, total.dtype))
    # A float count is exact to 2^24 pixels only; int32 to 2^31, a batch of 2000 megapixels.
    return Mean(total, jnp.sum(valid, dtype=jnp.int32))
