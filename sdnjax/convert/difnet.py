"""The authors' DifNet, and Sim-Deeplab, which is its seed branch alone: `difnet_r50-d8` and so on.

`model_sed` is the branch of the seeds, whose `layer5` is the classifier, `model_dif` that of the
similarities, `diffuse0…4` the walks, `mask_layer` the importance map. Sim-Deeplab has the names of
`model_sed`, behind whatever prefix.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sdnjax.convert.parts import part
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Arrangement, Row, batch_norm, conv
from sdnjax.convert.state_dict import as_array
from sdnjax.errors import InputError
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.deeplab import DeepLabV2Classifier
from sdnjax.models.difnet import DifNet
from sdnjax.models.encoder_decoder import EncoderDecoder

# torchvision's classifier stays in their ResNets, unused.
IGNORED = (".num_batches_tracked", "fc.weight", "fc.bias")
CLASSIFIERS = ("classifier/", "importance/")  # the importance map reads the scores

_SCALAR = Arrangement(lambda x: np.reshape(x, ()), lambda x: np.reshape(x, (1,)))


def settings(names: Collection[str]) -> dict[str, Any]:
    """They were trained on blue, green, red."""
    return {"difnet.preprocessing": "released"}


def adapt(
    model: DifNet | EncoderDecoder, state: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The state with α and β of the walks as `[1]`, whether they were scalars or had more axes."""
    del model
    adapted = dict(state)
    for name, tensor in state.items():
        if re.fullmatch(r"diffuse\d\.(alpha|beta)", name) and np.prod(tensor.shape) == 1:
            adapted[name] = as_array(tensor, name).reshape(1)
    return adapted, []


def rows(model: DifNet | EncoderDecoder) -> list[Row]:
    seeds = "model_sed." if isinstance(model, DifNet) else ""
    backbone = part(model, "backbone", ResNet)
    if (backbone.strided, backbone.dilated) != ("1x1", "conv2"):
        raise InputError(
            "it is for networks whose backbone is DifNet's ResNet, here it is one with other "
            "strides and dilations: name another table"
        )
    rows = resnet(backbone, "backbone", seeds)
    for i in range(len(part(model, "classifier", DeepLabV2Classifier).dilations)):
        rows += conv(f"classifier/seg{i + 1}", f"{seeds}layer5.conv2d_list.{i}", bias=True)
    if not isinstance(model, DifNet):
        return rows
    rows += resnet(model.similarity, "similarity", "model_dif.")
    for i in range(3):
        rows += batch_norm(f"importance/bn{i}", f"mask_layer.bn{i}")
        rows += conv(f"importance/conv{i + 1}", f"mask_layer.conv{i + 1}")
    for walk in model.walks:
        ours, theirs = str(walk + 1), f"diffuse{walk}"
        rows += conv(f"psi{ours}/conv", f"{theirs}.conv", bias=True)
        rows += batch_norm(f"psi{ours}/bn", f"{theirs}.bn")
        rows += [
            Row(f"params/walk{ours}/{name}", f"{theirs}.{name}", _SCALAR)
            for name in ("alpha", "beta")
        ]
    return rows
