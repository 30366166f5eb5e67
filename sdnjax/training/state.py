"""The train state: one pytree that holds all that a step changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """What a step maps to its successor, and what a checkpoint stores.

    There is no random state: every random number is a function of the run's seed, the step
    and the position in the batch.

    A field that is added here gets its start in `create_state`, its change in the step, and is
    saved and restored with the others.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None  # of the parameters, or None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes after training: of the parameters their average, if there is
        one."""
        params = self.params if self.average is None else self.average
        return {"params": params, "batch_stats": self.batch_stats}


def averaged(state: TrainState, decay: float | None) -> Any:
    """The average after a step, `a ← d·a + (1 − d)·w`; None if the state has none.

    d is `decay`, in the first steps (1 + t) / (10 + t), so that the start is soon forgotten.
    """
    if state.average is None or decay is None:
        return None
    step = state.step.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(
        lambda a, w: a + (1 - d).astype(a.dtype) * (w - a), state.average, state.params
    )


def create_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    *,
    average: bool = False,
) -> TrainState:
    """The state at step 0 of a network with these variables, with an average of its parameters if
    asked for."""
    return TrainState(
        average=jax.tree.map(jnp.copy, variables["params"]) if average else None,
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )
