"""mmseg's DeepLabV3+ on a ResNet: `deeplabv3plus_r50-d8` and its like."""

from __future__ import annotations

from sdnjax.convert.mmseg_fcn import auxiliary_head, conv_module
from sdnjax.convert.mmseg_meta import mmseg_checkpoint
from sdnjax.convert.parts import part
from sdnjax.convert.resnet import resnet
from sdnjax.convert.rows import Row, batch_norm, conv, depthwise
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.deeplab import DeepLabV3PlusHead
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked",)
around = mmseg_checkpoint


def rows(model: EncoderDecoder) -> list[Row]:
    rows = [
        *resnet(part(model, "backbone", ResNet), "backbone", "backbone."),
        *auxiliary_head(model),
        *conv_module("decoder/aspp/image_pool", "decode_head.image_pool.1"),
        *conv_module("decoder/aspp/bottleneck", "decode_head.bottleneck"),
        *conv_module("decoder/fine", "decode_head.c1_bottleneck"),
        *conv("classifier/seg", "decode_head.conv_seg", bias=True),
    ]
    for i, dilation in enumerate(part(model, "decoder", DeepLabV3PlusHead).dilations):
        layer = conv_module if dilation == 1 else separable
        rows += layer(f"decoder/aspp/rate{i + 1}", f"decode_head.aspp_modules.{i}")
    for i in range(2):
        rows += separable(f"decoder/separable{i + 1}", f"decode_head.sep_bottleneck.{i}")
    return rows


def separable(variable: str, prefix: str) -> list[Row]:
    """mmseg's `DepthwiseSeparableConvModule`, our `SeparableConv`."""
    return [
        *depthwise(f"{variable}/depthwise/conv", f"{prefix}.depthwise_conv.conv"),
        *batch_norm(f"{variable}/depthwise/bn", f"{prefix}.depthwise_conv.bn"),
        *conv_module(f"{variable}/pointwise", f"{prefix}.pointwise_conv"),
    ]
