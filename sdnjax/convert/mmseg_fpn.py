"""mmseg's SemanticFPN on a ResNet: `fpn_r50` and its like."""

from __future__ import annotations

from sdnjax.convert.mmseg_fcn import conv_module
from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.parts import part
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Row, conv
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.semantic_fpn import SemanticFPNHead
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked",)
around = mmseg_checkpoint


def rows(model: EncoderDecoder) -> list[Row]:
    rows = resnet(part(model, "backbone", ResNet), "backbone", "backbone.")
    part(model, "decoder", SemanticFPNHead)
    for i in range(4):
        pyramid = "decoder/pyramid"
        rows += conv(f"{pyramid}/lateral{i + 1}", f"neck.lateral_convs.{i}.conv", bias=True)
        rows += conv(f"{pyramid}/out{i + 1}", f"neck.fpn_convs.{i}.conv", bias=True)
        for j in range(max(1, i)):  # every other entry there is an upsampling
            theirs = f"decode_head.scale_heads.{i}.{2 * j}"
            rows += conv_module(f"decoder/scale{i + 1}_{j}", theirs)
    return rows + conv("classifier/seg", "decode_head.conv_seg", bias=True)
