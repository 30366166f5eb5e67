"""Names of ResNets: torchvision's, which mmseg kept for everything but its stem."""

from __future__ import annotations

from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.models.backbones.resnet import ResNet


def resnet(model: ResNet, variable: str, prefix: str = "") -> list[Row]:
    """Rows of the backbone at the path `variable`; `prefix` ends with a dot or is empty."""
    rows = []
    if model.stem == "v1c":
        for i in range(3):
            rows += conv(f"{variable}/stem{i + 1}/conv", f"{prefix}stem.{3 * i}")
            rows += batch_norm(f"{variable}/stem{i + 1}/bn", f"{prefix}stem.{3 * i + 1}")
    else:
        rows += conv(f"{variable}/stem1/conv", f"{prefix}conv1")
        rows += batch_norm(f"{variable}/stem1/bn", f"{prefix}bn1")
    convs = 2 if model.depth < 50 else 3
    for stage, blocks in enumerate(model.stage_blocks, start=1):
        for b in range(blocks):
            ours, theirs = f"{variable}/layer{stage}_{b}", f"{prefix}layer{stage}.{b}"
            for i in range(1, convs + 1):
                rows += conv(f"{ours}/conv{i}", f"{theirs}.conv{i}")
                rows += batch_norm(f"{ours}/bn{i}", f"{theirs}.bn{i}")
            if b == 0 and (stage > 1 or convs == 3):
                rows += conv(f"{ours}/downsample_conv", f"{theirs}.downsample.0")
                rows += batch_norm(f"{ours}/downsample_bn", f"{theirs}.downsample.1")
    return rows
