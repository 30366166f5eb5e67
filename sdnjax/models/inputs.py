"""What a network takes besides the normalised images: named inputs of the same batch.

A network names them in its attribute `inputs`, `()` if it has none, and receives them as
keyword arguments: `model.apply(variables, images, train=…, superpixels=…)`. An `EncoderDecoder`
asks for those of its neck, context and refinement, which name theirs in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError, unknown

# Name → shape behind [B, H, W], and type.
#   superpixels: a segment's number 0…N−1 for each pixel, −1 beyond the image; resized by nearest.
#   picture: the image in [0, 1], before mean and std are taken off.
#   label: the classes that are to be predicted, 255 where there is none. Whoever reads them cheats:
#     an oracle, for what a part could be worth at best.
INPUTS: dict[str, tuple[tuple[int, ...], Any]] = {
    "superpixels": ((), jnp.int32),
    "picture": ((3,), jnp.float32),
    "label": ((), jnp.int32),
}


def inputs_of(network: nn.Module) -> tuple[str, ...]:
    """The names of the extra inputs that a network asks for.

    Raises: InputError for a name that nobody supplies.
    """
    names = tuple(getattr(network, "inputs", ()))
    for name in names:
        if name not in INPUTS:
            raise unknown(f"{type(network).__name__} asks for an unknown input", name, INPUTS)
    return names


def inputs_of_parts(*parts: nn.Module | None) -> tuple[str, ...]:
    """The names that any of the parts asks for, each once, in the order of the parts."""
    return tuple(dict.fromkeys(n for part in parts if part is not None for n in inputs_of(part)))


def check_inputs(network: nn.Module, given: Mapping[str, Any]) -> None:
    """Raises InputError for an input that is missing, or that the network does not ask for."""
    wanted, name = inputs_of(network), type(network).__name__
    for missing in (n for n in wanted if n not in given):
        raise InputError(f"{name} needs the input {missing!r}, which was not given")
    for other in (n for n in given if n not in wanted):
        raise unknown(f"{name} was given an input that it does not ask for:", other, wanted)


def select_inputs(network: nn.Module, available: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is `available`, the keyword arguments that the network asks for."""
    return {name: available[name] for name in inputs_of(network)}


def abstract_inputs(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Shapes and types of the network's extra inputs for images of `shape`, `(B, H, W)`."""
    return {
        name: jax.ShapeDtypeStruct((*shape, *INPUTS[name][0]), INPUTS[name][1])
        for name in inputs_of(network)
    }


def blank_inputs(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Zeros in the place of the network's extra inputs, to make its parameters with."""
    return {k: jnp.zeros(x.shape, x.dtype) for k, x in abstract_inputs(network, shape).items()}
