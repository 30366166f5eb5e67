"""Lovász-softmax (Berman et al., 2018): a convex surrogate of 1 − IoU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.losses.pixels import labelled, weights_of
from sdnjax.ops.ranking import first_places, ordered_bits, run_ends
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class Lovasz:
    """The mean over classes of the Lovász extension of the Jaccard loss, of errors `|t − p|`.

    mmsegmentation's `LovaszLoss`. Out of each image, the default here, the loss does not depend on
    how a batch is divided over devices; `over="batch"` ranks all its pixels together.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    over: Literal["image", "batch"] = setting("image", "what pixels are ranked with")
    classes: Literal["present", "all"] = setting(
        "present", "classes of the mean: those in the labels, or all"
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "a factor for each class; none: 1", least=0
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores, index, valid = labelled(output(outputs, self.on), batch["label"])
        classes = scores.shape[-1]
        groups = scores.shape[0] if self.over == "image" else 1
        p = jax.nn.softmax(scores, axis=-1).reshape(groups, -1, classes)
        index = jnp.where(valid, index, -1).reshape(groups, -1)

        def of_class(
            _: None, x: tuple[jax.Array, jax.Array]
        ) -> tuple[None, tuple[jax.Array, jax.Array]]:
            k, p = x
            losses = jax.vmap(lovasz_extension, (0, 0, None))(p, index, k)
            return None, (losses, jnp.any(index == k, axis=-1))

        # Few classes at a time: ranking needs several copies of what it ranks. In XLA:CPU a sort
        # has one thread, so that two at once take half the time.
        each = jnp.arange(classes, dtype=jnp.int32), jnp.moveaxis(p, -1, 0)
        _, (losses, present) = lax.scan(of_class, None, each, unroll=2)
        weights = weights_of(self.class_weights, classes, scores.dtype)[:, None]
        counts = present if self.classes == "present" else jnp.ones_like(present)
        number = jnp.sum(counts, axis=0)
        means = jnp.sum(jnp.where(counts, weights * losses, 0), axis=0) / jnp.maximum(number, 1)
        # A group without any label has nothing to be wrong about.
        labelled_groups = jnp.any(index >= 0, axis=-1)
        total = jnp.sum(jnp.where(labelled_groups, means, 0))
        return {"lovasz": Mean(total, jnp.sum(labelled_groups, dtype=jnp.int32))}


@jax.custom_vjp
def lovasz_extension(p: jax.Array, index: jax.Array, k: jax.Array) -> jax.Array:
    """The loss of one class: p its probabilities `[N]`, index the labels `[N]`, negative for void,
    k the class.

    Errors are ranked, and each counts by what it adds to 1 − IoU if all larger ones are made.
    """
    return _with_slopes(p, index, k)[0]


def _with_slopes(p: jax.Array, index: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss, and its derivative by p."""
    own, valid = index == k, index >= 0
    error = jnp.abs(own.astype(p.dtype) - p)
    # Errors are sorted as integers that carry in their last bit whether the pixel is the class's
    # own, which moves an error by at most one unit in its last place in the order, not in the sum.
    # They are negative, so that the largest come first; void pixels, in no union, come last.
    keys = jnp.where(valid, ~(ordered_bits(error) & ~1 | own), 0)
    order = lax.sort(keys, is_stable=False)
    place = jnp.arange(p.size, dtype=jnp.int32)
    own_seen = jnp.cumsum((order < 0) & (~order & 1 == 1), dtype=jnp.int32)
    all_own, all_valid = own_seen[-1], jnp.sum(valid, dtype=jnp.int32)
    intersection = (all_own - own_seen).astype(p.dtype)
    union = (all_own + jnp.minimum(place + 1, all_valid) - own_seen).astype(p.dtype)
    jaccard = 1 - intersection / jnp.maximum(union, 1)
    jaccard = jnp.concatenate([jnp.zeros((1,), p.dtype), jaccard])
    # Equal errors share what they add together, which stands at the first of them.
    end = run_ends(order)
    gains = (jaccard[end] - jaccard[:-1]) / (end - place).astype(p.dtype)
    gain = lax.optimization_barrier(gains)[first_places(keys, order)]
    gain = jnp.where(valid, gain, 0)
    return jnp.sum(error * gain), jnp.where(own, -gain, gain)


def _backward(slopes: jax.Array, g: jax.Array) -> tuple[jax.Array, None, None]:
    return g * slopes, None, None


lovasz_extension.defvjp(_with_slopes, _backward)
