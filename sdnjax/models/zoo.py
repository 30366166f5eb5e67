"""The networks that have a name, in mmseg's spelling, and the one function that builds them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sdnjax.config import nearest
from sdnjax.errors import InputError
from sdnjax.models.backbones import mit, swin, vit
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.decoders.maskformer import MaskFormerDecoder
from sdnjax.models.decoders.segformer import SegFormerHead
from sdnjax.models.decoders.segmenter import LinearDecoder, MaskDecoder
from sdnjax.models.decoders.semantic_fpn import SemanticFPNHead
from sdnjax.models.encoder_decoder import EncoderDecoder
from sdnjax.models.layers import Dtype
from sdnjax.models.mask_classifier import MaskClassifier
from sdnjax.models.necks.sdn import SDN, SDNNeck

Network = EncoderDecoder | MaskClassifier


@dataclasses.dataclass(frozen=True)
class Common:
    """What every named network is given."""

    num_classes: int
    neck: nn.Module | None
    dropout: float
    align_corners: bool
    stem: str
    dtype: Dtype


def _fcn(depth: int, common: Common) -> EncoderDecoder:
    """FCN on a ResNet of output stride 8; both heads reduce their input to a quarter."""
    top = 512 if depth < 50 else 2048

    def head(channels: int, **options: Any) -> FCNHead:
        return FCNHead(
            common.num_classes, channels, dropout=common.dropout, dtype=common.dtype, **options
        )

    return EncoderDecoder(
        backbone=ResNet(depth, stem=common.stem, output_stride=8, dtype=common.dtype),
        neck=common.neck,
        decoder=head(top // 4),
        auxiliary=head(top // 8, convs=1, concat_input=False),
        align_corners=common.align_corners,
    )


def _fpn(depth: int, common: Common) -> EncoderDecoder:
    """SemanticFPN on a plain ResNet; it has no auxiliary head."""
    return EncoderDecoder(
        backbone=ResNet(depth, stem=common.stem, dtype=common.dtype),
        neck=common.neck,
        decoder=SemanticFPNHead(
            common.num_classes,
            dropout=common.dropout,
            align_corners=common.align_corners,
            dtype=common.dtype,
        ),
        decoder_stages=(0, 1, 2, 3),
        align_corners=common.align_corners,
    )


def _segmenter(size: str, common: Common, decoder: str) -> EncoderDecoder:
    """Segmenter as mmseg builds it: dropout only of paths, no bias in the patch embedding."""
    width, depth, heads = vit.SIZES[size]
    side = 40 if size == "l" else 32  # trained at 640² and 512² pixels
    return EncoderDecoder(
        backbone=vit.ViT(
            width,
            depth,
            heads,
            position_grid=(side, side),
            patch_bias=False,
            dtype=common.dtype,
        ),
        neck=common.neck,
        decoder=MaskDecoder(common.num_classes, width, heads, dtype=common.dtype)
        if decoder == "mask"
        else LinearDecoder(common.num_classes, dtype=common.dtype),
        decoder_stages=(0,),
        align_corners=common.align_corners,
    )


def _segformer(size: str, common: Common) -> EncoderDecoder:
    """SegFormer as mmseg builds it: 256 channels in every head."""
    return EncoderDecoder(
        backbone=mit.MiT(*mit.SIZES[size], dtype=common.dtype),
        neck=common.neck,
        decoder=SegFormerHead(
            common.num_classes,
            dropout=common.dropout,
            align_corners=common.align_corners,
            dtype=common.dtype,
        ),
        decoder_stages=(0, 1, 2, 3),
        align_corners=common.align_corners,
    )


def _maskformer(depth_or_size: int | str, common: Common) -> MaskClassifier:
    """MaskFormer on torchvision's ResNet with frozen statistics, as mmseg has it, or on Swin."""
    resnet = isinstance(depth_or_size, int)
    if resnet:
        backbone = ResNet(depth_or_size, stem="v1", dtype=common.dtype)
    else:
        backbone = swin.Swin(*swin.SIZES[depth_or_size], dtype=common.dtype)
    return MaskClassifier(
        backbone=backbone,
        neck=common.neck,
        decoder=MaskFormerDecoder(common.num_classes, dropout=common.dropout, dtype=common.dtype),
        frozen_statistics=resnet,
        align_corners=common.align_corners,
    )


