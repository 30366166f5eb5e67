"""TFDS builders: data sets as ArrayRecord files with random access, one module for each.

Files are stored as they are and labels keep the values of their files; both are checked
before. Reading them is `sdnjax.data.open_source`'s part.
"""

from __future__ import annotations

import importlib

# Data set → its module here and its class there; importing one imports TensorFlow.
BUILDERS = {
    "ade20k": ("ade20k", "Ade20k"),
    "camvid": ("camvid", "CamVid"),
    "cityscapes": ("cityscapes", "Cityscapes"),
    "pascal_context_59": ("pascal_context", "PascalContext59"),
    "pascal_context_60": ("pascal_context", "PascalContext60"),
    "shapes": ("shapes", "Shapes"),
    "voc2012_aug": ("voc2012_aug", "Voc2012Aug"),
}


def builder_class(name: str):
    """The `SegmentationBuilder` of a data set."""
    module, attribute = BUILDERS[name]
    return getattr(importlib.import_module(f"sdnjax.data.builders.{module}"), attribute)
