"""The gradient of a batch in parts, one after the other: less memory, the same loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sdnjax.losses import Mean
from sdnjax.losses.objective import Means, valued

# Parameters, batch-norm statistics, batch, dropout's key → terms, accuracy, statistics after it.
Forward = Callable[[Any, Any, Mapping[str, Any], jax.Array], tuple[Means, Mean, Any]]


class Parts(NamedTuple):
    """A batch `[B, …]` and into how many parts of B / number rows it is divided."""

    batch: Mapping[str, jax.Array]
    number: int
    dropout: jax.Array

    def part(self, first: jax.Array) -> tuple[Mapping[str, jax.Array], jax.Array]:
        """Every number-th row, from row `first` on, and its own key for dropout.

        Not consecutive rows: those lie on few devices, these on all of them in equal numbers.
        """

        def rows(x: jax.Array) -> jax.Array:
            split = x.reshape(x.shape[0] // self.number, self.number, *x.shape[1:])
            return jax.lax.dynamic_index_in_dim(split, first, axis=1, keepdims=False)

        batch = {name: rows(x) for name, x in self.batch.items()}
        return batch, jax.random.fold_in(self.dropout, first)


def gradient_in_parts(
    forward: Forward, params: Any, batch_stats: Any, parts: Parts
) -> tuple[Any, Any, jax.Array, dict[str, jax.Array]]:
    """Gradient, batch-norm statistics, loss, and its terms with the pixel accuracy.

    Terms are sums over all parts divided by counts over all parts, however void is spread: what is
    counted is found first. Where that depends on labels alone, XLA leaves the network out of the
    search; where it depends on scores (`Ohem`) the network runs once more.

    Batch norm sees one part at a time, in training as in its running statistics, and what ranks the
    pixels of a whole batch (`over="batch"`) ranks those of a part.
    """
    if parts.number == 1:

        def whole(params: Any) -> tuple[jax.Array, Any]:
            means, accuracy, changed = forward(params, batch_stats, parts.batch, parts.dropout)
            loss, terms = valued(means)
            return loss, (changed, {**terms, "pixel_accuracy": accuracy.value()})

        (loss, (changed, metrics)), gradient = jax.value_and_grad(whole, has_aux=True)(params)
        return gradient, changed, loss, metrics

    numbers = jnp.arange(parts.number)

    def counts_of(number: jax.Array) -> dict[str, jax.Array]:
        means, _, _ = forward(params, batch_stats, *parts.part(number))
        return {name: mean.count for name, (_, mean) in means.items()}

    counts = {name: jnp.sum(x, axis=0) for name, x in jax.lax.map(counts_of, numbers).items()}

    def one(carry: tuple[Any, Any], number: jax.Array) -> tuple[tuple[Any, Any], Any]:
        total, stats = carry

        def share(params: Any) -> tuple[jax.Array, Any]:
            means, accuracy, changed = forward(params, stats, *parts.part(number))
            loss, terms = valued(means, counts)
            return loss, (changed, terms, accuracy)

        (loss, (changed, terms, accuracy)), gradient = jax.value_and_grad(share, has_aux=True)(
            params
        )
        return (jax.tree.map(jnp.add, total, gradient), changed), (loss, terms, accuracy)

    zeros = jax.tree.map(jnp.zeros_like, params)
    (gradient, changed), found = jax.lax.scan(one, (zeros, batch_stats), numbers)
    loss, terms, accuracy = jax.tree.map(lambda x: jnp.sum(x, axis=0), found)
    return gradient, changed, loss, {**terms, "pixel_accuracy": accuracy.value()}
