"""MaskFormer's loss: queries are matched with the classes of an image, then compared."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.ops import resize_bilinear, resize_nearest
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.per_device import over_mesh
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class MaskMatching:
    """MaskFormer's loss; its weights are those of the matching's costs too (mmseg's, the paper's).

    For networks that classify masks: it reads `class_logits` and `mask_logits`.
    """

    weight: float = setting(1.0, "factor of the whole loss", least=0)
    classes: float = setting(1.0, "weight of the queries' classification", least=0)
    dice: float = setting(1.0, "weight of the masks' dice loss", least=0)
    mask: float = setting(20.0, "weight of the masks' focal loss", least=0)
    no_object: float = setting(
        0.1, "weight of queries without a mask in the classification", least=0
    )

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        classes, masks = output(outputs, "class_logits"), output(outputs, "mask_logits")
        return maskformer_means(classes, masks, batch["label"], weights=self)


DEFAULT_WEIGHTS = MaskMatching()


def maskformer_loss(
    class_logits: jax.Array,
    mask_logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int = IGNORE,
    weights: MaskMatching = DEFAULT_WEIGHTS,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The values of `maskformer_means`, and their sum, first."""
    means = maskformer_means(class_logits, mask_logits, labels, ignore=ignore, weights=weights)
    terms = {name: mean.value() for name, mean in means.items()}
    return terms["classes"] + terms["mask"] + terms["dice"], terms


def maskformer_means(
    class_logits: jax.Array,
    mask_logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int = IGNORE,
    weights: MaskMatching = DEFAULT_WEIGHTS,
) -> dict[str, Mean]:
    """Set-prediction loss (Cheng et al., 2021), summed over the decoder layers.

    Every class that an image shows is one mask. Per layer, the masks of an image are assigned
    to different queries at the least cost (classification, focal and dice on the queries' own
    grid; solved on the host). The loss is the cross-entropy of all queries' classes, where one
    without a mask is to say "no object", plus focal (α = .25, γ = 2) and dice loss of the
    matched masks at the labels' size, over the number of masks in the global batch.

    Void pixels are in no mask and count as outside of every mask, as in the original. An image
    that is all void has no masks.

    Args:
      class_logits: `[L, B, Q, K + 1]`, "no object" last.
      mask_logits: `[L, B, Q, h, w]`.
      labels: `[B, H, W]` integers, 0…K−1 or `ignore`.

    Returns:
      The weighted terms: `classes`, one mean for each layer, `mask` and `dice`.

    Raises:
      ValueError: shapes that do not fit.
    """
    layers, batch, queries, *_ = mask_logits.shape
    if class_logits.shape[:3] != (layers, batch, queries) or labels.shape[:1] != (batch,):
        raise ValueError(
            f"class logits {class_logits.shape}, mask logits {mask_logits.shape} and labels "
            f"{labels.shape} differ in layers, images or queries"
        )
    wide = jnp.promote_types(mask_logits.dtype, jnp.float32)
    class_logits, mask_logits = class_logits.astype(wide), mask_logits.astype(wide)
    num_classes = class_logits.shape[-1] - 1

    labels = jnp.where(labels == ignore, -1, labels.astype(jnp.int32))
    # The classes of each image, the most frequent first: [B, K] class, [B, K] is it there.
    counts = jnp.sum(labels[..., None] == jnp.arange(num_classes), axis=(1, 2), dtype=jnp.int32)
    # Not by `top_k`: a device would need the counts of all images for that.
    classes = jnp.argsort(counts, axis=1, descending=True).astype(jnp.int32)
    present = jnp.take_along_axis(counts, classes, axis=1) > 0

    cost = matching_cost(class_logits, mask_logits, labels, classes, weights)
    query = assign(jax.lax.stop_gradient(cost), present)
    masks = jnp.sum(present, dtype=jnp.int32)

    wrong = _class_loss(class_logits, classes, query, weights.no_object)
    focal, dice = _mask_losses(mask_logits, labels, classes, query)
    return {
        "classes": Mean(weights.classes * wrong.total, wrong.count),
        "mask": Mean(weights.mask * focal, masks),
        "dice": Mean(weights.dice * dice, masks),
    }


def matching_cost(
    class_logits: jax.Array,
    mask_logits: jax.Array,
    labels: jax.Array,
    classes: jax.Array,
    weights: MaskMatching,
) -> jax.Array:
    """Cost `[L, B, Q, K]` of giving a query the mask of a class, `classes [B, K]`.

    Minus the probability of the class, focal and dice loss of the masks, on the grid of the
    mask logits with labels of the nearest pixel.
    """
    *_, h, w = mask_logits.shape
    small = resize_nearest(labels[..., None], (h, w))
    wide = mask_logits.dtype
    targets = (small.reshape(-1, h * w, 1) == classes[:, None, :]).astype(wide)
    scores = mask_logits.reshape(*mask_logits.shape[:3], h * w)

    def overlap(x: jax.Array) -> jax.Array:
        return jnp.einsum("lbqn,bnk->lbqk", x, targets, precision=jax.lax.Precision.HIGHEST)

    inside, outside = _focal(scores, 1.0), _focal(scores, 0.0)
    focal = (overlap(inside - outside) + jnp.sum(outside, -1, keepdims=True)) / (h * w)
    areas = jax.nn.sigmoid(scores)
    sizes = jnp.sum(areas, -1, keepdims=True) + jnp.sum(targets, axis=1)[None, :, None]
    dice = 1 - (2 * overlap(areas) + 1) / (sizes + 1)
    probabilities = jax.nn.softmax(class_logits, axis=-1)
    chosen = jnp.take_along_axis(probabilities, classes[None, :, None, :], axis=-1)
    return weights.mask * focal + weights.dice * dice - weights.classes * chosen


