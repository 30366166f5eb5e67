"""Mean field inference in a dense CRF, over any filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.ops.crf.filters import Filter, Normalization, normalized
from sdnjax.ops.neighbours import accumulation_dtype

# Potts as a number w, or an energy as a vector [K] or a matrix [K, K].
Compatibility = float | jax.Array


def mean_field(
    unary: jax.Array,
    filters: Sequence[Filter],
    compatibilities: Sequence[Compatibility],
    *,
    iterations: int,
    normalization: Normalization = "symmetric",
) -> jax.Array:
    """Marginals of a dense CRF, Krähenbühl and Koltun (2011), with the public code's conventions.

        Q⁰ = softmax(−U),   Q ← softmax(−U + Σ_m message_m(K̃_m Q))

    `iterations` times, all pixels at once. A message is `+w K̃Q` for a number w (Potts, as a
    reward), and for energies `−diag(v) K̃Q` for a vector, `−½(M + Mᵀ) K̃Q` for a matrix: the Potts
    number w is the vector of −w. The self term, i = j, is part of K.

    Args:
      unary: energies U `[N, K]`, floating: −log of probabilities.
      filters: functions of `[N, C]`, see `exact_filter`, `separable_filter`,
        `permutohedral_filter`.
      compatibilities: one for each filter: a number, `[K]` or `[K, K]`.
      iterations: a static integer ≥ 0.
      normalization: of every filter, see `normalized`.

    Returns:
      Q `[N, K]` in unary's dtype, computed in float32 (float64 for float64). Differentiable with
      respect to unary and compatibilities.

    Raises:
      ValueError: shapes that do not fit, an unknown normalization.
    """
    n, k, dtype = _sizes(unary, iterations)
    if len(filters) != len(compatibilities):
        raise ValueError(f"{len(filters)} filters and {len(compatibilities)} compatibilities")
    scores = -unary.astype(dtype)
    kernels = [normalized(f, n, normalization, dtype) for f in filters]
    messages = [_message(c, k, dtype) for c in compatibilities]

    def update(q):
        return sum((m(f(q)) for f, m in zip(kernels, messages, strict=True)), jnp.zeros_like(q))

    refined = _iterated(scores, update, iterations)
    return jax.nn.softmax(refined, axis=-1).astype(unary.dtype)


def crf_rnn(
    scores: jax.Array,
    filters: Sequence[Filter],
    weights: Sequence[jax.Array],
    compatibility: jax.Array,
    *,
    iterations: int,
) -> jax.Array:
    """Scores refined by a CRF with learnt matrices, Zheng et al. (2015), "CRF as RNN".

        e⁰ = u,   q = softmax(e),   e ← u + C Σ_m W_m K̃_m q

    `iterations` times, K̃ normalised after filtering. Matrices act on the classes of a pixel.

    Args:
      scores: the logits u themselves, `[N, K]`, floating.
      filters: as in `mean_field`.
      weights: W_m `[K, K]`, one for each filter.
      compatibility: C `[K, K]`.
      iterations: a static integer ≥ 0.

    Returns:
      e `[N, K]`, logits, in the scores' dtype, computed in float32 (float64 for float64).
      Differentiable with respect to scores, weights and compatibility.

    Raises:
      ValueError: shapes that do not fit.
    """
    n, k, dtype = _sizes(scores, iterations)
    if len(filters) != len(weights):
        raise ValueError(f"{len(filters)} filters and {len(weights)} weights")
    for matrix in (*weights, compatibility):
        if jnp.shape(matrix) != (k, k):
            raise ValueError(f"weights and compatibility must be {(k, k)}, not {jnp.shape(matrix)}")
    unary = scores.astype(dtype)
    kernels = [normalized(f, n, "after", dtype) for f in filters]

    def update(q):
        pairs = zip(kernels, weights, strict=True)
        message = sum((_product(f(q), w.astype(dtype)) for f, w in pairs), jnp.zeros_like(q))
        return _product(message, compatibility.astype(dtype))

    return _iterated(unary, update, iterations).astype(scores.dtype)


def _iterated(
    scores: jax.Array, update: Callable[[jax.Array], jax.Array], iterations: int
) -> jax.Array:
    """`e ← scores + update(softmax(e))`. For the gradient each iteration keeps one e."""

    @jax.checkpoint
    def step(e, _):
        return scores + update(jax.nn.softmax(e, axis=-1)), None

    return lax.scan(step, scores, None, length=iterations)[0]


def _sizes(scores: jax.Array, iterations: int) -> tuple[int, int, np.dtype]:
    if scores.ndim != 2:
        raise ValueError(f"unary and scores are [N, K], not {scores.shape}")
    if not isinstance(iterations, int) or iterations < 0:
        raise ValueError(f"iterations must be an integer ≥ 0, got {iterations!r}")
    n, k = scores.shape
    return n, k, accumulation_dtype(scores.dtype)


def _message(compatibility: Compatibility, k: int, dtype: np.dtype) -> Filter:
    c = jnp.asarray(compatibility).astype(dtype)
    if c.shape not in ((), (k,), (k, k)):
        raise ValueError(f"a compatibility is a number, [{k}] or [{k}, {k}], not {c.shape}")
    if c.ndim == 2:
        symmetric = -0.5 * (c + c.T)
        return lambda x: _product(x, symmetric)
    factor = c if c.ndim == 0 else -c[None, :]
    return lambda x: factor * x


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """A matrix times the classes of each pixel."""
    return jnp.einsum("nk,lk->nl", x, matrix, precision=lax.Precision.HIGHEST)
