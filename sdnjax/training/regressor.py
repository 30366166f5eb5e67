"""Training InverseForm's regressor: pairs of edge maps, one of them moved by a known amount."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.ndimage import map_coordinates

from sdnjax.losses.inverse_form import InverseForm, regress
from sdnjax.ops.edges import label_edges
from sdnjax.ops.resize import resize_bilinear

SHIFT = 0.1  # of a tile, the largest either way
SCALE = 0.2  # the largest change of scale, up or down

Layers = list[tuple[jax.Array, jax.Array]]


class Pairs(NamedTuple):
    """Tiles of edge maps, and where one lies in the eyes of the other.

    Attributes:
      moved, target: `[N, pixels]`.
      answer: `[N, 4]` in [−1, 1], `(t_y/.1, t_x/.1, (s_y − 1)/.2, (s_x − 1)/.2)`: `moved` is
        `target` scaled by s about the tile's middle and shifted by t, in units of the tile.
      counted: `[N]`, whether the target has an edge at all.
    """

    moved: jax.Array
    target: jax.Array
    answer: jax.Array
    counted: jax.Array


def random_pairs(key: jax.Array, labels: jax.Array, loss: InverseForm) -> Pairs:
    """Every tile of the labels' edge maps, and the same moved at random.

    What moves into a tile is what lies beside it in the map; beyond the map there is nothing.

    Args:
      labels: `[B, H, W]` of 0…K−1 and void.
      loss: whose size, tiles and radius are meant.
    """
    count = labels.shape[0] * loss.tiles[0] * loss.tiles[1]
    answer = jax.random.uniform(key, (count, 4), minval=-1.0)
    return moved_pairs(labels, answer, loss)


def moved_pairs(labels: jax.Array, answer: jax.Array, loss: InverseForm) -> Pairs:
    """The pairs of given answers `[N, 4]`; see `random_pairs`."""
    edges = label_edges(labels, loss.radius).astype(jnp.float32)
    maps = resize_bilinear(edges[..., None], loss.size)[..., 0]
    (down, across), (h, w) = loss.tiles, loss.tile

    def source(start: jax.Array, size: int, shift: jax.Array, scale: jax.Array) -> jax.Array:
        """Where a moved tile's rows, or columns, come from."""
        offset = jnp.arange(size) - (size - 1) / 2
        return start + (size - 1) / 2 + (offset - SHIFT * shift * size) / (1 + SCALE * scale)

    def moved(image: jax.Array, place: jax.Array, move: jax.Array) -> jax.Array:
        rows = source(place[0] * h, h, move[0], move[2])
        columns = source(place[1] * w, w, move[1], move[3])
        where = jnp.meshgrid(rows, columns, indexing="ij")
        return map_coordinates(image, where, order=1, mode="constant")

    places = jnp.stack(jnp.meshgrid(jnp.arange(down), jnp.arange(across), indexing="ij"), -1)
    tiles = jax.vmap(moved, in_axes=(None, 0, 0))
    found = jax.vmap(tiles, in_axes=(0, None, 0))(
        maps, places.reshape(-1, 2), answer.reshape(len(labels), -1, 4)
    )
    target = loss.cut(edges)
    counted = jnp.any(target > 0.5, axis=-1)
    return Pairs(found.reshape(target.shape), target, answer, counted)


def initial_regressor(key: jax.Array, loss: InverseForm, hidden: Sequence[int]) -> Layers:
    """Three linear layers, as PyTorch starts them: U(±1/√inputs)."""
    sizes = (2 * loss.tile[0] * loss.tile[1], *hidden, 4)
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        keys = jax.random.split(jax.random.fold_in(key, i))
        bound = inputs**-0.5
        layers.append(
            (
                jax.random.uniform(keys[0], (outputs, inputs), minval=-bound, maxval=bound),
                jax.random.uniform(keys[1], (outputs,), minval=-bound, maxval=bound),
            )
        )
    return layers


def errors(layers: Layers, pairs: Pairs) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the pairs that count: of squared errors, of those of the answer 0, and their
    number."""
    found = regress(layers, pairs.moved, pairs.target)
    squares = jnp.sum(jnp.square(found - pairs.answer), axis=-1)
    trivial = jnp.sum(jnp.square(pairs.answer), axis=-1)
    ours, zero = (jnp.sum(jnp.where(pairs.counted, x, 0)) for x in (squares, trivial))
    return ours, zero, jnp.sum(pairs.counted)


def regressor_step(
    loss: InverseForm, optimizer: optax.GradientTransformation, seed: int
) -> Callable[..., tuple[Layers, optax.OptState, jax.Array]]:
    """The pure step `(layers, optimizer state, labels, number) → (layers, state, error)`.

    The moves depend on seed and number; the error is the mean squared length.
    """

    def step(
        layers: Layers, state: optax.OptState, labels: jax.Array, number: jax.Array
    ) -> tuple[Layers, optax.OptState, jax.Array]:
        pairs = random_pairs(jax.random.fold_in(jax.random.key(seed), number), labels, loss)

        def error(layers: Layers) -> jax.Array:
            ours, _, count = errors(layers, pairs)
            return ours / jnp.maximum(count, 1)

        value, gradient = jax.value_and_grad(error)(layers)
        updates, state = optimizer.update(gradient, state, layers)
        return optax.apply_updates(layers, updates), state, value

    return step
