"""Hugging Face's `ViTModel` (prefix "vit." in classifiers); norms of 1e-12, bicubic positions."""

from __future__ import annotations

from sdnjax.convert.position import position_row
from sdnjax.convert.rows import Row, conv, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT

IGNORED = ("pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias")


def rows(model: EncoderDecoder) -> list[Row]:
    """The backbone of a network; the decoder is not in the file."""
    return backbone_rows(model.backbone)


def backbone_rows(vit: ViT, variable: str = "backbone", tensor: str = "") -> list[Row]:
    """`tensor` is a prefix with its dot: "" (`ViTModel`) or "vit."."""
    embeddings = f"{tensor}embeddings"
    position = f"{embeddings}.position_embeddings"
    found = [
        Row(f"params/{variable}/class_token", f"{embeddings}.cls_token"),
        position_row(vit, f"params/{variable}/position_embedding", position),
        *conv(
            f"{variable}/patch_embedding/conv",
            f"{embeddings}.patch_embeddings.projection",
            vit.patch_bias,
        ),
        *layer_norm(f"{variable}/norm", f"{tensor}layernorm"),
    ]
    for i in range(vit.depth):
        ours, theirs = f"{variable}/block{i}", f"{tensor}encoder.layer.{i}"
        found += [
            *layer_norm(f"{ours}/norm1", f"{theirs}.layernorm_before"),
            *linear(f"{ours}/attention/query", f"{theirs}.attention.attention.query"),
            *linear(f"{ours}/attention/key", f"{theirs}.attention.attention.key"),
            *linear(f"{ours}/attention/value", f"{theirs}.attention.attention.value"),
            *linear(f"{ours}/attention/out", f"{theirs}.attention.output.dense"),
            *layer_norm(f"{ours}/norm2", f"{theirs}.layernorm_after"),
            *linear(f"{ours}/mlp/fc1", f"{theirs}.intermediate.dense"),
            *linear(f"{ours}/mlp/fc2", f"{theirs}.output.dense"),
        ]
    return found
