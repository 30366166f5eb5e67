"""The train state: one pytree that holds all that a step changes."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


@flax.struct.dataclass
class TrainState:
    """What a step maps to its successor, and what a checkpoint stores.

    There is no random state: every random number is a function of the run's seed, the step
    and the position in the batch.
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
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_size: tuple[int, int],
    seed: int,
) -> TrainState:
    """Initial state; parameters depend on `seed` only, not on the image size."""
    images = jnp.zeros((1, *image_size, 3), jnp.float32)
    variables = model.init(jax.random.key(seed), images, train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )
