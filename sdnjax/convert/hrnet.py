"""HRNetV2 pretrained on ImageNet into the backbone of a network; its classifier is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.models.backbones.hrnet import HRNet
from sdnjax.models.encoder_decoder import EncoderDecoder

IGNORED = (".num_batches_tracked",)
CLASSIFICATION = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


def rows(model: EncoderDecoder) -> list[Row]:
    return hrnet(part(model, "backbone", HRNet), "backbone")


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Leaves out what turns the four branches into a classification."""
    del model
    kept = {k: v for k, v in state.items() if not k.startswith(CLASSIFICATION)}
    left = len(state) - len(kept)
    return kept, [f"left: {left} tensors of the classifier"] if left else []


def hrnet(model: HRNet, variable: str, prefix: str = "") -> list[Row]:
    """Rows of the backbone at the path `variable`; `prefix` ends with a dot or is empty.

    The official names, which mmseg kept.
    """
    rows: list[Row] = []

    def add(ours: str, theirs: str) -> None:
        """A convolution with batch norm: there entries 0 and 1 of a sequence."""
        rows.extend(conv(f"{variable}/{ours}conv", f"{prefix}{theirs}.0"))
        rows.extend(batch_norm(f"{variable}/{ours}bn", f"{prefix}{theirs}.1"))

    def add_block(ours: str, theirs: str, convs: int) -> None:
        for i in range(1, convs + 1):
            rows.extend(conv(f"{variable}/{ours}/conv{i}", f"{prefix}{theirs}.conv{i}"))
            rows.extend(batch_norm(f"{variable}/{ours}/bn{i}", f"{prefix}{theirs}.bn{i}"))

    for i in (1, 2):
        rows += conv(f"{variable}/stem{i}/conv", f"{prefix}conv{i}")
        rows += batch_norm(f"{variable}/stem{i}/bn", f"{prefix}bn{i}")
    for b in range(model.blocks):
        add_block(f"layer1_{b}", f"layer1.{b}", convs=3)
    add("layer1_0/downsample_", "layer1.0.downsample")

    add("transition1/", "transition1.0")
    for s, modules in enumerate(model.modules, start=2):
        add(f"transition{s}/", f"transition{s - 1}.{s - 1}.0")
        for m in range(modules):
            ours, theirs = f"stage{s}_{m}", f"stage{s}.{m}"
            for i in range(s):
                for b in range(model.blocks):
                    add_block(f"{ours}/branch{i + 1}_{b}", f"{theirs}.branches.{i}.{b}", convs=2)
                for j in range(s):
                    fuse, there = f"{ours}/fuse{j + 1}to{i + 1}_", f"{theirs}.fuse_layers.{i}.{j}"
                    if j > i:
                        add(fuse, there)
                    for k in range(i - j):
                        add(f"{fuse}{k}_", f"{there}.{k}")
    return rows
