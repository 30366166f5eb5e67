"""The train step: a pure function `(state, batch) → (state, metrics)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec

from sdnjax.losses import Mean, Objective
from sdnjax.losses.objective import Means, means_of
from sdnjax.models.inputs import inputs_of, select_inputs
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.normalization import Normalization
from sdnjax.training.interceptors import PLAIN, Calls
from sdnjax.training.parts import Parts, gradient_in_parts
from sdnjax.training.sharding import on_every_device, replicated, split_by_batch
from sdnjax.training.state import TrainState, averaged

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]
# `(state, batch) → (state, metrics)`.
TrainStep = Callable[..., tuple[TrainState, Metrics]]


def make_train_step(
    network: nn.Module,
    losses: Sequence[Objective],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    normalization: Normalization,
    augment: Callable[[Batch], Batch] | None = None,
    calls: Calls = PLAIN,
    constants: Callable[[], Sequence[Any] | None] = lambda: None,
    micro_batches: int = 1,
    ema_decay: float | None = None,
) -> TrainStep:
    """Builds the step for `jax.jit`.

    The batch holds `image [B, H, W, C]` float32, normalised, and `label [B, H, W]` integers, and
    the extra inputs that the network names (`picture` is made of `image`). With `augment` it
    holds what that function makes those of, on each device of its own rows.
    Metrics are scalars: `loss`, `loss_NAME` for each term of the losses, `gradient_norm`,
    `pixel_accuracy` (of the training crops, void left out).

    `calls` says what differs from a plain call of the network: frozen batch norms and the like.
    `constants` returns those of the losses (`sdnjax.losses.constants_of`). The step may also be
    given them, as its third argument, which `compile_step` does: a program that is compiled of
    two holds them itself, however large.
    `micro_batches`: into how many parts the batch is divided, one after the other; see
    `gradient_in_parts`. `ema_decay`: of the average of the parameters that the state may have.
    """
    if not losses:
        raise ValueError("there is nothing to train for: losses is empty")

    def step(
        state: TrainState, batch: Batch, held: Sequence[Any] | None = None
    ) -> tuple[TrainState, Metrics]:
        held = constants() if held is None else held
        if augment is not None:
            batch = by_rows(augment)(batch)
        # One dropout mask per step for the whole batch: the same on any number of devices.
        dropout = jax.random.fold_in(jax.random.key(seed), state.step)
        apply: Callable[..., Any] = network.apply

        def forward(
            params: Any, batch_stats: Any, batch: Batch, dropout: jax.Array
        ) -> tuple[Means, Mean, Any]:
            """The losses' terms, the pixel accuracy, and the statistics of batch norm after it."""
            with calls.intercepted():
                outputs, changed = apply(
                    {"params": calls.parameters(params), "batch_stats": batch_stats},
                    batch["image"],
                    train=True,
                    rngs={"dropout": dropout},
                    mutable=["batch_stats"],
                    **network_inputs(network, batch, normalization),
                )
            means = means_of(losses, outputs, batch, held)
            accuracy = pixel_accuracy(outputs["logits"], batch["label"])
            return means, accuracy, changed.get("batch_stats", {})

        parts = Parts(batch, micro_batches, dropout)
        gradient, batch_stats, loss, metrics = gradient_in_parts(
            forward, state.params, state.batch_stats, parts
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        state = state.replace(average=averaged(state, ema_decay))
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(gradient), **metrics}

    return step


def jit_step(step: TrainStep, mesh: Mesh, state: Any = None, *, constants: bool = False) -> Any:
    """`jax.jit` of the data-parallel step: the batch is split, the state donated.

    `state` holds the sharding of every leaf of the state (`shardings_of`); by default all of it
    is on every device. With `constants` the step is given those of the losses too.
    """
    state = replicated(mesh) if state is None else state
    held = (replicated(mesh),) if constants else ()
    return jax.jit(
        step,
        in_shardings=(state, split_by_batch(mesh), *held),
        out_shardings=(state, replicated(mesh)),
        donate_argnums=0,
    )


def compile_step(
    step: TrainStep, mesh: Mesh, state: Any = None, constants: Sequence[Any] = ()
) -> TrainStep:
    """`jit_step` for arrays on the mesh, with the mesh in use.

    `constants` are put on every device, and given to the step if there are any.
    """
    held = (on_every_device(tuple(constants), mesh),) if jax.tree.leaves(constants) else ()
    compiled = jit_step(step, mesh, state, constants=bool(held))

    @functools.wraps(step)
    def run(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with jax.set_mesh(mesh):
            return compiled(state, batch, *held)

    return run


def network_inputs(
    network: nn.Module, batch: Batch, normalization: Normalization
) -> dict[str, Any]:
    """The extra inputs that the network names, of a normalised batch."""
    available = dict(batch)
    if "picture" in inputs_of(network) and "picture" not in batch:
        available["picture"] = normalization.picture(batch["image"])
    return select_inputs(network, available)


def by_rows(function: Callable[[Batch], Batch]) -> Callable[[Batch], Batch]:
    """`function` of each device's own rows of the batch, on the mesh in use if there is one."""
    if jax.sharding.get_abstract_mesh().empty:
        return function
    rows = PartitionSpec("data")
    return jax.shard_map(function, in_specs=rows, out_specs=rows, check_vma=False)


def pixel_accuracy(scores: jax.Array, labels: jax.Array) -> Mean:
    """The share of the labelled pixels whose largest score is that of their class."""
    valid = labels != IGNORE
    right = valid & (jnp.argmax(scores, axis=-1) == labels)
    total = jnp.sum(right, dtype=jnp.int32)
    return Mean(total.astype(jnp.float32), jnp.sum(valid, dtype=jnp.int32))
