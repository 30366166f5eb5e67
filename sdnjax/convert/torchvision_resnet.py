"""torchvision's ResNets into the backbone of a network (stem="v1"), and into both of DifNet's.

torchvision's own classifier is left.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sdnjax.convert.parts import part
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Row
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.difnet import DifNet
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked", "fc.weight", "fc.bias")


def settings(names: Collection[str]) -> dict[str, Any]:
    """The stem that the file has: mmseg's `resnet50_v1c` goes by the same names otherwise."""
    deep = any(f".{name}".endswith(".stem.0.weight") for name in names)
    return {"stem": "v1c" if deep else "v1"}


def rows(model: EncoderDecoder | DifNet) -> list[Row]:
    rows = resnet(part(model, "backbone", ResNet), "backbone")
    if isinstance(model, DifNet):
        rows += resnet(model.similarity, "similarity")
    return rows
