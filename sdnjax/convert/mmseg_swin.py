"""mmsegmentation's Swin, whose merged patches have another order of channels."""

from __future__ import annotations

import numpy as np

from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.parts import part
from sdnjax.convert.position import position_indices
from sdnjax.convert.rows import Arrangement, Row, conv, layer_norm, linear
from sdnjax.convert.timm_vit import packed_linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.swin import Swin

IGNORED = ("relative_position_index",)
INDEX = "backbone.stages.{}.blocks.{}.attn.w_msa.relative_position_index"
around = mmseg_checkpoint


def rows(model: EncoderDecoder) -> list[Row]:
    """The backbone of a network."""
    return backbone_rows(part(model, "backbone", Swin))


def constants(model: EncoderDecoder) -> dict[str, np.ndarray]:
    """Of the backbone."""
    return position_indices(part(model, "backbone", Swin), INDEX)


def backbone_rows(swin: Swin, variable: str = "backbone", tensor: str = "backbone.") -> list[Row]:
    """`SwinTransformer` with the norms of its four stages; `tensor` is a prefix with its dot."""
    found = [
        *conv(f"{variable}/patch_embedding/conv", f"{tensor}patch_embed.projection", bias=True),
        *layer_norm(f"{variable}/embedding_norm", f"{tensor}patch_embed.norm"),
    ]
    for s, depth in enumerate(swin.depths):
        stage = f"{tensor}stages.{s}"
        found += layer_norm(f"{variable}/norm{s + 1}", f"{tensor}norm{s}")
        for b in range(depth):
            ours, theirs = f"{variable}/stage{s + 1}_block{b}", f"{stage}.blocks.{b}"
            attention = f"{theirs}.attn.w_msa"
            found += [
                *layer_norm(f"{ours}/norm1", f"{theirs}.norm1"),
                Row(
                    f"params/{ours}/attention/relative_position_bias",
                    f"{attention}.relative_position_bias_table",
                ),
                *packed_linear(f"{ours}/attention/attention", f"{attention}.qkv"),
                *linear(f"{ours}/attention/attention/out", f"{attention}.proj"),
                *layer_norm(f"{ours}/norm2", f"{theirs}.norm2"),
                *linear(f"{ours}/mlp/fc1", f"{theirs}.ffn.layers.0.0"),
                *linear(f"{ours}/mlp/fc2", f"{theirs}.ffn.layers.1"),
            ]
        if s < 3:
            merge, theirs = f"params/{variable}/merge{s + 1}", f"{stage}.downsample"
            found += [
                Row(f"{merge}/norm/scale", f"{theirs}.norm.weight", MERGED),
                Row(f"{merge}/norm/bias", f"{theirs}.norm.bias", MERGED),
                Row(f"{merge}/reduction/kernel", f"{theirs}.reduction.weight", MERGED_KERNEL),
            ]
    return found


def _by_columns(x: np.ndarray) -> np.ndarray:
    """`[C·row·column, …]`, mmsegmentation's order, to ours, `[column·row·C, …]`."""
    return x.reshape(-1, 2, 2, *x.shape[1:]).swapaxes(0, 2).reshape(x.shape)


def _by_channels(x: np.ndarray) -> np.ndarray:
    return x.reshape(2, 2, -1, *x.shape[1:]).swapaxes(0, 2).reshape(x.shape)


MERGED = Arrangement(_by_columns, _by_channels)
MERGED_KERNEL = Arrangement(lambda x: _by_columns(x.T), lambda x: _by_channels(x).T)
