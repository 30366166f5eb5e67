"""What losses of pixels have in common: checked shapes, void, one-hot labels, class weights."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sdnjax.errors import InputError
from sdnjax.ops.labels import IGNORE


def labelled(
    scores: jax.Array, labels: jax.Array, ignore: int = IGNORE
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores `[B, H, W, K]` in float32 or wider, labels with 0 in place of void, and what is not
    void, both `[B, H, W]`.

    Raises: ValueError for shapes that do not fit.
    """
    if scores.shape[:-1] != labels.shape:
        raise ValueError(f"logits {scores.shape} and labels {labels.shape} differ in B, H or W")
    valid = labels != ignore
    wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    return wide, jnp.where(valid, labels, 0).astype(jnp.int32), valid


def log_probability(scores: jax.Array, index: jax.Array) -> jax.Array:
    """`log softmax(scores)` at each pixel's class, `[B, H, W]`.

    The class is compared, not looked up: a lookup needs log softmax whole, and its gradient, which
    scatters, needs that again. So compiled for a GPU there is no array of K channels but the
    gradient itself.
    """
    own = index[..., None] == jnp.arange(scores.shape[-1], dtype=index.dtype)
    picked = jnp.sum(jnp.where(own, scores, 0), axis=-1)
    return picked - jax.nn.logsumexp(scores, axis=-1)


def members(index: jax.Array, valid: jax.Array, classes: int, dtype: jnp.dtype) -> jax.Array:
    """1 at each pixel's class, `[B, H, W, K]`; void pixels are in none."""
    return jnp.where(valid[..., None], jax.nn.one_hot(index, classes, dtype=dtype), 0)


def weights_of(class_weights: Sequence[float] | None, classes: int, dtype: jnp.dtype) -> jax.Array:
    """The weights of the classes `[K]`, 1 where there are none.

    Raises: InputError for another number of them than there are classes.
    """
    if class_weights is None:
        return jnp.ones((classes,), dtype)
    if len(class_weights) != classes:
        raise InputError(f"losses: {len(class_weights)} class_weights for {classes} classes")
    return jnp.asarray(class_weights, dtype)
