"""Hugging Face's `SegformerForSemanticSegmentation`, by the names of its files on disk.

They are the official SegFormer weights: layer norms of 1e-5, a plain linear layer per stage in
the head, 768 channels there from B2 on, and stages concatenated from the last to the first.
(In memory transformers 5 names modules anew; `save_pretrained` writes the names used here.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from sdnjax.convert.parts import part
from sdnjax.convert.rows import Arrangement, Row, batch_norm, conv, depthwise, layer_norm, linear
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.mit import MiT
from sdnjax.models.decoders.segformer import SegFormerHead

# The classifier is that of the encoders trained on ImageNet.
IGNORED = ("num_batches_tracked", "classifier.weight", "classifier.bias")


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "hf"}


def rows(model: EncoderDecoder) -> list[Row]:
    """The whole network."""
    found = backbone_rows(part(model, "backbone", MiT))
    part(model, "decoder", SegFormerHead)
    for i in range(4):
        found += linear(f"decoder/project{i + 1}", f"decode_head.linear_c.{i}.proj")
    return [
        *found,
        Row("params/decoder/fuse/conv/kernel", "decode_head.linear_fuse.weight", LAST_STAGE_FIRST),
        *batch_norm("decoder/fuse/bn", "decode_head.batch_norm"),
        *conv("classifier/seg", "decode_head.classifier", bias=True),
    ]


def _reversed_quarters(x: np.ndarray) -> np.ndarray:
    """`[…, 4·C, O]` with its four groups of input channels in reverse order."""
    *lead, inputs, outputs = x.shape
    return x.reshape(*lead, 4, inputs // 4, outputs)[..., ::-1, :, :].reshape(x.shape)


LAST_STAGE_FIRST = Arrangement(
    lambda x: _reversed_quarters(x.transpose(2, 3, 1, 0)),
    lambda x: _reversed_quarters(x).transpose(3, 2, 0, 1),
)


def backbone_rows(
    mit: MiT, variable: str = "backbone", tensor: str = "segformer.encoder."
) -> list[Row]:
    """`tensor` is a prefix with its dot."""
    found = []
    for s, depth in enumerate(mit.depths):
        embedding, theirs = f"{variable}/embedding{s + 1}", f"{tensor}patch_embeddings.{s}"
        found += [
            *conv(f"{embedding}/conv", f"{theirs}.proj", bias=True),
            *layer_norm(f"{embedding}/norm", f"{theirs}.layer_norm"),
            *layer_norm(f"{variable}/norm{s + 1}", f"{tensor}layer_norm.{s}"),
        ]
        for b in range(depth):
            ours, theirs = f"{variable}/stage{s + 1}_block{b}", f"{tensor}block.{s}.{b}"
            attention = f"{theirs}.attention.self"
            found += [
                *layer_norm(f"{ours}/norm1", f"{theirs}.layer_norm_1"),
                *linear(f"{ours}/attention/attention/query", f"{attention}.query"),
                *linear(f"{ours}/attention/attention/key", f"{attention}.key"),
                *linear(f"{ours}/attention/attention/value", f"{attention}.value"),
                *linear(f"{ours}/attention/attention/out", f"{theirs}.attention.output.dense"),
                *layer_norm(f"{ours}/norm2", f"{theirs}.layer_norm_2"),
                *linear(f"{ours}/ffn/fc1", f"{theirs}.mlp.dense1"),
                *depthwise(f"{ours}/ffn/depthwise", f"{theirs}.mlp.dwconv.dwconv", bias=True),
                *linear(f"{ours}/ffn/fc2", f"{theirs}.mlp.dense2"),
            ]
            if mit.reductions[s] > 1:
                found += [
                    *conv(f"{ours}/attention/reduce", f"{attention}.sr", bias=True),
                    *layer_norm(f"{ours}/attention/reduce_norm", f"{attention}.layer_norm"),
                ]
    return found