def assign(cost: jax.Array, present: jax.Array) -> jax.Array:
    """Query `[L, B, K]` of each mask, or −1: the least total cost, each query at most once.

    `cost [L, B, Q, K]`, `present [B, K]`. Solved on the host, for each device's images by its own.
    Costs that are not finite are taken as the largest number; with more masks than queries the
    dearest masks go without.
    """

    def of_images(cost: jax.Array, present: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct((*cost.shape[:2], cost.shape[3]), jnp.int32)
        return jax.pure_callback(_solve, shape, cost, present, vmap_method="sequential")

    # Told nothing, every device would fetch the costs of all images and solve for all of them.
    query = over_mesh(of_images, (True, True), False)(jnp.moveaxis(cost, 1, 0), present)
    return jnp.moveaxis(query, 1, 0)


def _solve(cost: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Costs `[B, L, Q, K]` and what is there `[B, K]` → queries `[B, L, K]`."""
    cost, present = np.asarray(cost), np.asarray(present)
    largest = np.finfo(cost.dtype).max
    cost = np.nan_to_num(cost, nan=largest, posinf=largest, neginf=largest)
    query = np.full((*cost.shape[:2], cost.shape[3]), -1, np.int32)
    for i, j in np.ndindex(*cost.shape[:2]):
        columns = np.flatnonzero(present[i])
        row, column = linear_sum_assignment(cost[i, j][:, columns])
        query[i, j, columns[column]] = row
    return query


def _class_loss(logits: jax.Array, classes: jax.Array, query: jax.Array, no_object: float) -> Mean:
    """Cross-entropy of every query, weighted per class, and the sum of weights: [L] each."""
    layers, batch, queries, count = logits.shape
    # One row more than there are queries takes the masks that are not there.
    target = jnp.full((layers, batch, queries + 1), count - 1, jnp.int32)
    layer, image = jnp.ogrid[:layers, :batch]
    row = jnp.where(query >= 0, query, queries)
    target = target.at[layer[..., None], image[..., None], row].set(
        jnp.broadcast_to(classes, query.shape)
    )[..., :queries]
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    picked = jnp.take_along_axis(log_probabilities, target[..., None], axis=-1)[..., 0]
    weight = jnp.where(target == count - 1, no_object, 1.0).astype(logits.dtype)
    return Mean(-jnp.sum(weight * picked, axis=(1, 2)), jnp.sum(weight, axis=(1, 2)))


def _mask_losses(
    mask_logits: jax.Array, labels: jax.Array, classes: jax.Array, query: jax.Array
) -> jax.Array:
    """Focal and dice loss of the matched masks at the labels' size, both summed: `[2]`.

    One mask of every image and layer at a time: all of them at once would be L·B·K·H·W values.
    Classes come in order of frequency, so the tail in which no image has a mask costs nothing.
    """

    def of_images(
        mask_logits: jax.Array, labels: jax.Array, classes: jax.Array, query: jax.Array
    ) -> jax.Array:
        def losses(scores: jax.Array, label: jax.Array, valid: jax.Array) -> jax.Array:
            scores = resize_bilinear(scores[..., None], labels.shape[1:])[..., 0]  # [B, L, H, W]
            target = (labels == label[:, None, None])[:, None].astype(scores.dtype)
            areas = jax.nn.sigmoid(scores)
            focal = jnp.mean(_focal(scores, target), axis=(2, 3))
            shared = 2 * jnp.sum(areas * target, axis=(2, 3))
            sizes = jnp.sum(areas, axis=(2, 3)) + jnp.sum(target, axis=(2, 3))
            dice = 1 - (shared + 1) / (sizes + 1)
            return jnp.stack([jnp.sum(jnp.where(valid, x, 0)) for x in (focal, dice)])

        def one_class(total: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            scores, label, valid = x
            zero = jnp.zeros_like(total)
            added = jax.lax.cond(
                jnp.any(valid), jax.checkpoint(losses), lambda *_: zero, scores, label, valid
            )
            return total + added, None

        index = jnp.maximum(query, 0)[..., None, None]
        matched = jnp.take_along_axis(mask_logits, index, axis=2)  # [B, L, K, h, w]
        slots = (jnp.moveaxis(matched, 2, 0), classes.T, jnp.moveaxis(query >= 0, 2, 0))
        return jax.lax.scan(one_class, jnp.zeros(2, mask_logits.dtype), slots)[0]

    # Each device has a loop of its own: left to XLA, devices would talk in every turn.
    images_first = [jnp.moveaxis(x, 1, 0) for x in (mask_logits, query)]
    return over_mesh(of_images, (True,) * 4, True)(
        images_first[0], labels, classes, images_first[1]
    )


def _focal(scores: jax.Array, target: jax.Array | float) -> jax.Array:
    """Focal loss of binary scores, α = .25 and γ = 2."""
    p = jax.nn.sigmoid(scores)
    entropy = jax.nn.softplus(scores) - scores * target
    wrong = p + target - 2 * p * target
    return (0.75 - 0.5 * target) * jnp.square(wrong) * entropy
