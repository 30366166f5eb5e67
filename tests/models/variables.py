"""Random variables for a network, quicker than its own initialisation, and what they give."""

import functools

import jax
import numpy as np

from tests.compiler import AS_USERS


def random_variables(model, images, seed, **extras):
    """Variables with nothing left at its initial value: statistics, affine, necks."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False, **extras))

    def value(path, x):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape)
        if name == "kernel":
            return rng.normal(size=x.shape) * np.sqrt(2 / np.prod(x.shape[:-1]))
        return 0.2 * rng.normal(size=x.shape)

    return jax.tree_util.tree_map_with_path(value, shapes)


def logits(model, variables, images):
    """In one program as users' settings make it."""

    @functools.partial(jax.jit, compiler_options=AS_USERS)
    def run(variables, images):
        return model.apply(variables, images, train=False)["logits"]

    return run(variables, images)
