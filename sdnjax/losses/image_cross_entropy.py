"""Cross-entropy image by image, whose classes weigh by their share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sdnjax.losses.edges import edge_logits
from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, log_probability, members
from sdnjax.ops.labels import IGNORE
from sdnjax.settings import check_types, setting

Over = Literal["image", "batch"]
Images = Literal["mean", "sum"]


@dataclass(frozen=True)
class ImageCrossEntropy:
    """Cross-entropy whose class weights are `1 + (n_c > 0)(1 − n_c / Σn)`: 1 for a class that does
    not occur, nearly 2 for a rare one.

    Each image's loss is the mean over its labelled pixels, by their weights. The code that was
    released with InverseForm counts n over the whole batch (`over="batch"`) and adds the images up
    (`images="sum"`): there the loss, beside all others, grows with the images of a device. Here
    they are averaged, and each image counts its own n, so that the loss does not depend on how a
    batch is divided over devices and micro-batches.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored; auxiliary: the auxiliary head's")
    over: Over = setting(
        "image", "where pixels of a class are counted; batch: in all images, as released"
    )
    images: Images = setting(
        "mean", "how images become one loss; sum: it grows with the batch, as released"
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        name = "decoder" if self.on == "logits" else self.on
        scores = output(outputs, self.on)
        return {name: image_cross_entropy(scores, batch["label"], self.over, self.images)}


@dataclass(frozen=True)
class EdgeAttention:
    """`ImageCrossEntropy` of the pixels that the network itself takes for edges."""

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    edge: str = setting("edge", "output that says where edges are, logits")
    above: float = setting(0.8, "pixels of a larger edge logit count (.8: a probability of .69)")
    over: Over = setting("image", "as in ImageCrossEntropy; batch: as released")
    images: Images = setting("mean", "as in ImageCrossEntropy; sum: as released")

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        edge = edge_logits(output(outputs, self.edge), batch["label"])
        labels = jnp.where(edge > self.above, batch["label"], IGNORE)
        scores = output(outputs, self.on)
        return {"edge_attention": image_cross_entropy(scores, labels, self.over, self.images)}


def image_cross_entropy(scores: jax.Array, labels: jax.Array, over: Over, images: Images) -> Mean:
    """See `ImageCrossEntropy`; images without a labelled pixel count nowhere.

    Args:
      scores: logits `[B, H, W, K]`.
      labels: `[B, H, W]` of 0…K−1 and `IGNORE`.
    """
    wide, index, valid = labelled(scores, labels)
    axes = (1, 2) if over == "image" else (0, 1, 2)
    found = members(index, valid, wide.shape[-1], wide.dtype)
    # Integers: a float32 counts to 2²⁴ only.
    n = jnp.sum(found > 0, axis=axes, keepdims=True, dtype=jnp.int32)
    share = n.astype(wide.dtype) / jnp.maximum(jnp.sum(n, axis=-1, keepdims=True), 1)
    weights = jnp.sum(found * jnp.where(n > 0, 2 - share, 1), axis=-1)

    log_p, _ = log_probability(wide, index)
    total = -jnp.sum(weights * log_p, axis=(1, 2))
    divisor = jnp.sum(weights, axis=(1, 2))
    each = jnp.where(divisor > 0, total / jnp.where(divisor > 0, divisor, 1), 0)
    if images == "sum":
        # Of the batch at hand: merged parts are averaged like those of any other mean.
        count = jnp.asarray(labels.shape[0], wide.dtype)
        return Mean(jnp.sum(each) * count, count)
    return Mean(jnp.sum(each), jnp.sum(divisor > 0, dtype=jnp.int32))
