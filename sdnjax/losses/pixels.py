"""What losses of pixels have in common: checked shapes, void, one-hot labels, class weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sdnjax.errors import InputError
from sdnjax.ops.bands import channel_sum
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


def log_probability(
    scores: jax.Array, index: jax.Array, rest: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """`log p` of each pixel's class, and `Σ_c rest_c log p_c`, both `[B, H, W]`; p is the softmax.

    Its gradient starts from the scores again, so that no array of K channels is kept, and compares
    the class where that of a lookup would scatter.

    Args:
      scores: `[B, H, W, K]`.
      index: `[B, H, W]` of 0…K−1.
      rest: `[K]`; None for zeros.
    """
    return _log_probability(scores, index, rest)


@jax.custom_vjp
def _log_probability(
    scores: jax.Array, index: jax.Array, rest: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    return _forward(scores, index, rest)[0]


def _forward(
    scores: jax.Array, index: jax.Array, rest: jax.Array | None
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
    log_sum = jax.nn.logsumexp(scores, axis=-1)
    log_p = jnp.take_along_axis(scores, index[..., None], axis=-1)[..., 0] - log_sum
    others = jnp.zeros_like(log_p)
    if rest is not None:
        rest = rest.astype(scores.dtype)
        others = channel_sum(scores, rest) - jnp.sum(rest) * log_sum
    return (log_p, others), (scores, index, rest, log_sum)


def _backward(
    residuals: tuple[Any, ...], g: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, None, None]:
    scores, index, rest, log_sum = residuals
    own, others = (x[..., None] for x in g)
    is_own = index[..., None] == jnp.arange(scores.shape[-1], dtype=index.dtype)
    p = jnp.exp(scores - log_sum[..., None])
    d = jnp.where(is_own, own, 0) - own * p
    if rest is not None:
        d += others * (rest - jnp.sum(rest) * p)
    return d, None, None


_log_probability.defvjp(_forward, _backward)


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
