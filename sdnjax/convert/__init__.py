"""Foreign checkpoints into our variables and back.

A foreign format is described by a table, a file of this package with

    rows(model) -> list[Row]   each joins one leaf of our variables with one foreign tensor
    IGNORED                    endings of the names of tensors that mean nothing to us

and, if it needs them,

    CLASSIFIERS                parts of the paths of leaves that belong to the classes;
                               without it ("classifier/",)
    adapt(model, state)        (state, notes): what no row can say, such as resizing position
                               embeddings; the notes are reported. Tensors are read by `as_array`
    settings(names)            settings of `Model` that the network must have for the weights of a
                               file with these names: {"like": "timm"}; keys may have dots
    constants(model)           tensors beside those of the rows that the original's strict
                               loading wants
    around(classes, palette)   what the original's own loaders want in a .pth beside the state dict
"""

from sdnjax.convert.load import DoesNotFit, load
from sdnjax.convert.rows import (
    ARRANGEMENTS,
    Arrangement,
    Row,
    batch_norm,
    conv,
    depthwise,
    layer_norm,
    linear,
)
from sdnjax.convert.store import to_torch

__all__ = [
    "ARRANGEMENTS",
    "Arrangement",
    "DoesNotFit",
    "Row",
    "batch_norm",
    "conv",
    "depthwise",
    "layer_norm",
    "linear",
    "load",
    "to_torch",
]
