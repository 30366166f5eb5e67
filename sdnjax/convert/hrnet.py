"""HRNetV2 pretrained on ImageNet into the backbone of a network; its classifier is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sdnjax.convert.parts import part
from sdnjax.convert.rows import Row, batch_norm, conv
from sdnjax.models.backbones.hrnet import HRNet, HRNet2x
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
    names = _Names(variable, prefix)
    rows = names.stem(1) + names.stem(2)
    for b in range(model.blocks):
        rows += names.block(f"layer1_{b}", f"layer1.{b}", convs=3)
    rows += names.conv_bn("layer1_0/downsample_", "layer1.0.downsample")
    rows += names.conv_bn("transition1/", "transition1.0")
    for s, modules in enumerate(model.modules, start=2):
        rows += names.conv_bn(f"transition{s}/", f"transition{s - 1}.{s - 1}.0")
        rows += names.stage(s, modules, branches=s, blocks=model.blocks)
    return rows


def hrnet2x(model: HRNet2x, variable: str, prefix: str = "") -> list[Row]:
    """The same of HRNet2x, by openseg's names."""
    names = _Names(variable, prefix)
    rows = names.stem(1)
    rows += names.conv_bn("transition1_1/", "transition0.0")
    for s, modules in enumerate(model.modules, start=1):
        if s == 2:
            rows += names.conv_bn("transition2_1/", "transition1.0")
            rows += names.conv_bn("transition2_2/", "transition1.1")
        rows += names.conv_bn(f"transition{s}_{s + 1}/", f"transition{s - 1}.{s}.0")
        convs = 3 if s == 1 else 2
        rows += names.stage(s, modules, branches=s + 1, blocks=model.blocks, convs=convs)
    return rows


class _Names(NamedTuple):
    """Where the backbone's variables lie, and what stands before its names there."""

    variable: str
    prefix: str

    def stem(self, i: int) -> list[Row]:
        rows = conv(f"{self.variable}/stem{i}/conv", f"{self.prefix}conv{i}")
        return rows + batch_norm(f"{self.variable}/stem{i}/bn", f"{self.prefix}bn{i}")

    def conv_bn(self, ours: str, theirs: str) -> list[Row]:
        """A convolution with batch norm: there entries 0 and 1 of a sequence."""
        rows = conv(f"{self.variable}/{ours}conv", f"{self.prefix}{theirs}.0")
        return rows + batch_norm(f"{self.variable}/{ours}bn", f"{self.prefix}{theirs}.1")

    def block(self, ours: str, theirs: str, convs: int) -> list[Row]:
        rows: list[Row] = []
        for i in range(1, convs + 1):
            rows += conv(f"{self.variable}/{ours}/conv{i}", f"{self.prefix}{theirs}.conv{i}")
            rows += batch_norm(f"{self.variable}/{ours}/bn{i}", f"{self.prefix}{theirs}.bn{i}")
        return rows

    def stage(
        self, s: int, modules: int, *, branches: int, blocks: int, convs: int = 2
    ) -> list[Row]:
        """Exchange modules of so many branches, of blocks of so many convolutions."""
        rows: list[Row] = []
        for m in range(modules):
            ours, theirs = f"stage{s}_{m}", f"stage{s}.{m}"
            for i in range(branches):
                for b in range(blocks):
                    branch = f"{theirs}.branches.{i}.{b}"
                    rows += self.block(f"{ours}/branch{i + 1}_{b}", branch, convs)
                for j in range(branches):
                    fuse, there = f"{ours}/fuse{j + 1}to{i + 1}_", f"{theirs}.fuse_layers.{i}.{j}"
                    if j > i:
                        rows += self.conv_bn(fuse, there)
                    for k in range(i - j):
                        rows += self.conv_bn(f"{fuse}{k}_", f"{there}.{k}")
        return rows
