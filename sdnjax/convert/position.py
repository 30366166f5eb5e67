"""Position embeddings of a checkpoint that was trained on another grid."""

from __future__ import annotations

import math

import numpy as np

from sdnjax.convert.rows import Layout, Row
from sdnjax.errors import InputError
from sdnjax.models.backbones.vit import ViT, resize_position_embedding


def position_row(vit: ViT, variable: str, tensor: str) -> Row:
    """Position embedding `[1, 1 + h·w, C]`, resized to the network's grid as the network does.

    One of another size comes from a square grid. The way back leaves it as it is, so only an
    embedding of the network's own size survives a round trip bit for bit.
    """

    def to_ours(x: np.ndarray) -> np.ndarray:
        rows, columns = vit.position_grid
        if x.ndim != 3 or x.shape[1] == 1 + rows * columns:
            return x
        side = math.isqrt(x.shape[1] - 1)
        if x.shape[1] != 1 + side * side:
            raise InputError(
                f"{tensor}: {x.shape[1]} tokens are no class token and a square grid, "
                f"and not the network's 1 + {rows}·{columns}"
            )
        grid = vit.position_grid
        return np.asarray(resize_position_embedding(x, (side, side), grid, vit.position_resize))

    return Row(variable, tensor, Layout(to_ours, lambda x: x))
