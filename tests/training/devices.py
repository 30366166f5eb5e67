"""Steps of a recipe in float64 on one device and on eight: roundings cannot hide anything."""

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sdnjax.training.sharding import to_global
from tests.training.test_step import mesh_of


def histories(recipe, batches):
    """The metrics of every step, for one device and for eight; `recipe` is built in float64."""
    narrow = jax.jit(recipe.init_variables)()
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), narrow)
    found = []
    for devices in (1, 8):
        mesh = mesh_of(devices)
        state = jax.device_put(recipe.init_state(variables), NamedSharding(mesh, PartitionSpec()))
        step, seen = recipe.compiled_step(mesh), []
        for batch in batches:
            wide = {**batch, "image": batch["image"].astype(np.float64)}
            state, metrics = step(state, to_global(wide, mesh))
            seen.append({k: float(v) for k, v in metrics.items()})
        found.append(seen)
    return found
