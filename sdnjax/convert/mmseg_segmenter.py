"""mmsegmentation's Segmenter: `SegmenterMaskTransformerHead`, or `FCNHead` with no convolution."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from flax import linen as nn

from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.parts import part
from sdnjax.convert.position import adapt_positions
from sdnjax.convert.rows import Row, conv, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT
from sdnjax.models.decoders.segmenter import MaskTransformer

IGNORED: tuple[str, ...] = ()
around = mmseg_checkpoint
# The mask transformer is a classifier whose other parts do not depend on the classes.
CLASSIFIERS = ("classifier/seg/", "classifier/class_embedding", "classifier/mask_norm")


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "mmseg"}


def rows(model: EncoderDecoder) -> list[Row]:
    """The whole network."""
    return [
        *backbone_rows(part(model, "backbone", ViT)),
        *_classifier_rows(part(model, "classifier", nn.Module), "classifier", "decode_head"),
    ]


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Positions of another image size."""
    return adapt_positions(part(model, "backbone", ViT), state, "backbone.pos_embed")


def backbone_rows(vit: ViT, variable: str = "backbone", tensor: str = "backbone") -> list[Row]:
    """`VisionTransformer` with `final_norm`."""
    return [
        Row(f"params/{variable}/class_token", f"{tensor}.cls_token"),
        Row(f"params/{variable}/position_embedding", f"{tensor}.pos_embed"),
        *conv(
            f"{variable}/patch_embedding/conv", f"{tensor}.patch_embed.projection", vit.patch_bias
        ),
        *_block_rows(vit.depth, variable, tensor),
        *layer_norm(f"{variable}/norm", f"{tensor}.ln1"),
    ]


def _classifier_rows(classifier: nn.Module, variable: str, tensor: str) -> list[Row]:
    if not isinstance(classifier, MaskTransformer):
        return conv(f"{variable}/seg", f"{tensor}.conv_seg", bias=True)
    return [
        *linear(f"{variable}/input_projection", f"{tensor}.dec_proj"),
        Row(f"params/{variable}/class_embedding", f"{tensor}.cls_emb"),
        *_block_rows(classifier.depth, variable, tensor),
        *layer_norm(f"{variable}/norm", f"{tensor}.decoder_norm"),
        *linear(f"{variable}/patch_projection", f"{tensor}.patch_proj", bias=False),
        *linear(f"{variable}/class_projection", f"{tensor}.classes_proj", bias=False),
        *layer_norm(f"{variable}/mask_norm", f"{tensor}.mask_norm"),
    ]


def _block_rows(depth: int, variable: str, tensor: str) -> list[Row]:
    found = []
    for i in range(depth):
        ours, theirs = f"{variable}/block{i}", f"{tensor}.layers.{i}"
        found += [
            *layer_norm(f"{ours}/norm1", f"{theirs}.ln1"),
            *packed_attention(f"{ours}/attention", f"{theirs}.attn.attn"),
            *layer_norm(f"{ours}/norm2", f"{theirs}.ln2"),
            *linear(f"{ours}/mlp/fc1", f"{theirs}.ffn.layers.0.0"),
            *linear(f"{ours}/mlp/fc2", f"{theirs}.ffn.layers.1"),
        ]
    return found


def packed_attention(variable: str, tensor: str) -> list[Row]:
    """`torch.nn.MultiheadAttention`: query, key and value are thirds of `in_proj_*`."""
    found = linear(f"{variable}/out", f"{tensor}.out_proj")
    for i, name in enumerate(("query", "key", "value")):
        ours = f"params/{variable}/{name}"
        found += [
            Row(f"{ours}/kernel", f"{tensor}.in_proj_weight", "linear", (i, 3)),
            Row(f"{ours}/bias", f"{tensor}.in_proj_bias", "same", (i, 3)),
        ]
    return found
