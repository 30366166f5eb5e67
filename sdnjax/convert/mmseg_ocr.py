"""mmseg's OCRNet on HRNetV2: `ocrnet_hr18s`, `ocrnet_hr18`, `ocrnet_hr48`."""

from __future__ import annotations

from sdnjax.convert.hrnet import hrnet
from sdnjax.convert.mmseg_fcn import conv_module
from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, conv
from sdnjax.models.backbones.hrnet import HRNet
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked",)
around = mmseg_checkpoint

ATTENTION = {
    "query1": "query_project.0",
    "query2": "query_project.1",
    "key1": "key_project.0",
    "key2": "key_project.1",
    "value": "value_project",
    "out": "out_project",
    "bottleneck": "bottleneck",
}


def rows(model: EncoderDecoder) -> list[Row]:
    rows = [
        *hrnet(part(model, "backbone", HRNet), "backbone", "backbone."),
        *conv_module("decoder/auxiliary/conv1", "decode_head.0.convs.0"),
        *conv("decoder/auxiliary/classifier/seg", "decode_head.0.conv_seg", bias=True),
        *conv_module("decoder/bottleneck", "decode_head.1.bottleneck"),
        *conv("classifier/seg", "decode_head.1.conv_seg", bias=True),
    ]
    for ours, theirs in ATTENTION.items():
        block = f"decode_head.1.object_context_block.{theirs}"
        rows += conv_module(f"decoder/attention/{ours}", block)
    return rows
