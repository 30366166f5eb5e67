"""mmseg's FCN on a ResNet: `fcn_r50-d8` and its like."""

from __future__ import annotations

from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.parts import part
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.encoder_decoder import EncoderDecoder
from sdnjax.models.layers import Head

IGNORED = (".num_batches_tracked",)
around = mmseg_checkpoint


def rows(model: EncoderDecoder) -> list[Row]:
    return [
        *resnet(part(model, "backbone", ResNet), "backbone", "backbone."),
        *fcn_features(part(model, "decoder", FCNHead), "decoder", "decode_head"),
        *conv("classifier/seg", "decode_head.conv_seg", bias=True),
        *auxiliary_head(model),
    ]


def auxiliary_head(model: EncoderDecoder) -> list[Row]:
    """The auxiliary head that many networks have."""
    features = part(part(model, "auxiliary", Head), "features", FCNHead)
    return [
        *fcn_features(features, "auxiliary", "auxiliary_head"),
        *conv("auxiliary/classifier/seg", "auxiliary_head.conv_seg", bias=True),
    ]


def fcn_features(head: FCNHead, variable: str, prefix: str) -> list[Row]:
    """mmseg's `FCNHead` without its classifier."""
    rows = []
    for i in range(head.convs):
        rows += conv_module(f"{variable}/conv{i + 1}", f"{prefix}.convs.{i}")
    if head.concat_input:
        rows += conv_module(f"{variable}/conv_cat", f"{prefix}.conv_cat")
    return rows


def conv_module(variable: str, prefix: str) -> list[Row]:
    """mmseg's `ConvModule`, our `ConvBNReLU`."""
    return [
        *conv(f"{variable}/conv", f"{prefix}.conv"),
        *batch_norm(f"{variable}/bn", f"{prefix}.bn"),
    ]
