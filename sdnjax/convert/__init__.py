"""Foreign checkpoints into our variables and back.

A foreign format is described by a table: a list of `Row`s, each of which joins one leaf of our
variables with one foreign tensor. A family of networks has one file here with
`rows(model) -> list[Row]` and `IGNORED`, the endings of tensor names that mean nothing to us.
"""

from sdnjax.convert.export import to_torch
from sdnjax.convert.load import DoesNotFit, load
from sdnjax.convert.rows import (
    LAYOUTS,
    Layout,
    Row,
    batch_norm,
    conv,
    depthwise,
    layer_norm,
    linear,
)

__all__ = [
    "LAYOUTS",
    "DoesNotFit",
    "Layout",
    "Row",
    "batch_norm",
    "conv",
    "depthwise",
    "layer_norm",
    "linear",
    "load",
    "to_torch",
]
