"""Hugging Face's ResNets into the backbone of a network (stem="v1"); the classifier is left."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.models.backbones.resnet import STAGE_BLOCKS, ResNet
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked", "classifier.1.weight", "classifier.1.bias")


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"stem": "v1"}


def rows(model: EncoderDecoder) -> list[Row]:
    depth = part(model, "backbone", ResNet).depth
    rows = _layer("stem1/conv", "stem1/bn", "embedder.embedder")
    convs = 2 if depth < 50 else 3
    for stage, blocks in enumerate(STAGE_BLOCKS[depth]):
        for b in range(blocks):
            ours, theirs = f"layer{stage + 1}_{b}", f"encoder.stages.{stage}.layers.{b}"
            for i in range(convs):
                rows += _layer(f"{ours}/conv{i + 1}", f"{ours}/bn{i + 1}", f"{theirs}.layer.{i}")
            if b == 0 and (stage > 0 or convs == 3):
                pair = f"{ours}/downsample_conv", f"{ours}/downsample_bn"
                rows += _layer(*pair, f"{theirs}.shortcut")
    return rows


def _layer(conv_path: str, norm_path: str, prefix: str) -> list[Row]:
    return [
        *conv(f"backbone/{conv_path}", f"{prefix}.convolution"),
        *batch_norm(f"backbone/{norm_path}", f"{prefix}.normalization"),
    ]
