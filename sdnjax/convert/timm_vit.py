"""timm's vision transformers: a backbone with norms of 1e-6 and a bias in the patch embedding."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sdnjax.convert.parts import part
from sdnjax.convert.position import adapt_positions
from sdnjax.convert.rows import Row, conv, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT

IGNORED = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "timm"}


def rows(model: EncoderDecoder) -> list[Row]:
    """The backbone; the decoder is not in the file."""
    return backbone_rows(part(model, "backbone", ViT))


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Positions of another image size."""
    return adapt_positions(part(model, "backbone", ViT), state, "pos_embed")


def backbone_rows(vit: ViT, variable: str = "backbone", tensor: str = "") -> list[Row]:
    """`tensor` is a prefix with its dot: "encoder." in the official Segmenter."""
    patch = f"{variable}/patch_embedding/conv"
    return [
        Row(f"params/{variable}/class_token", f"{tensor}cls_token"),
        Row(f"params/{variable}/position_embedding", f"{tensor}pos_embed"),
        *conv(patch, f"{tensor}patch_embed.proj", vit.patch_bias),
        *block_rows(vit.depth, variable, tensor),
        *layer_norm(f"{variable}/norm", f"{tensor}norm"),
    ]


def block_rows(depth: int, variable: str, tensor: str) -> list[Row]:
    """The transformer blocks below a prefix."""
    found = []
    for i in range(depth):
        ours, theirs = f"{variable}/block{i}", f"{tensor}blocks.{i}"
        found += [
            *layer_norm(f"{ours}/norm1", f"{theirs}.norm1"),
            *packed_linear(f"{ours}/attention", f"{theirs}.attn.qkv"),
            *linear(f"{ours}/attention/out", f"{theirs}.attn.proj"),
            *layer_norm(f"{ours}/norm2", f"{theirs}.norm2"),
            *linear(f"{ours}/mlp/fc1", f"{theirs}.mlp.fc1"),
            *linear(f"{ours}/mlp/fc2", f"{theirs}.mlp.fc2"),
        ]
    return found


def packed_linear(variable: str, tensor: str) -> list[Row]:
    """One linear layer whose rows are those of query, key and value."""
    found = []
    for i, name in enumerate(("query", "key", "value")):
        leaf = f"params/{variable}/{name}"
        found += [
            Row(f"{leaf}/kernel", f"{tensor}.weight", "linear", (i, 3)),
            Row(f"{leaf}/bias", f"{tensor}.bias", "same", (i, 3)),
        ]
    return found
