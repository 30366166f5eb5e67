"""Backbone, neck, decoder, context, classifier, refinement: how networks are put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.inputs import check_inputs, inputs_of_parts, select_inputs
from sdnjax.models.layers import stage_outputs
from sdnjax.ops import resize_bilinear


class EncoderDecoder(nn.Module):
    """`images [B, H, W, 3]` → dict of named outputs.

    The parts are called in this order:

        backbone   (images, train=…) → stages
        neck       (stages, train=…) → stages, those that the decoder reads
        decoder    (stages, train=…) → features [B, h, w, C]
        context    (features, train=…) → features
        classifier (features, train=…) → scores [B, h, w, K]
        refine     (scores, train=…) → scores
        edge       (features, train=…) → edge scores [B, h, w, 1], of what the classifier reads

    and the scores are resized bilinearly to the image. The network takes the extra inputs that
    neck, context and refine name in an attribute `inputs` of their own (see
    `sdnjax.models.inputs`) and passes each of them what it names, by keyword.

    Outputs: `logits` and, where there is an auxiliary head, `auxiliary` are `[B, H, W, K]` in
    float32, and so is `edge [B, H, W, 1]` of an edge head; `scores` are what the logits are
    resized from. For inspection there are `stage1…4`
    (of the backbone), `neck1…` (the stages that the neck changed), `features` (what the
    classifier reads), `before_context` and `context` (what the context took and returned),
    `decoder` (the classifier's scores), `refined` (those after refinement), and whatever else the
    decoder, context or refine names.

    Attributes:
      backbone: returns a tuple of feature maps.
      classifier: `Classifier`, or a module of its kind.
      decoder: receives the map of one stage where `decoder_stages` names one, else a tuple.
        It returns features, or a dict of `features` and other outputs, among which
        `auxiliary` scores are resized as the network's own and are there in evaluation too.
        None: the one stage is the features.
      neck, context, refine: None leaves the step out. Context and refine may return a dict
        of `features` or `scores` and other outputs.
      auxiliary: a complete head on the raw stage `auxiliary_stage`, `(stage, train=…) →
        scores`, or None. It runs in training and while parameters are made.
      edge: says where edges are, or None. It runs in training and while parameters are made.
      decoder_stages: indices (from 0) of the stages that the decoder reads.
      align_corners: how scores are resized to the image.
      multiple: the backbone fills images up to multiples of this many pixels, below and to the
        right, and what the scores say of the filling is cut off (the authors' Segmenter). With 1
        the scores are the image's (elsewhere, and in mmsegmentation's Segmenter, whose scores of
        such an image are a little shifted).

    Raises:
      InputError: an extra input that is missing, or that no part asks for.
    """

    backbone: nn.Module
    classifier: nn.Module
    decoder: nn.Module | None = None
    neck: nn.Module | None = None
    context: nn.Module | None = None
    refine: nn.Module | None = None
    auxiliary: nn.Module | None = None
    edge: nn.Module | None = None
    decoder_stages: tuple[int, ...] = (3,)
    auxiliary_stage: int = 2
    align_corners: bool = False
    multiple: int = 1

    @property
    def logits_from(self) -> str:
        """The output that is resized to the image, and to nothing else."""
        return "scores" if self.multiple == 1 else "logits"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the extra inputs that the parts ask for."""
        return inputs_of_parts(self.neck, self.context, self.refine)

    @property
    def has_auxiliary_scores(self) -> bool:
        """Whether the outputs of training hold `auxiliary`."""
        return self.auxiliary is not None or getattr(self.decoder, "has_auxiliary_scores", False)

    @property
    def has_edge_scores(self) -> bool:
        """Whether the outputs of training hold `edge`."""
        return self.edge is not None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool, **extras: Any) -> dict[str, Any]:
        check_inputs(self, extras)
        _, h, w, _ = images.shape
        stages = self.backbone(images, train=train)
        outputs: dict[str, Any] = stage_outputs(stages, "stage")

        read = tuple(stages[i] for i in self.decoder_stages)
        if self.neck is not None:
            read = self.neck(read, train=train, **select_inputs(self.neck, extras))
            outputs |= {f"neck{i + 1}": x for i, x in zip(self.decoder_stages, read, strict=True)}
        features = read[0] if len(read) == 1 else read
        if self.decoder is not None:
            decoded = self.decoder(features, train=train)
            features, named = _main_and_others(self.decoder, decoded, "features")
            outputs |= named
        elif len(read) > 1:
            raise InputError(f"without a decoder one stage is read, not {self.decoder_stages}")
        if self.context is not None:
            inputs = select_inputs(self.context, extras)
            before, changed = features, self.context(features, train=train, **inputs)
            features, named = _main_and_others(self.context, changed, "features")
            outputs |= {"before_context": before, "context": features, **named}
        outputs["features"] = features

        scores = outputs["decoder"] = self.classifier(features, train=train)
        if self.refine is not None:
            refined = self.refine(scores, train=train, **select_inputs(self.refine, extras))
            scores, named = _main_and_others(self.refine, refined, "scores")
            outputs |= {"refined": scores, **named}
        # Their losses are for training alone, but their parameters must be made.
        if train or self.is_initializing():
            if self.auxiliary is not None:
                stage = stages[self.auxiliary_stage]
                outputs["auxiliary"] = self.auxiliary(stage, train=train)
            if self.edge is not None:
                outputs["edge"] = self.edge(features, train=train)

        def resized(scores: jax.Array) -> jax.Array:
            filled = (h + -h % self.multiple, w + -w % self.multiple)
            whole = resize_bilinear(scores, filled, align_corners=self.align_corners)
            return whole if self.multiple == 1 else whole[:, :h, :w]

        outputs["scores"] = scores
        outputs["logits"] = resized(scores)
        for name in ("auxiliary", "edge"):
            if name in outputs:
                outputs[name] = resized(outputs[name])
        return outputs


def _main_and_others(
    part: nn.Module, output: jax.Array | Mapping[str, Any], main: str
) -> tuple[jax.Array, dict[str, Any]]:
    """A part's result and what it names besides."""
    if not isinstance(output, Mapping):
        return output, {}
    if main not in output:
        name = type(part).__name__
        raise InputError(f"{name} returned a dict without {main!r}: it has {', '.join(output)}")
    others = dict(output)
    return others.pop(main), others
