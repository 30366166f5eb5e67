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

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    variables: Mapping[str, Any], optimizer: optax.GradientTransformation
) -> TrainState:
    """The state at step 0 of a network with these variables."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )
