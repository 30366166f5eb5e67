"""Hugging Face's `MaskFormerForInstanceSegmentation`, by the names of its files on disk."""

from __future__ import annotations

import numpy as np

from sdnjax.convert import hf_swin
from sdnjax.convert.parts import part
from sdnjax.convert.position import position_indices
from sdnjax.convert.rows import Row, batch_norm, conv, layer_norm, linear
from sdnjax.models.backbones.resnet import STAGE_BLOCKS, ResNet
from sdnjax.models.backbones.swin import Swin
from sdnjax.models.decoders.maskformer import MaskFormerDecoder
from sdnjax.models.mask_classifier import MaskClassifier

IGNORED = (
    "num_batches_tracked",
    "relative_position_index",
    "criterion.empty_weight",
    # Swin's norm of the last map, whose result MaskFormer does not read
    "encoder.model.layernorm.weight",
    "encoder.model.layernorm.bias",
)


def rows(model: MaskClassifier) -> list[Row]:
    """The whole network."""
    encoder = "model.pixel_level_module.encoder"
    decoder = part(model, "decoder", MaskFormerDecoder)
    if isinstance(model.backbone, Swin):
        backbone = hf_swin.backbone_rows(model.backbone, "backbone", f"{encoder}.model.")
        for i in range(4):
            backbone += layer_norm(f"backbone/norm{i + 1}", f"{encoder}.hidden_states_norms.{i}")
        width = 8 * model.backbone.width
    else:
        resnet = part(model, "backbone", ResNet)
        backbone = resnet_rows(resnet, "backbone", f"{encoder}.")
        width = 512 if resnet.depth < 50 else 2048
    return [*backbone, *_decoder_rows(decoder, width != decoder.channels)]


def constants(model: MaskClassifier) -> dict[str, np.ndarray]:
    """What the original stores beside its parameters, and the norm that it does not read."""
    classes = part(model, "decoder", MaskFormerDecoder).num_classes
    found = {"criterion.empty_weight": np.ones(classes + 1, np.float32)}
    found["criterion.empty_weight"][-1] = 0.1
    if isinstance(model.backbone, Swin):
        encoder = "model.pixel_level_module.encoder.model"
        found[f"{encoder}.layernorm.weight"] = np.ones(8 * model.backbone.width, np.float32)
        found[f"{encoder}.layernorm.bias"] = np.zeros(8 * model.backbone.width, np.float32)
        index = "encoder.layers.{}.blocks.{}.attention.self.relative_position_index"
        found |= position_indices(model.backbone, f"{encoder}.{index}")
    return found


def resnet_rows(resnet: ResNet, variable: str = "backbone", tensor: str = "") -> list[Row]:
    """`ResNetModel` and its backbone (7×7 stem); `tensor` is a prefix with its dot."""
    found = _conv_bn(f"{variable}/stem1/conv", f"{variable}/stem1/bn", f"{tensor}embedder.embedder")
    for s, blocks in enumerate(STAGE_BLOCKS[resnet.depth]):
        for b in range(blocks):
            ours, theirs = f"{variable}/layer{s + 1}_{b}", f"{tensor}encoder.stages.{s}.layers.{b}"
            for i in range(2 if resnet.depth < 50 else 3):
                found += _conv_bn(f"{ours}/conv{i + 1}", f"{ours}/bn{i + 1}", f"{theirs}.layer.{i}")
            if b == 0 and (s > 0 or resnet.depth >= 50):
                found += _conv_bn(
                    f"{ours}/downsample_conv", f"{ours}/downsample_bn", f"{theirs}.shortcut"
                )
    return found


def _conv_bn(kernel: str, norm: str, tensor: str) -> list[Row]:
    return [
        *conv(kernel, f"{tensor}.convolution"),
        *batch_norm(norm, f"{tensor}.normalization"),
    ]


def _decoder_rows(decoder: MaskFormerDecoder, projected: bool) -> list[Row]:
    pyramid = "model.pixel_level_module.decoder"
    found = [
        *_conv_norm("out4", f"{pyramid}.fpn.stem"),
        *conv("decoder/pixel_decoder/mask_projection", f"{pyramid}.mask_projection", bias=True),
    ]
    for i in range(3):
        found += _conv_norm(f"lateral{3 - i}", f"{pyramid}.fpn.layers.{i}.proj")
        found += _conv_norm(f"out{3 - i}", f"{pyramid}.fpn.layers.{i}.block")

    transformer = "model.transformer_module"
    found += [
        Row("params/decoder/query_embedding", f"{transformer}.queries_embedder.weight"),
        *layer_norm("decoder/norm", f"{transformer}.decoder.layernorm"),
        *linear("decoder/classifier", "class_predictor"),
    ]
    if projected:
        projection = f"{transformer}.input_projection"
        found += conv("decoder/input_projection", projection, bias=True)
    for i in range(3):
        found += linear(f"decoder/mask_embedding{i + 1}", f"mask_embedder.{i}.0")
    for i in range(decoder.layers):
        ours, theirs = f"decoder/layer{i}", f"{transformer}.decoder.layers.{i}"
        found += [
            *_attention(f"{ours}/self_attention", f"{theirs}.self_attn"),
            *layer_norm(f"{ours}/norm1", f"{theirs}.self_attn_layer_norm"),
            *_attention(f"{ours}/cross_attention", f"{theirs}.encoder_attn"),
            *layer_norm(f"{ours}/norm2", f"{theirs}.encoder_attn_layer_norm"),
            *linear(f"{ours}/fc1", f"{theirs}.fc1"),
            *linear(f"{ours}/fc2", f"{theirs}.fc2"),
            *layer_norm(f"{ours}/norm3", f"{theirs}.final_layer_norm"),
        ]
    return found


def _conv_norm(name: str, tensor: str) -> list[Row]:
    ours = f"decoder/pixel_decoder/{name}"
    return [*conv(f"{ours}/conv", f"{tensor}.0"), *layer_norm(f"{ours}/norm", f"{tensor}.1")]


def _attention(variable: str, tensor: str) -> list[Row]:
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
    return [
        row
        for ours, theirs in names.items()
        for row in linear(f"{variable}/{ours}", f"{tensor}.{theirs}")
    ]
