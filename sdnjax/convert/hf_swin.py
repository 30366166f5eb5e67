"""Hugging Face's Swin by the names of its files: `SwinForImageClassification`, MaskFormer's."""

from __future__ import annotations

from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, conv, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.swin import Swin

IGNORED = (
    "relative_position_index",
    "classifier.weight",
    "classifier.bias",
    # of the map after the last stage, beside the stages' own norms
    "layernorm.weight",
    "layernorm.bias",
)


def rows(model: EncoderDecoder) -> list[Row]:
    """The backbone; the norms of its stages (`backbone/norm`) and the decoder are not there."""
    return backbone_rows(part(model, "backbone", Swin))


def backbone_rows(swin: Swin, variable: str = "backbone", tensor: str = "swin.") -> list[Row]:
    """`tensor` is a prefix with its dot."""
    found = [
        *conv(
            f"{variable}/patch_embedding/conv",
            f"{tensor}embeddings.patch_embeddings.projection",
            bias=True,
        ),
        *layer_norm(f"{variable}/embedding_norm", f"{tensor}embeddings.norm"),
    ]
    for s, depth in enumerate(swin.depths):
        stage = f"{tensor}encoder.layers.{s}"
        for b in range(depth):
            ours, theirs = f"{variable}/stage{s + 1}_block{b}", f"{stage}.blocks.{b}"
            attention = f"{theirs}.attention.self"
            found += [
                *layer_norm(f"{ours}/norm1", f"{theirs}.layernorm_before"),
                Row(
                    f"params/{ours}/attention/relative_position_bias",
                    f"{attention}.relative_position_bias_table",
                ),
                *linear(f"{ours}/attention/attention/query", f"{attention}.query"),
                *linear(f"{ours}/attention/attention/key", f"{attention}.key"),
                *linear(f"{ours}/attention/attention/value", f"{attention}.value"),
                *linear(f"{ours}/attention/attention/out", f"{theirs}.attention.output.dense"),
                *layer_norm(f"{ours}/norm2", f"{theirs}.layernorm_after"),
                *linear(f"{ours}/mlp/fc1", f"{theirs}.intermediate.dense"),
                *linear(f"{ours}/mlp/fc2", f"{theirs}.output.dense"),
            ]
        if s < 3:
            merge = f"{variable}/merge{s + 1}"
            found += [
                *layer_norm(f"{merge}/norm", f"{stage}.downsample.norm"),
                *linear(f"{merge}/reduction", f"{stage}.downsample.reduction", bias=False),
            ]
    return found
