"""Hugging Face's `ViTModel` by the names of its files; norms of 1e-12, bicubic positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sdnjax.convert.parts import part
from sdnjax.convert.position import adapt_positions
from sdnjax.convert.rows import Row, conv, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT

IGNORED = ("pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias")


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "hf"}


def rows(model: EncoderDecoder) -> list[Row]:
    """The backbone of a network; the decoder is not in the file."""
    return backbone_rows(part(model, "backbone", ViT))


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Positions of another image size."""
    return adapt_positions(part(model, "backbone", ViT), state, "embeddings.position_embeddings")


def backbone_rows(vit: ViT, variable: str = "backbone") -> list[Row]:
    """`ViTModel`, without its pooler."""
    embeddings = "embeddings"
    found = [
        Row(f"params/{variable}/class_token", f"{embeddings}.cls_token"),
        Row(f"params/{variable}/position_embedding", f"{embeddings}.position_embeddings"),
        *conv(
            f"{variable}/patch_embedding/conv",
            f"{embeddings}.patch_embeddings.projection",
            vit.patch_bias,
        ),
        *layer_norm(f"{variable}/norm", "layernorm"),
    ]
    for i in range(vit.depth):
        ours, theirs = f"{variable}/block{i}", f"encoder.layer.{i}"
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
