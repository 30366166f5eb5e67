"""SegFix's network (Yuan et al., ECCV 2020): near a boundary? and where is the object's inside?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.layers import ConvBNReLU, Dtype, at_least_float32, conv, torch_uniform
from sdnjax.ops import resize_bilinear
from sdnjax.ops.offsets import DIRECTIONS, NUM_CODES


class CodeHead(nn.Module):
    """1×1 to 256 channels, batch norm, ReLU, and 1×1 to the classes; no biases."""

    num_classes: int
    channels: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = ConvBNReLU(self.channels, 1, dtype=self.dtype, name="conv")(x, train=train)
        init = torch_uniform
        layer = conv(self.num_classes, 1, dtype=self.dtype, kernel_init=init, name="out")
        return at_least_float32(layer(x))


class SegFixNet(nn.Module):
    """`images [B, H, W, 3]` → dict of named outputs.

    The backbone's branches are resized to the finest and concatenated. On their grid lie the
    logits of the two heads, `boundary [B, h, w, 2]` and `direction [B, h, w, 8]`.

    `logits [B, H, W, 16]` are those of the codes, direction + 8 · boundary, as the two are
    used: the boundary's *probabilities* and the direction's logits are resized to the image.
    `logits[…, d + 8b] = log p(b) + log p(d)`, so that the sums over one of them are the other's
    probabilities. Everything is resized with align_corners, as released.

    Attributes:
      num_classes: of the data set; nothing but the 16 codes makes sense.
      backbone: HRNet or HRNet2x as released; any that returns branches, the finest first.
    """

    num_classes: int
    backbone: nn.Module
    dtype: Dtype = jnp.float32
    align_corners: bool = True
    # What is resized here is not logits, so pictures are not to be read from a coarser output.
    logits_from: str = "logits"
    # No parameter has a place for every class.
    class_axes = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> dict[str, Any]:
        if self.num_classes != NUM_CODES:
            raise InputError(
                f"SegFix's network predicts {NUM_CODES} directions, not {self.num_classes} "
                "classes: data.name must be NAME_segfix, such as cityscapes_segfix, or "
                "segfix_targets(…) of a data set of your own"
            )
        branches = self.backbone(images, train=train)
        grid = branches[0].shape[1:3]
        x = jnp.concatenate(
            [resize_bilinear(b, grid, align_corners=self.align_corners) for b in branches], axis=-1
        )
        boundary = CodeHead(2, dtype=self.dtype, name="boundary")(x, train=train)
        direction = CodeHead(len(DIRECTIONS), dtype=self.dtype, name="direction")(x, train=train)

        def resized(x: jax.Array) -> jax.Array:
            return resize_bilinear(x, images.shape[1:3], align_corners=self.align_corners)

        p = resized(jax.nn.softmax(boundary, axis=-1))
        log_p = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
        log_d = jax.nn.log_softmax(resized(direction), axis=-1)
        codes = log_p[..., :, None] + log_d[..., None, :]
        return {
            "boundary": boundary,
            "direction": direction,
            "logits": codes.reshape(*codes.shape[:3], NUM_CODES),
        }
