"""Attention between all pixels whose matrix is never whole: a block of its rows at a time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from sdnjax.ops.devices import target_device
from sdnjax.ops.neighbours import accumulation_dtype


def blocked_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    scale: float = 1.0,
    block: int | None = None,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """`softmax(scale · QKᵀ) V`, of which only `block` rows of the softmax are held at once.

    In the backward pass, too: only Q, K and V are kept for it, and a block's rows are made again.

    Args:
        queries: `[B, N, D]`, floating.
        keys: `[B, M, D]`.
        values: `[B, M, C]`.
        scale: of the products.
        block: rows held at once; None for 4 MiB of them for each image on a CPU, where they stay
            in cache, and 16 MiB elsewhere.
        precision: of the two products; `lax.Precision.HIGHEST` where exponents are large.

    Returns:
        `[B, N, C]` in float32 (float64 for float64).

    Raises:
        ValueError: shapes that do not fit, or an empty block.
    """
    if (
        not queries.ndim == keys.ndim == values.ndim == 3
        or keys.shape != (queries.shape[0], keys.shape[1], queries.shape[2])
        or values.shape[:2] != keys.shape[:2]
    ):
        raise ValueError(
            "attention takes queries [B, N, D], keys [B, M, D] and values [B, M, C], not "
            f"{queries.shape}, {keys.shape} and {values.shape}"
        )
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1 row, not {block}")
    dtype = accumulation_dtype(queries.dtype)
    b, n, d = queries.shape
    limit = 2**22 if target_device()[0] == "cpu" else 2**24
    rows = min(n, block or max(1, limit // (4 * keys.shape[1])))
    count = -(-n // rows)
    rows = -(-n // count)  # even blocks: the last one is not mostly padding

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def attended(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        product = functools.partial(jnp.einsum, precision=precision, preferred_element_type=dtype)
        weights = jax.nn.softmax(scale * product("bnd,bmd->bnm", queries, keys), axis=-1)
        return product("bnm,bmc->bnc", weights.astype(values.dtype), values)

    if count == 1:
        return attended(queries, keys, values)
    blocks = jnp.pad(queries, ((0, 0), (0, count * rows - n), (0, 0)))
    blocks = jnp.moveaxis(blocks.reshape(b, count, rows, d), 1, 0)
    found = lax.map(lambda q: attended(q, keys, values), blocks)
    return jnp.moveaxis(found, 0, 1).reshape(b, count * rows, -1)[:, :n]
