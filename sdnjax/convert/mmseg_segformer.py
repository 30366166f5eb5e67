"""mmsegmentation's SegFormer: `MixVisionTransformer` and `SegformerHead`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.mmseg_segmenter import packed_attention
from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv, depthwise, layer_norm
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.mit import MiT
from sdnjax.models.decoders.segformer import SegFormerHead

IGNORED = ("num_batches_tracked",)
around = mmseg_checkpoint


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "mmseg"}


def rows(model: EncoderDecoder) -> list[Row]:
    """The whole network."""
    found = backbone_rows(part(model, "backbone", MiT))
    part(model, "decoder", SegFormerHead)
    for i in range(4):
        found += _conv_bn(f"decoder/project{i + 1}", f"decode_head.convs.{i}")
    return [
        *found,
        *_conv_bn("decoder/fuse", "decode_head.fusion_conv"),
        *conv("classifier/seg", "decode_head.conv_seg", bias=True),
    ]


def backbone_rows(mit: MiT, variable: str = "backbone", tensor: str = "backbone.") -> list[Row]:
    """`tensor` is a prefix with its dot: "" for the pretrained encoders by themselves."""
    found = []
    for s, depth in enumerate(mit.depths):
        stage = f"{tensor}layers.{s}"
        embedding = f"{variable}/embedding{s + 1}"
        found += [
            *conv(f"{embedding}/conv", f"{stage}.0.projection", bias=True),
            *layer_norm(f"{embedding}/norm", f"{stage}.0.norm"),
            *layer_norm(f"{variable}/norm{s + 1}", f"{stage}.2"),
        ]
        for b in range(depth):
            ours, theirs = f"{variable}/stage{s + 1}_block{b}", f"{stage}.1.{b}"
            found += [
                *layer_norm(f"{ours}/norm1", f"{theirs}.norm1"),
                *packed_attention(f"{ours}/attention/attention", f"{theirs}.attn.attn"),
                *layer_norm(f"{ours}/norm2", f"{theirs}.norm2"),
                *_linear_conv(f"{ours}/ffn/fc1", f"{theirs}.ffn.layers.0"),
                *depthwise(f"{ours}/ffn/depthwise", f"{theirs}.ffn.layers.1", bias=True),
                *_linear_conv(f"{ours}/ffn/fc2", f"{theirs}.ffn.layers.4"),
            ]
            if mit.reductions[s] > 1:
                found += [
                    *conv(f"{ours}/attention/reduce", f"{theirs}.attn.sr", bias=True),
                    *layer_norm(f"{ours}/attention/reduce_norm", f"{theirs}.attn.norm"),
                ]
    return found


def _conv_bn(variable: str, tensor: str) -> list[Row]:
    return [
        *conv(f"{variable}/conv", f"{tensor}.conv"),
        *batch_norm(f"{variable}/bn", f"{tensor}.bn"),
    ]


def _linear_conv(variable: str, tensor: str) -> list[Row]:
    """A linear layer of ours that is a 1×1 convolution there."""
    return [
        Row(f"params/{variable}/kernel", f"{tensor}.weight", "conv_as_linear"),
        Row(f"params/{variable}/bias", f"{tensor}.bias"),
    ]
