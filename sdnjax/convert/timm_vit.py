"""Vision transformers under timm's names, the official Segmenter's, and AugReg's `.npz` files.

timm: pretrained with norms of 1e-6 and a patch bias. Official Segmenter (`{"model": …}`): norms
of 1e-5, bilinear positions, its encoder and decoder named after timm's blocks. AugReg: the
original Flax files of "How to train your ViT" (Steiner et al., 2021).
"""

from __future__ import annotations

import functools

import numpy as np

from sdnjax.convert.position import position_row
from sdnjax.convert.rows import Layout, Row, conv, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT
from sdnjax.models.decoders.segmenter import MaskDecoder

IGNORED = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias", "fc_norm.weight")
IGNORED_AUGREG = ("head/kernel", "head/bias", "pre_logits/kernel", "pre_logits/bias")


def rows(model: EncoderDecoder) -> list[Row]:
    """timm's backbone for the backbone of a network; the decoder is not in the file."""
    return backbone_rows(model.backbone)


def backbone_rows(vit: ViT, variable: str = "backbone", tensor: str = "") -> list[Row]:
    """`tensor` is a prefix with its dot: "" (timm) or "encoder." (official Segmenter)."""
    patch = f"{variable}/patch_embedding/conv"
    return [
        Row(f"params/{variable}/class_token", f"{tensor}cls_token"),
        position_row(vit, f"params/{variable}/position_embedding", f"{tensor}pos_embed"),
        *conv(patch, f"{tensor}patch_embed.proj", vit.patch_bias),
        *_block_rows(vit.depth, variable, tensor),
        *layer_norm(f"{variable}/norm", f"{tensor}norm"),
    ]


def official_segmenter_rows(model: EncoderDecoder) -> list[Row]:
    """The whole network as the paper's authors released it."""
    decoder, ours = model.decoder, "decoder"
    encoder = backbone_rows(model.backbone, tensor="encoder.")
    if not isinstance(decoder, MaskDecoder):
        head = "decoder.head"
        return [
            *encoder,
            Row(f"params/{ours}/classifier/seg/kernel", f"{head}.weight", "linear_as_conv"),
            Row(f"params/{ours}/classifier/seg/bias", f"{head}.bias"),
        ]
    return [
        *encoder,
        *linear(f"{ours}/input_projection", "decoder.proj_dec"),
        Row(f"params/{ours}/class_embedding", "decoder.cls_emb"),
        *_block_rows(decoder.depth, ours, "decoder."),
        *layer_norm(f"{ours}/norm", "decoder.decoder_norm"),
        # Bare matrices, multiplied from the right as ours are.
        Row(f"params/{ours}/patch_projection/kernel", "decoder.proj_patch"),
        Row(f"params/{ours}/class_projection/kernel", "decoder.proj_classes"),
        *layer_norm(f"{ours}/mask_norm", "decoder.mask_norm"),
    ]


def _block_rows(depth: int, variable: str, tensor: str) -> list[Row]:
    found = []
    for i in range(depth):
        ours, theirs = f"{variable}/block{i}", f"{tensor}blocks.{i}"
        found += [
            *layer_norm(f"{ours}/norm1", f"{theirs}.norm1"),
            *linear(f"{ours}/attention/out", f"{theirs}.attn.proj"),
            *layer_norm(f"{ours}/norm2", f"{theirs}.norm2"),
            *linear(f"{ours}/mlp/fc1", f"{theirs}.mlp.fc1"),
            *linear(f"{ours}/mlp/fc2", f"{theirs}.mlp.fc2"),
        ]
        for j, name in enumerate(("query", "key", "value")):
            leaf = f"params/{ours}/attention/{name}"
            found += [
                Row(f"{leaf}/kernel", f"{theirs}.attn.qkv.weight", "linear", (j, 3)),
                Row(f"{leaf}/bias", f"{theirs}.attn.qkv.bias", "same", (j, 3)),
            ]
    return found


def augreg_rows(vit: ViT, variable: str = "backbone") -> list[Row]:
    """AugReg's `.npz`: Flax's layout, with the heads as an axis of their own."""
    into_heads = functools.partial(_with_heads, heads=vit.heads)
    kernel = Layout(lambda x: x.reshape(x.shape[0], -1), into_heads)
    out = Layout(
        lambda x: x.reshape(-1, x.shape[-1]), lambda x: x.reshape(vit.heads, -1, x.shape[-1])
    )
    bias = Layout(np.ravel, into_heads)

    def leaves(ours: str, theirs: str, names: tuple[str, str], layouts=("same", "same")):
        return [
            Row(f"params/{variable}/{ours}/{name}", f"{theirs}/{name}", layout)
            for name, layout in zip(names, layouts, strict=True)
        ]

    norm, both = ("scale", "bias"), ("kernel", "bias")
    position = "Transformer/posembed_input/pos_embedding"
    found = [
        Row(f"params/{variable}/class_token", "cls"),
        position_row(vit, f"params/{variable}/position_embedding", position),
        *leaves("patch_embedding/conv", "embedding", both),
        *leaves("norm", "Transformer/encoder_norm", norm),
    ]
    for i in range(vit.depth):
        ours, theirs = f"block{i}", f"Transformer/encoderblock_{i}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        found += [
            *leaves(f"{ours}/norm1", f"{theirs}/LayerNorm_0", norm),
            *leaves(f"{ours}/attention/out", f"{attention}/out", both, (out, "same")),
            *leaves(f"{ours}/norm2", f"{theirs}/LayerNorm_2", norm),
            *leaves(f"{ours}/mlp/fc1", f"{theirs}/MlpBlock_3/Dense_0", both),
            *leaves(f"{ours}/mlp/fc2", f"{theirs}/MlpBlock_3/Dense_1", both),
        ]
        for name in ("query", "key", "value"):
            found += leaves(f"{ours}/attention/{name}", f"{attention}/{name}", both, (kernel, bias))
    return found


def _with_heads(x: np.ndarray, heads: int) -> np.ndarray:
    return x.reshape(*x.shape[:-1], heads, -1)
