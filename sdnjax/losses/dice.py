"""Dice and Tversky losses: overlap of predicted and true regions, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.errors import InputError
from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, members, weights_of
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class Dice:
    """`1 − 2 Σ p t / (Σ p² + Σ t²)`, the sums over pixels and classes of an image (V-Net, Milletari
    et al., 2016), averaged over images; mmsegmentation's `DiceLoss`.

    p are probabilities, t is 1 at the true class. mmsegmentation's defaults are
    `activation="sigmoid", void="counted"`: there what is predicted at void pixels counts as wrong.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    activation: Literal["softmax", "sigmoid"] = setting("softmax", "what makes probabilities")
    squared: bool = setting(
        True, "squares in the denominator; false: 2 Σ p t / (Σ p + Σ t), mmseg's naive_dice"
    )
    void: Literal["masked", "counted"] = setting(
        "masked", "void pixels are left out; counted: of no class, as in mmsegmentation"
    )
    epsilon: float = setting(1e-3, "keeps an empty denominator from 0", above=0)
    of_classes: tuple[int, ...] | None = setting(
        None, "classes whose regions count, 1 for a foreground alone; none: all", least=0
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores, index, valid = labelled(output(outputs, self.on), batch["label"])
        p = _probabilities(scores, self.activation)
        t = members(index, valid, scores.shape[-1], scores.dtype)
        if self.void == "masked":
            p = jnp.where(valid[..., None], p, 0)
        p, t = (_chosen(x, self.of_classes) for x in (p, t))
        inner = (1, 2, 3)
        overlap = 2 * jnp.sum(p * t, inner)
        if self.squared:
            both = jnp.sum(p * p, inner) + jnp.sum(t, inner) + 2 * self.epsilon
            dice = overlap / both
        else:
            both = jnp.sum(p, inner) + jnp.sum(t, inner) + self.epsilon
            dice = (overlap + self.epsilon) / both
        return {"dice": _over_images(1 - dice, valid)}


@dataclass(frozen=True)
class Tversky:
    """`1 − TP / (TP + α FP + β FN)` of each class and image, averaged over both.

    Salehi et al. (2017); mmsegmentation's `TverskyLoss`. α = β = ½ is the Dice of each class.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    alpha: float = setting(0.3, "weight of false positives", least=0)
    beta: float = setting(0.7, "weight of false negatives", least=0)
    smooth: float = setting(1.0, "pixels added to both sides of the fraction", above=0)
    class_weights: tuple[float, ...] | None = setting(
        None, "a factor for each class; none: 1", least=0
    )
    of_classes: tuple[int, ...] | None = setting(
        None, "classes whose regions count, 1 for a foreground alone; none: all", least=0
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores, index, valid = labelled(output(outputs, self.on), batch["label"])
        classes = scores.shape[-1]
        p = jnp.where(valid[..., None], jax.nn.softmax(scores, axis=-1), 0)
        t = members(index, valid, classes, scores.dtype)
        inner = (1, 2)
        true = jnp.sum(p * t, inner)
        predicted, labelled_pixels = jnp.sum(p, inner), jnp.sum(t, inner)
        wrong = self.alpha * (predicted - true) + self.beta * (labelled_pixels - true)
        index_of_class = 1 - (true + self.smooth) / (true + wrong + self.smooth)
        weights = weights_of(self.class_weights, classes, scores.dtype)
        of_each = _chosen(weights * index_of_class, self.of_classes)
        return {"tversky": _over_images(jnp.mean(of_each, axis=-1), valid)}


def _chosen(x: jax.Array, classes: tuple[int, ...] | None) -> jax.Array:
    """`x [..., K]` of some classes alone.

    Raises: InputError for a class that there is not: JAX would read the last one in its place.
    """
    if classes is None:
        return x
    if not classes or max(classes) >= x.shape[-1]:
        raise InputError(f"losses: of_classes {classes}: there are classes 0…{x.shape[-1] - 1}")
    return x[..., np.asarray(classes)]


def _probabilities(scores: jax.Array, activation: str) -> jax.Array:
    return jax.nn.sigmoid(scores) if activation == "sigmoid" else jax.nn.softmax(scores, axis=-1)


def _over_images(losses: jax.Array, valid: jax.Array) -> Mean:
    """The mean over images that have a label: one that is all void has nothing to overlap with."""
    counts = jnp.any(valid, axis=(1, 2))
    return Mean(jnp.sum(jnp.where(counts, losses, 0)), jnp.sum(counts, dtype=jnp.int32))
