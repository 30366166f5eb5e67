"""A network's leaves by path: their shapes, and the initial values of some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from sdnjax.errors import InputError
from sdnjax.models.inputs import abstract_inputs, blank_inputs


def leaf_shapes(
    model: nn.Module, image_size: tuple[int, int], channels: int
) -> dict[str, tuple[int, ...]]:
    """Path ("params/backbone/…/kernel") → shape; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
    extras = abstract_inputs(model, (1, *image_size))
    variables = jax.eval_shape(
        lambda x, extras: model.init(jax.random.key(0), x, train=False, **extras), images, extras
    )
    return {path: x.shape for path, x in flatten_dict(variables, sep="/").items()}


def initial_values(
    model: nn.Module,
    image_size: tuple[int, int],
    channels: int,
    seed: int,
    paths: Iterable[str],
) -> dict[str, np.ndarray]:
    """What `model.init` gives the leaves `paths`; the others are never made."""
    paths = sorted(paths)
    if not paths:
        return {}

    def some() -> dict[str, Any]:
        images = jnp.zeros((1, *image_size, channels), jnp.float32)
        extras = blank_inputs(model, (1, *image_size))
        variables = model.init(jax.random.key(seed), images, train=False, **extras)
        flat = flatten_dict(variables, sep="/")
        return {path: flat[path] for path in paths}

    return {path: np.asarray(x) for path, x in jax.jit(some)().items()}


def leaves_of(leaves: Iterable[str], parts: Sequence[str]) -> set[str]:
    """The leaves inside the modules `parts` ("neck", "decoder/classifier")."""
    found: set[str] = set()
    for part in parts:
        wanted = part.strip("/").split("/")
        inside = {p for p in leaves if p.split("/")[1 : 1 + len(wanted)] == wanted}
        if not inside:
            modules = sorted({p.split("/")[1] for p in leaves})
            raise InputError(f"the network has no part {part!r}; it has {', '.join(modules)}")
        found |= inside
    return found
