"""The blocks that backbones repeat: what a step may compute again instead of keeping."""

from __future__ import annotations

from flax import linen as nn

from sdnjax.models.backbones.efficientnet_lite import InvertedBottleneck
from sdnjax.models.backbones.mit import MixBlock
from sdnjax.models.backbones.resnet import BasicBlock, Bottleneck
from sdnjax.models.backbones.swin import SwinBlock
from sdnjax.models.transformer import TransformerBlock

BLOCKS = (BasicBlock, Bottleneck, InvertedBottleneck, MixBlock, SwinBlock, TransformerBlock)


def is_block(module: nn.Module) -> bool:
    """Whether it is a residual or transformer block."""
    return isinstance(module, BLOCKS)
