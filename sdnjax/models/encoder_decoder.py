"""Encoder, neck, decoder: how every network of the library is put together."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from sdnjax.models.decoders.ocr import OCRHead
from sdnjax.models.layers import stage_outputs
from sdnjax.ops import resize_bilinear


class EncoderDecoder(nn.Module):
    """`images [B, H, W, 3]` → dict of named outputs.

    `logits` and, where there is an auxiliary head, `auxiliary` are `[B, H, W, K]` in
    float32, resized bilinearly to the image. The rest is for those who look inside:
    `stage1…4` (the raw encoder), `neck1…` (what the neck made of the stages it works on),
    `decoder` (the scores on the decoder's own grid) and whatever else the decoder names.

    Attributes:
      backbone: `(images, train) → stages`.
      decoder: `(features, train) → scores`; features is one map where `decoder_stages`
        names one stage, else a tuple of them. A decoder may return a dict instead: its
        scores as `decoder`, and `auxiliary` scores of its own, which are there in inference
        too.
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

    @property
    def has_auxiliary_scores(self) -> bool:
        """Whether training outputs hold `auxiliary`."""
        return self.auxiliary is not None or isinstance(self.decoder, OCRHead)

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
        decoded = self.decoder(features[0] if single else features, train=train)
        outputs |= decoded if isinstance(decoded, dict) else {"decoder": decoded}
        if self.auxiliary is not None and (train or self.is_initializing()):
            stage = stages[self.auxiliary_stage]
            outputs["auxiliary"] = self.auxiliary(stage, train=train)

        def resized(scores: jax.Array) -> jax.Array:
            return resize_bilinear(scores, (h, w), align_corners=self.align_corners)

        outputs["logits"] = resized(outputs["decoder"])
        if "auxiliary" in outputs:
            outputs["auxiliary"] = resized(outputs["auxiliary"])
        return outputs
