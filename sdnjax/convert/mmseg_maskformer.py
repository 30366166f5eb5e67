"""mmsegmentation's MaskFormer: mmdetection's `MaskFormerHead` on a ResNet or on Swin.

Checked against mmdetection 3.3's code. Files of before its version 3 have other names: no such file
has been loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.mmseg_segmenter import packed_attention
from sdnjax.convert.mmseg_swin import INDEX, backbone_rows
from sdnjax.convert.parts import part
from sdnjax.convert.position import position_indices
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Row, conv, layer_norm, linear
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.backbones.swin import Swin
from sdnjax.models.decoders.maskformer import MaskFormerDecoder
from sdnjax.models.mask_classifier import MaskClassifier

IGNORED = ("num_batches_tracked", "relative_position_index")
around = mmseg_checkpoint
CLASSIFIERS = ("decoder/classifier/",)
# Of a decoder layer, before mmdetection 3.0 and since.
OLD_NAMES = {"attentions.0.": "self_attn.", "attentions.1.": "cross_attn.", "ffns.0.": "ffn."}


def rows(model: MaskClassifier) -> list[Row]:
    """The whole network."""
    decoder = part(model, "decoder", MaskFormerDecoder)
    if isinstance(model.backbone, Swin):
        backbone, width = backbone_rows(model.backbone), 8 * model.backbone.width
    else:
        network = part(model, "backbone", ResNet)
        backbone = resnet(network, "backbone", "backbone.")
        width = 512 if network.depth < 50 else 2048
    return [*backbone, *_decoder_rows(decoder, width != decoder.channels)]


def constants(model: MaskClassifier) -> dict[str, np.ndarray]:
    """Swin's."""
    swin = model.backbone
    return position_indices(swin, INDEX) if isinstance(swin, Swin) else {}


def adapt(model: MaskClassifier, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The names of files that an mmdetection before 3.0 wrote, as those of today."""
    del model

    def today(name: str) -> str:
        layer = re.match(r"decode_head\.transformer_decoder\.layers\.\d+\.", name)
        if layer is None:
            return name
        tail = name.removeprefix(layer[0])
        for old, new in OLD_NAMES.items():
            if tail.startswith(old):
                tail = new + tail.removeprefix(old)
        return layer[0] + tail

    renamed = {today(name): x for name, x in state.items()}
    changed = len(renamed.keys() - state.keys())
    return renamed, [f"renamed: {changed} tensors of the decoder's layers"] if changed else []


def _decoder_rows(decoder: MaskFormerDecoder, projected: bool) -> list[Row]:
    head = "decode_head"
    pixels, ours = f"{head}.pixel_decoder", "decoder/pixel_decoder"
    found = [
        *_conv_norm(f"{ours}/out4", f"{pixels}.last_feat_conv"),
        *conv(f"{ours}/mask_projection", f"{pixels}.mask_feature", bias=True),
    ]
    for i in range(3):
        found += _conv_norm(f"{ours}/lateral{i + 1}", f"{pixels}.lateral_convs.{i}")
        found += _conv_norm(f"{ours}/out{i + 1}", f"{pixels}.output_convs.{i}")

    transformer = f"{head}.transformer_decoder"
    found += [
        Row("params/decoder/query_embedding", f"{head}.query_embed.weight"),
        *layer_norm("decoder/norm", f"{transformer}.post_norm"),
        *linear("decoder/classifier", f"{head}.cls_embed"),
    ]
    if projected:
        found += conv("decoder/input_projection", f"{head}.decoder_input_proj", bias=True)
    for i in range(3):  # a ReLU lies between two of them
        found += linear(f"decoder/mask_embedding{i + 1}", f"{head}.mask_embed.{2 * i}")
    for i in range(decoder.layers):
        layer, theirs = f"decoder/layer{i}", f"{transformer}.layers.{i}"
        found += [
            *packed_attention(f"{layer}/self_attention", f"{theirs}.self_attn.attn"),
            *packed_attention(f"{layer}/cross_attention", f"{theirs}.cross_attn.attn"),
            *linear(f"{layer}/fc1", f"{theirs}.ffn.layers.0.0"),
            *linear(f"{layer}/fc2", f"{theirs}.ffn.layers.1"),
        ]
        for n in range(3):
            found += layer_norm(f"{layer}/norm{n + 1}", f"{theirs}.norms.{n}")
    return found


def _conv_norm(variable: str, tensor: str) -> list[Row]:
    """mmcv's `ConvModule` with group norm."""
    return [
        *conv(f"{variable}/conv", f"{tensor}.conv"),
        *layer_norm(f"{variable}/norm", f"{tensor}.gn"),
    ]
