"""Active boundary loss (Wang et al., AAAI 2022): predicted boundaries move to the true ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.ops.bands import channel_sums
from sdnjax.ops.distance import distance_to
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.neighbours import inside, shift, weighted_sum, with_neighbours
from sdnjax.settings import check_types, setting

# Down, up, left, right, then the diagonals: of equally near ones the first is the target.
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))
_AROUND = (*DIRECTIONS, (0, 0))
# A boundary lies where KL is above one of these; they go far beyond what float32 can reach.
_THRESHOLDS = np.asarray(1e-5 * 1.2 ** np.arange(128), np.float32)


@dataclass(frozen=True)
class ActiveBoundary:
    """Cross-entropy of eight directions at each predicted boundary pixel.

    The target is the one that leads nearest to a true boundary. Predicted boundaries are where
    neighbouring distributions differ most, `KL(P(p) ‖ P(p + d))` for the lower and the right
    neighbour: a hundredth of the pixels. The released code takes them out of the whole batch
    together (`budget="batch"`), so that images compete; here each image has its own. It is used
    beside cross-entropy and Lovász, not alone.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("logits", "output that is scored")
    budget: Literal["image", "batch"] = setting(
        "image",
        "a share of each image's pixels, or of one image's for the whole batch, as released",
    )
    share: float = setting(0.01, "of the pixels that may be predicted boundary", above=0, most=1)
    farthest: float = setting(20.0, "pixels from which on a distance weighs no more", above=0)
    smoothing: float = setting(0.2, "of the target, shared by all directions", least=0, below=1)

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        scores = output(outputs, self.on)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        between = divergences(scores)
        distance = jnp.maximum(jnp.floor(distance_to(true_boundary(batch["label"])) - 1), 0)
        target = nearest_direction(distance)
        moves = predicted_boundary(lax.stop_gradient(between), self.share, self.budget)
        moves &= target < len(DIRECTIONS)
        # An image without a true boundary has nowhere to go.
        moves &= jnp.isfinite(distance)

        directions = jax.nn.log_softmax(between, axis=-1)
        rest = self.smoothing / len(DIRECTIONS)
        aim = target[..., None] == jnp.arange(len(DIRECTIONS), dtype=target.dtype)
        shares = jnp.where(aim, 1 - self.smoothing, rest).astype(directions.dtype)
        losses = -jnp.sum(shares * directions, axis=-1)
        weights = jnp.minimum(distance, self.farthest).astype(losses.dtype) / self.farthest
        total = jnp.sum(jnp.where(moves, weights * losses, 0))
        return {"active_boundary": Mean(total, jnp.sum(moves, dtype=jnp.int32))}


def true_boundary(labels: jax.Array, ignore: int = IGNORE) -> jax.Array:
    """Pixels unlike their lower or right neighbour, and void ones: `[B, H, W]` → booleans."""
    lower = jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (0, 1), (0, 0)))
    right = jnp.pad(labels[:, :, 1:] != labels[:, :, :-1], ((0, 0), (0, 0), (0, 1)))
    return lower | right | (labels == ignore)


def predicted_boundary(between: jax.Array, share: float, budget: str) -> jax.Array:
    """Where neighbouring distributions differ most, widened by a pixel: booleans `[B, H, W]`.

    The threshold is the first of `1e-5 · 1.2^k` above which at most a share of an image's pixels
    lies, of each image or of the batch.

    Args:
        between: divergences as `divergences` has them, `[B, H, W, 8]`.
    """
    # KL(P(p) ‖ P(p + d)) is what the neighbour at p + d holds for −d. Across a border: none.
    below, right = (
        shift(between[..., DIRECTIONS.index((-y, -x))], (y, x)) for y, x in ((1, 0), (0, 1))
    )
    kl = below + right
    b, h, w = kl.shape
    most = share * h * w
    axes = (1, 2) if budget == "image" else (0, 1, 2)
    thresholds = jnp.asarray(_THRESHOLDS, kl.dtype)

    def above(k: jax.Array) -> jax.Array:
        return kl > thresholds[k].reshape(-1, 1, 1)

    def halve(_: int, between: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = between
        middle = (low + high) // 2
        count = jnp.sum(above(middle), axis=axes, keepdims=True, dtype=jnp.int32)
        enough = jnp.broadcast_to((count <= most).reshape(-1), (b,))
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    # The first that serves, of numbers that fall: no more passes than the bits of its index.
    ends = jnp.zeros((b,), jnp.int32), jnp.full((b,), len(_THRESHOLDS) - 1, jnp.int32)
    k, _ = lax.fori_loop(0, len(_THRESHOLDS).bit_length() - 1, halve, ends)
    return lax.reduce_window(above(k), False, lax.bitwise_or, (1, 3, 3), (1, 1, 1), "SAME")


def nearest_direction(distance: jax.Array) -> jax.Array:
    """Which of `DIRECTIONS` leads to the least distance, 8 for staying: int32 `[B, H, W]`."""
    far = jnp.asarray(1e5, distance.dtype)
    padded = jnp.pad(distance, ((0, 0), (1, 1), (1, 1)), constant_values=far)
    _, h, w = distance.shape
    there = [padded[:, 1 + y : 1 + y + h, 1 + x : 1 + x + w] for y, x in _AROUND]
    return jnp.argmin(jnp.stack(there), axis=0).astype(jnp.int32)


def divergences(scores: jax.Array) -> jax.Array:
    """`KL(P(p + d) ‖ P(p))` of all eight directions, `[B, H, W, 8]`; P(p + d) has no gradient.

    Borders are repeated outwards.
    """
    cross = _cross(scores)
    entropy = lax.stop_gradient(cross[..., -1])
    there = {o: shift(entropy, o) - cross[..., i] for i, o in enumerate(_AROUND)}
    # Beyond a border lies the border: there a direction is the one without the step across it.
    _, h, w, _ = scores.shape
    row, column = jnp.arange(h)[:, None], jnp.arange(w)
    for (y, x), value in list(there.items()):
        there[y, x] = jnp.where(row + y == jnp.clip(row + y, 0, h - 1), value, there[0, x])
    for (y, x), value in list(there.items()):
        there[y, x] = jnp.where(column + x == jnp.clip(column + x, 0, w - 1), value, there[y, 0])
    return jnp.stack([there[o] for o in DIRECTIONS], axis=-1)


@jax.custom_vjp
def _cross(scores: jax.Array) -> jax.Array:
    """`Σ_c P_c(p + d) log P_c(p)` of all directions and, last, of d = 0: `[B, H, W, 9]`.

    P is the softmax of the scores, 0 outside; its gradient is that of log P(p) alone.
    """
    return _cross_fwd(scores)[0]


def _cross_fwd(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = jax.nn.log_softmax(scores)
    p = jnp.exp(log_p)

    def products(read: Callable[[tuple[int, int]], jax.Array], own: jax.Array) -> jax.Array:
        return channel_sums(read(offset) * own for offset in _AROUND)

    return with_neighbours(products, p, _AROUND, log_p), p


def _cross_bwd(p: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    # One pass over all directions: no map of K channels for each.
    d = weighted_sum(p, g, _AROUND)
    # Of log P; the sum of it over classes is known, because P sums to 1 wherever there is one.
    total = jnp.sum(jnp.where(inside(p.shape, _AROUND), g, 0), axis=-1, keepdims=True)
    return ((d - p * total).astype(p.dtype),)


_cross.defvjp(_cross_fwd, _cross_bwd)
