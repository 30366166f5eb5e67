"""The train step: a pure function `(state, batch) → (state, metrics)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec

from sdnjax.losses import cross_entropy, maskformer_loss
from sdnjax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    auxiliary_weight: float = 0.4,
    normalize_by: Literal["valid_pixels", "all_pixels"] = "valid_pixels",
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the step for `jax.jit`.

    The batch holds `image [B, H, W, 3]` float32, normalised, and `label [B, H, W]` integers.
    Metrics are scalars: `loss`, `loss_decoder`, `loss_auxiliary` (if there is such a head),
    `gradient_norm`, `pixel_accuracy` (of the training crops, void left out). A network that
    classifies masks is trained with `maskformer_loss`, whose terms are `loss_classes`,
    `loss_mask` and `loss_dice`; auxiliary_weight and normalize_by mean nothing to it.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # One dropout mask per step for the whole batch: the same on any number of devices.
        dropout = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, Metrics]]:
            outputs, changed = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                batch["image"],
                train=True,
                rngs={"dropout": dropout},
                mutable=["batch_stats"],
            )
            labels = batch["label"]
            if "mask_logits" in outputs:
                loss, terms = maskformer_loss(
                    outputs["class_logits"], outputs["mask_logits"], labels
                )
                metrics = {f"loss_{name}": term for name, term in terms.items()}
            else:
                loss = cross_entropy(outputs["logits"], labels, normalize_by=normalize_by)
                metrics = {"loss_decoder": loss}
            if "auxiliary" in outputs:
                auxiliary = cross_entropy(outputs["auxiliary"], labels, normalize_by=normalize_by)
                metrics["loss_auxiliary"] = auxiliary
                loss = loss + auxiliary_weight * auxiliary
            metrics["pixel_accuracy"] = _pixel_accuracy(outputs["logits"], labels)
            return loss, (changed.get("batch_stats", {}), metrics)

        (loss, (batch_stats, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new_state, {"loss": loss, "gradient_norm": optax.tree.norm(gradient), **metrics}

    return step


def with_augmentation(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    augment: Callable[[Batch], Batch],
    mesh: Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step on what `augment` makes of each batch; every device augments its own rows."""
    rows = PartitionSpec("data")
    augment = jax.shard_map(augment, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    return lambda state, batch: step(state, augment(batch))


def _pixel_accuracy(logits: jax.Array, labels: jax.Array, ignore: int = 255) -> jax.Array:
    valid = labels != ignore
    right = valid & (jnp.argmax(logits, axis=-1) == labels)
    count = jnp.maximum(jnp.sum(valid, dtype=jnp.int32), 1)
    return jnp.sum(right, dtype=jnp.int32) / count
