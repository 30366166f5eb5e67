"""Positions: embeddings of a checkpoint that was trained on another grid, and Swin's indices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from sdnjax.convert.state_dict import as_array
from sdnjax.errors import InputError
from sdnjax.models.backbones.swin import Swin, relative_positions
from sdnjax.models.backbones.vit import ViT, resize_position_embedding


def adapt_positions(
    vit: ViT, state: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], list[str]]:
    """The state dict with its position embedding on the network's grid, and a note if it moved.

    The embedding `name`, `[1, 1 + h·w, C]`, is resized as the network does it for images of
    another size, from a square grid. One of the network's own size stays as it is.
    """
    state = dict(state)
    x, (rows, columns) = state.get(name), vit.position_grid
    x = None if x is None else as_array(x, name)
    if x is None or x.ndim != 3 or x.shape[1] == 1 + rows * columns:
        return state, []
    side = math.isqrt(max(x.shape[1] - 1, 0))
    if x.shape[1] != 1 + side * side:
        raise InputError(
            f"{name} has {x.shape[1]} tokens: neither a class token and the network's "
            f"{rows}×{columns} patches, nor a class token and a square grid"
        )
    mode = vit.position_resize
    wide = jnp.asarray(x, jnp.float32)
    state[name] = np.asarray(resize_position_embedding(wide, (side, side), (rows, columns), mode))
    return state, [f"resized: {name} from {side}×{side} to {rows}×{columns}, {mode}"]


def position_indices(swin: Swin, name: str) -> dict[str, np.ndarray]:
    """Which bias belongs to which pair of a window's pixels: stored there, computed here.

    `name` has a place for the stage and one for the block: "stages.{}.blocks.{}.index".
    """
    index = relative_positions(swin.window)
    return {name.format(s, b): index for s, depth in enumerate(swin.depths) for b in range(depth)}
