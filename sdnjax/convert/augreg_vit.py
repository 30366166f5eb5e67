"""AugReg's `.npz` files ("How to train your ViT", Steiner et al., 2021): Flax's own layout.

Kernels of the attention have the heads as an axis of their own. The networks that were made of
them resize their positions bilinearly; see `ViT.position_resize`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sdnjax.convert.parts import part
from sdnjax.convert.position import adapt_positions
from sdnjax.convert.rows import Arrangement, Row
from sdnjax.models import EncoderDecoder
from sdnjax.models.backbones.vit import ViT

IGNORED = ("head/kernel", "head/bias", "pre_logits/kernel", "pre_logits/bias")

POSITION = "Transformer/posembed_input/pos_embedding"


def settings(names: Collection[str]) -> dict[str, Any]:
    """Of the network that the weights are for."""
    del names
    return {"like": "augreg"}


def adapt(model: EncoderDecoder, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Positions of another image size."""
    return adapt_positions(part(model, "backbone", ViT), state, POSITION)


def rows(model: EncoderDecoder) -> list[Row]:
    """The backbone; the decoder is not in the file."""
    vit, backbone = part(model, "backbone", ViT), "params/backbone"

    def with_heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:-1], vit.heads, -1)

    into = Arrangement(lambda x: x.reshape(x.shape[0], -1), with_heads)
    bias = Arrangement(np.ravel, with_heads)
    out = Arrangement(
        lambda x: x.reshape(-1, x.shape[-1]), lambda x: x.reshape(vit.heads, -1, x.shape[-1])
    )
    found = [
        Row(f"{backbone}/class_token", "cls"),
        Row(f"{backbone}/position_embedding", POSITION),
        *_rows(f"{backbone}/norm", "Transformer/encoder_norm", scale="same"),
    ]
    patch = _rows(f"{backbone}/patch_embedding/conv", "embedding", kernel="same")
    found += patch if vit.patch_bias else patch[:1]
    for i in range(vit.depth):
        ours, theirs = f"{backbone}/block{i}", f"Transformer/encoderblock_{i}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        found += [
            *_rows(f"{ours}/norm1", f"{theirs}/LayerNorm_0", scale="same"),
            *_rows(f"{ours}/attention/out", f"{attention}/out", kernel=out),
            *_rows(f"{ours}/norm2", f"{theirs}/LayerNorm_2", scale="same"),
            *_rows(f"{ours}/mlp/fc1", f"{theirs}/MlpBlock_3/Dense_0", kernel="same"),
            *_rows(f"{ours}/mlp/fc2", f"{theirs}/MlpBlock_3/Dense_1", kernel="same"),
        ]
        for name in ("query", "key", "value"):
            found += _rows(
                f"{ours}/attention/{name}", f"{attention}/{name}", kernel=into, bias=bias
            )
    return found


def _rows(
    ours: str, theirs: str, *, bias: str | Arrangement = "same", **weight: str | Arrangement
) -> list[Row]:
    """A leaf "scale" or "kernel" with its arrangement, and the bias."""
    return [
        Row(f"{ours}/{name}", f"{theirs}/{name}", arrangement)
        for name, arrangement in {**weight, "bias": bias}.items()
    ]