MODELS: dict[str, tuple[Callable[[Any, Common], Network], int | str]] = {
    "fcn_r18-d8": (_fcn, 18),
    "fcn_r34-d8": (_fcn, 34),
    "fcn_r50-d8": (_fcn, 50),
    "fcn_r101-d8": (_fcn, 101),
    "fpn_r18": (_fpn, 18),
    "fpn_r34": (_fpn, 34),
    "fpn_r50": (_fpn, 50),
    "fpn_r101": (_fpn, 101),
    "maskformer_r50-d32": (_maskformer, 50),
    "maskformer_r101-d32": (_maskformer, 101),
    **{f"maskformer_swin-{size}": (_maskformer, size) for size in swin.SIZES},
    **{f"segformer_mit-{size}": (_segformer, size) for size in mit.SIZES},
    **{
        f"segmenter_vit-{size}_{decoder}": (functools.partial(_segmenter, decoder=decoder), size)
        for size in vit.SIZES
        for decoder in ("mask", "linear")
    },
}


def check_name(name: str) -> None:
    """Raises InputError that suggests the nearest name if there is no such network."""
    if name not in MODELS:
        hint = nearest(name, MODELS, most=3) or f"; known: {', '.join(MODELS)}"
        raise InputError(f"unknown model {name!r}{hint}")


def create_model(
    name: str,
    *,
    num_classes: int,
    neck: str | nn.Module | None = None,
    dropout: float = 0.1,
    align_corners: bool = False,
    stem: str = "v1c",
    dtype: Dtype = jnp.float32,
    guidance_channels: int | None = None,
    **sdn_options: Any,
) -> Network:
    """A named segmentation network as a Linen module.

        model = create_model("fcn_r50-d8", num_classes=19, neck="sdn", reduction=4)
        variables = model.init(jax.random.key(0), images, train=False)
        logits = model.apply(variables, images, train=False)["logits"]

    Args:
      name: a key of `MODELS`.
      num_classes: K, the channels of the logits.
      neck: None, "sdn", or a module of your own that maps stages to stages.
      dropout: of channels, before each classifier; throughout the decoder in MaskFormer. The
        Segmenter has none.
      align_corners: for every resizing of scores.
      stem: the ResNet's, "v1c" (mmseg) or "v1" (torchvision); MaskFormer's is always "v1".
      dtype: of the computation; parameters, batch-norm statistics and logits are float32.
      guidance_channels, sdn_options: with neck="sdn", for `SDNNeck` and `SDN`: operator,
        kernel_size, dilation, similarity, boundary, reduction, stop_guidance_gradient.

    Raises:
      InputError: an unknown name (the nearest is suggested) or neck, or SDN options
        without an SDN.
    """
    check_name(name)
    if neck == "sdn":
        unknown = set(sdn_options) - {f.name for f in dataclasses.fields(SDN)}
        if unknown:
            raise InputError(f"unknown SDN option {sorted(unknown)[0]!r}")
        sdn = functools.partial(SDN, dtype=dtype, **sdn_options)
        neck = SDNNeck(sdn, guidance_channels, dtype)
    elif isinstance(neck, str):
        raise InputError(f"unknown neck {neck!r}: use 'sdn', None or a module")
    elif sdn_options or guidance_channels is not None:
        options = sorted(sdn_options) or ["guidance_channels"]
        raise InputError(f"{options[0]} is an option of neck='sdn', which was not asked for")
    build, depth = MODELS[name]
    return build(depth, Common(num_classes, neck, dropout, align_corners, stem, dtype))
