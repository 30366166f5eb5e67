"""Cross-entropy over the valid pixels of the global batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, log_probability, weights_of
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
    label_smoothing: float = setting(
        0.0, "share of the target that all classes have alike, as in PyTorch", least=0, below=1
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
                label_smoothing=self.label_smoothing,
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
    label_smoothing: float = 0.0,
    pixel_weights: jax.Array | None = None,
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
      label_smoothing: ε: the target is 1 − ε + ε/K at the label and ε/K at every other class, whose
        terms have the weights of their own classes (PyTorch's definition).
      pixel_weights: `[B, H, W]` factors of the pixels' losses; "valid_pixels" divides by their sum.

    Raises:
      ValueError: shapes that do not fit.
      InputError: another number of weights than there are classes.
    """
    scores, index, valid = labelled(logits, labels, ignore)
    classes = weights_of(class_weights, logits.shape[-1], scores.dtype)
    rest = classes * (label_smoothing / len(classes)) if label_smoothing else None
    log_p, smooth = log_probability(scores, index, rest)
    losses, weights = -log_p, None
    if class_weights is not None:
        weights = classes[index]
        losses = weights * losses
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - smooth
    if pixel_weights is not None:
        own = pixel_weights.astype(scores.dtype)
        weights, losses = own if weights is None else weights * own, losses * own
    total = jnp.sum(jnp.where(valid, losses, 0))
    if normalize_by == "all_pixels":
        return Mean(total, jnp.asarray(labels.size, total.dtype))
    if weights is not None:
        return Mean(total, jnp.sum(jnp.where(valid, weights, 0)))
    # A float count is exact to 2^24 pixels only; int32 to 2^31, a batch of 2000 megapixels.
    return Mean(total, jnp.sum(valid, dtype=jnp.int32))
