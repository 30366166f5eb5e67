"""HRNetV2 (Wang et al., 2020) and HRNet2x: branches of several resolutions exchange features."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.backbones.resnet import BasicBlock, Bottleneck
from sdnjax.models.layers import BatchNorm, ConvBNReLU, Dtype, conv
from sdnjax.ops import resize_bilinear


class ExchangeModule(nn.Module):
    """Every branch is refined by basic blocks, then each one receives from all the others.

    A finer branch gets a coarser one by a 1×1 convolution and bilinear upsampling, a coarser
    branch a finer one by 3×3 convolutions of stride 2. `n` maps in, `n` maps of the same
    shapes out.

    Attributes:
      blocks: in a row, of each branch.
      bottleneck: the blocks are bottlenecks of a quarter of the branch's width instead.
    """

    blocks: int = 4
    bottleneck: bool = False
    align_corners: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, branches: Sequence[jax.Array], *, train: bool) -> list[jax.Array]:
        refined = []
        for i, x in enumerate(branches, start=1):
            for b in range(self.blocks):
                kind = Bottleneck if self.bottleneck else BasicBlock
                width = x.shape[-1] // kind.expansion
                x = kind(width, 1, 1, self.dtype, name=f"branch{i}_{b}")(x, train=train)
            refined.append(x)
        return [self._fuse(i, refined, train) for i in range(len(refined))]

    def _fuse(self, i: int, branches: Sequence[jax.Array], train: bool) -> jax.Array:
        grid, width = branches[i].shape[1:3], branches[i].shape[-1]
        terms = []
        for j, x in enumerate(branches):
            name = f"fuse{j + 1}to{i + 1}"
            if j > i:
                x = self._conv_bn(x, width, 1, name, train)
                if not self.align_corners:  # mmseg goes by the exact multiple, which may overshoot
                    factor = 2 ** (j - i)
                    x = resize_bilinear(x, (factor * x.shape[1], factor * x.shape[2]))
                x = resize_bilinear(x, grid, align_corners=self.align_corners)
            for k in range(i - j):
                last = k == i - j - 1
                x = self._conv_bn(x, width if last else x.shape[-1], 3, f"{name}_{k}", train)
                x = x if last else nn.relu(x)
            terms.append(x)
        return nn.relu(functools.reduce(jnp.add, terms))

    def _conv_bn(self, x: jax.Array, width: int, size: int, name: str, train: bool) -> jax.Array:
        stride = 1 if size == 1 else 2
        x = conv(width, size, stride=stride, dtype=self.dtype, name=f"{name}_conv")(x)
        return BatchNorm(name=f"{name}_bn")(x, train=train)


class HRNet(nn.Module):
    """`[B, H, W, 3]` → four maps at strides 4, 8, 16, 32 of W, 2W, 4W, 8W channels.

    Attributes:
      width: W, 18 or 48.
      modules: exchange modules while there are two, three and four branches.
      blocks: residual blocks in a row, of the first stage and of each branch of a module.
        HRNetV2-W18-small is `modules=(1, 3, 2), blocks=2`.
      align_corners: of the upsampling between branches. False is mmseg's network, True the
        authors' of HRNet-OCR; at sizes that 32 does not divide they also differ in that
        mmseg's resizes twice.
    """

    width: int
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    align_corners: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        def layer(features: int, stride: int, name: str) -> ConvBNReLU:
            return ConvBNReLU(features, 3, stride=stride, dtype=self.dtype, name=name)

        x = x.astype(self.dtype)
        x = layer(64, 2, "stem1")(x, train=train)
        x = layer(64, 2, "stem2")(x, train=train)
        for b in range(self.blocks):
            x = Bottleneck(64, 1, 1, self.dtype, name=f"layer1_{b}")(x, train=train)

        branches = [layer(self.width, 1, "transition1")(x, train=train)]
        for s, modules in enumerate(self.modules, start=2):
            coarsest = x if s == 2 else branches[-1]
            new = layer(self.width * 2 ** (s - 1), 2, f"transition{s}")
            branches.append(new(coarsest, train=train))
            for m in range(modules):
                module = ExchangeModule(
                    self.blocks,
                    align_corners=self.align_corners,
                    dtype=self.dtype,
                    name=f"stage{s}_{m}",
                )
                branches = module(branches, train=train)
        return tuple(branches)


class HRNet2x(nn.Module):
    """`[B, H, W, 3]` → five maps at strides 2, 4, 8, 16, 32 of W, 2W, 4W, 8W, 16W channels.

    The backbone of SegFix (Yuan et al., 2020, openseg's `hrnet2x20`): HRNet with one branch more,
    finer than the others, whose first stage has two branches of bottlenecks.

    Attributes:
      width: W, 20.
      modules: exchange modules while there are two, three, four and five branches.
      blocks, align_corners: as in `HRNet`.
    """

    width: int = 20
    modules: tuple[int, int, int, int] = (1, 1, 4, 3)
    blocks: int = 4
    align_corners: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        def layer(x: jax.Array, features: int, stride: int, name: str) -> jax.Array:
            made = ConvBNReLU(features, 3, stride=stride, dtype=self.dtype, name=name)
            return made(x, train=train)

        x = layer(x.astype(self.dtype), 64, 2, "stem1")
        branches = [layer(x, 128, 1, "transition1_1"), layer(x, 256, 2, "transition1_2")]
        for s, modules in enumerate(self.modules, start=1):
            if s > 1:
                coarsest = branches[-1]
                if s == 2:  # from the bottlenecks' widths to W and 2W
                    branches = [
                        layer(branch, self.width * 2**i, 1, f"transition2_{i + 1}")
                        for i, branch in enumerate(branches)
                    ]
                name = f"transition{s}_{s + 1}"
                branches.append(layer(coarsest, self.width * 2**s, 2, name))
            for m in range(modules):
                module = ExchangeModule(
                    self.blocks, s == 1, self.align_corners, self.dtype, name=f"stage{s}_{m}"
                )
                branches = module(branches, train=train)
        return tuple(branches)
