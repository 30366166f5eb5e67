"""The authors' HRNet-OCR: `ocrnet_hr48` with `align_corners=True`.

Two of its convolutions have a bias before batch norm, which ours have not. It moves into the
running mean, so that the evaluated network is the same; a training step does not see it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sdnjax.convert.hrnet import hrnet
from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.convert.state_dict import as_array
from sdnjax.convert.words import sizes
from sdnjax.errors import InputError
from sdnjax.models.backbones.hrnet import HRNet
from sdnjax.models.decoders.ocr import OCRHead
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked",)

# A convolution with a bias and the batch norm behind it.
BIASED = {"conv3x3_ocr.0": "conv3x3_ocr.1", "aux_head.0": "aux_head.1"}

ATTENTION = {
    "query1": ("object_context_block.f_pixel", 0),
    "query2": ("object_context_block.f_pixel", 2),
    "key1": ("object_context_block.f_object", 0),
    "key2": ("object_context_block.f_object", 2),
    "value": ("object_context_block.f_down", 0),
    "out": ("object_context_block.f_up", 0),
    "bottleneck": ("conv_bn_dropout", 0),
}


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"align_corners": True}


def rows(model: EncoderDecoder) -> list[Row]:
    rows = [
        *hrnet(part(model, "backbone", HRNet), "backbone"),
        *_conv_bn("decoder/auxiliary/conv1", "aux_head.0", "aux_head.1"),
        *conv("decoder/auxiliary/classifier/seg", "aux_head.3", bias=True),
        *_conv_bn("decoder/bottleneck", "conv3x3_ocr.0", "conv3x3_ocr.1"),
        *conv("classifier/seg", "cls_head", bias=True),
    ]
    for ours, (sequence, i) in ATTENTION.items():
        theirs = f"ocr_distri_head.{sequence}"
        rows += _conv_bn(f"decoder/attention/{ours}", f"{theirs}.{i}", f"{theirs}.{i + 1}.0")
    return rows


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Folds the biases and leaves out the weights of the loss, saved in the same dict."""
    del model
    state = {k: v for k, v in state.items() if not k.startswith("loss.")}
    notes = []
    for layer, norm in BIASED.items():
        mean = f"{norm}.running_mean"
        if f"{layer}.bias" in state and mean in state:
            bias = as_array(state.pop(f"{layer}.bias"), f"{layer}.bias")
            theirs = as_array(state[mean], mean)
            if theirs.shape != bias.shape:
                raise InputError(f"{layer}.bias is {sizes(bias.shape)}, {mean} another shape")
            state[mean] = theirs - bias
            notes.append(f"folded: {layer}.bias into {mean}")
    return state, notes


def constants(model: EncoderDecoder) -> dict[str, np.ndarray]:
    """The biases on the way back: zero, since the running means hold them."""
    widths = {
        "conv3x3_ocr.0": part(model, "decoder", OCRHead).channels,
        "aux_head.0": 15 * part(model, "backbone", HRNet).width,
    }
    return {f"{layer}.bias": np.zeros(width, np.float32) for layer, width in widths.items()}


def _conv_bn(variable: str, convolution: str, norm: str) -> list[Row]:
    return conv(f"{variable}/conv", convolution) + batch_norm(f"{variable}/bn", norm)
