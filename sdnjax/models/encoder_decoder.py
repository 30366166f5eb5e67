"""Encoder, neck, decoder: how every network of the library is put together."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from sdnjax.models.layers import stage_outputs
from sdnjax.ops import resize_bilinear


class EncoderDecoder(nn.Module):
    """`images [B, H, W, 3]` → dict of named outputs.

    `logits` and, where there is an auxiliary head, `auxiliary` are `[B, H, W, K]` in
    float32, resized bilinearly to the image. The rest is for those who look inside:
    `stage1…4` (the raw encoder), `neck1…` (what the neck made of the stages it works on)
    and `decoder` (the scores on the decoder's own grid).

    Attributes:
      backbone: `(images, train) → stages`.
      decoder: `(features, train) → scores`; features is one map where `decoder_stages`
        names one stage, else a tuple of them.
      neck: `stages → stages`, or None.
      auxiliary: a head on the raw stage `auxiliary_stage`, or None. It runs in training and
        while parameters are made.
      decoder_stages: indices (from 0) of the stages that the decoder reads.
      align_corners: how scores are resized to the image.
    """

    backbone: nn.Module
    decoder: nn.Module
    neck: nn.Module | None = None
    auxiliary: nn.Module | None = None
    decoder_stages: tuple[int, ...] = (3,)
    auxiliary_stage: int = 2
    align_corners: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> dict[str, Any]:
        _, h, w, _ = images.shape
        stages = self.backbone(images, train=train)
        outputs: dict[str, Any] = stage_outputs(stages, "stage")

        features = tuple(stages[i] for i in self.decoder_stages)
        if self.neck is not None:
            features = self.neck(features)
            outputs |= {
                f"neck{i + 1}": x for i, x in zip(self.decoder_stages, features, strict=True)
            }
        single = len(features) == 1
        scores = self.decoder(features[0] if single else features, train=train)
        outputs["decoder"] = scores
        outputs["logits"] = resize_bilinear(scores, (h, w), align_corners=self.align_corners)

        if self.auxiliary is not None and (train or self.is_initializing()):
            scores = self.auxiliary(stages[self.auxiliary_stage], train=train)
            outputs["auxiliary"] = resize_bilinear(scores, (h, w), align_corners=self.align_corners)
        return outputs
