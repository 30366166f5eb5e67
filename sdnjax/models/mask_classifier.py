"""Encoder, neck and a decoder that classifies masks instead of pixels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.models.inputs import check_inputs, inputs_of_parts
from sdnjax.models.layers import stage_outputs
from sdnjax.ops import resize_bilinear


class MaskClassifier(nn.Module):
    """`images [B, H, W, 3]` → dict of named outputs (MaskFormer; Cheng et al., 2021).

    `logits [B, H, W, K]` are the semantic scores Σ_q softmax(classes)·sigmoid(masks), without
    "no object", the masks resized to the image before the sigmoid. They are sums of
    probabilities, and their largest is the predicted class. The loss reads `class_logits` and
    `mask_logits` (see `MaskFormerDecoder`). For inspection there are `stage1…4`, `neck1…4` and
    `pixels` (the pixel embeddings). The network takes the extra inputs that its neck names.

    Attributes:
      backbone: `(images, train) → four stages`.
      decoder: `(stages, train) → (class_logits, mask_logits, pixels)`.
      neck: `(stages, train) → stages`, or None.
      frozen_statistics: the backbone normalises with its running statistics while training
        too, and never changes them (mmseg's `norm_eval`); it must have no dropout.
      align_corners: how masks are resized to the image.
    """

    backbone: nn.Module
    decoder: nn.Module
    neck: nn.Module | None = None
    frozen_statistics: bool = False
    align_corners: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the extra inputs that the neck asks for."""
        return inputs_of_parts(self.neck)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool, **extras: Any) -> dict[str, Any]:
        check_inputs(self, extras)
        _, h, w, _ = images.shape
        stages = self.backbone(images, train=train and not self.frozen_statistics)
        outputs: dict[str, Any] = stage_outputs(stages, "stage")
        if self.neck is not None:
            stages = self.neck(stages, train=train, **extras)
            outputs |= stage_outputs(stages, "neck")
        classes, masks, pixels = self.decoder(stages, train=train)
        outputs |= {"class_logits": classes, "mask_logits": masks, "pixels": pixels}

        probabilities = jax.nn.softmax(classes[-1], axis=-1)[..., :-1]
        masks = masks[-1].transpose(0, 2, 3, 1)
        masks = resize_bilinear(masks, (h, w), align_corners=self.align_corners)
        outputs["logits"] = jnp.einsum("bqk,bhwq->bhwk", probabilities, jax.nn.sigmoid(masks))
        return outputs
