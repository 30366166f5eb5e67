"""The Segmenter as its authors released it: `{"model": …}`, encoder and blocks named as timm's.

Layer norms of 1e-5 everywhere, positions resized bilinearly, a bias in the patch embedding: the
network is built with `like="official"`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from flax import linen as nn

from sdnjax.convert import mmseg_segmenter
from sdnjax.convert.parts import part
from sdnjax.convert.position import adapt_positions
from sdnjax.convert.rows import Row, layer_norm, linear
from sdnjax.convert.timm_vit import backbone_rows, block_rows
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT
from sdnjax.models.decoders.segmenter import MaskTransformer

IGNORED = ("encoder.head.weight", "encoder.head.bias")
CLASSIFIERS = mmseg_segmenter.CLASSIFIERS


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "official"}


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Positions of another image size."""
    return adapt_positions(part(model, "backbone", ViT), state, "encoder.pos_embed")


def rows(model: EncoderDecoder) -> list[Row]:
    """The whole network."""
    encoder = backbone_rows(part(model, "backbone", ViT), tensor="encoder.")
    classifier, ours = part(model, "classifier", nn.Module), "classifier"
    if not isinstance(classifier, MaskTransformer):
        head = "decoder.head"
        return [
            *encoder,
            Row(f"params/{ours}/seg/kernel", f"{head}.weight", "linear_as_conv"),
            Row(f"params/{ours}/seg/bias", f"{head}.bias"),
        ]
    return [
        *encoder,
        *linear(f"{ours}/input_projection", "decoder.proj_dec"),
        Row(f"params/{ours}/class_embedding", "decoder.cls_emb"),
        *block_rows(classifier.depth, ours, "decoder."),
        *layer_norm(f"{ours}/norm", "decoder.decoder_norm"),
        # Bare matrices, multiplied from the right as ours are.
        Row(f"params/{ours}/patch_projection/kernel", "decoder.proj_patch"),
        Row(f"params/{ours}/class_projection/kernel", "decoder.proj_classes"),
        *layer_norm(f"{ours}/mask_norm", "decoder.mask_norm"),
    ]
