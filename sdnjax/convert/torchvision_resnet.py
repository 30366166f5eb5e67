"""torchvision's ResNets into the backbone of a network (stem="v1"); its classifier is left."""

from __future__ import annotations

from sdnjax.convert.parts import part
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Row
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked", "fc.weight", "fc.bias")


def rows(model: EncoderDecoder) -> list[Row]:
    return resnet(part(model, "backbone", ResNet), "backbone")
