"""How the networks of each family are put together, with the settings that mmseg gives them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.backbones import mit, swin, vit
from sdnjax.models.backbones.efficientnet_lite import EfficientNetLite
from sdnjax.models.backbones.hrnet import HRNet, HRNet2x
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.decoders.deeplab import DeepLabV2Classifier, DeepLabV3PlusHead
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.decoders.maskformer import MaskFormerDecoder
from sdnjax.models.decoders.ocr import OCRHead
from sdnjax.models.decoders.segformer import SegFormerHead
from sdnjax.models.decoders.segmenter import MaskTransformer
from sdnjax.models.decoders.semantic_fpn import SemanticFPNHead
from sdnjax.models.difnet import DifNet, DifNetOptions, difnet_resnet
from sdnjax.models.encoder_decoder import EncoderDecoder
from sdnjax.models.layers import Classifier, Dtype, Head
from sdnjax.models.mask_classifier import MaskClassifier
from sdnjax.models.segfix import SegFixNet

ALL_STAGES = (0, 1, 2, 3)

# What the networks of one architecture differ in, by whose they are. "augreg" is the code of "How
# to train your ViT", "hf" Hugging Face's, "official" the authors'.
VIT_LIKE: dict[str, dict[str, Any]] = {
    "mmseg": {"patch_bias": False},
    "timm": {},
    "augreg": {"position_resize": "bilinear"},
    "hf": {"epsilon": 1e-12},
    "official": {"epsilon": 1e-5, "position_resize": "bilinear"},
}
SEGFORMER_LIKE = ("mmseg", "hf")


def likes(name: str) -> tuple[str, ...]:
    """Whose details the network of this name can have; () where they differ in nothing."""
    families = {"segmenter": tuple(VIT_LIKE), "segformer": SEGFORMER_LIKE}
    return next((known for family, known in families.items() if name.startswith(family)), ())


@dataclasses.dataclass(frozen=True)
class Common:
    """What every named network is given."""

    num_classes: int
    neck: nn.Module | None
    context: nn.Module | None
    refine: nn.Module | None
    edge: nn.Module | None
    dropout: float | None
    fpn_channels: tuple[int, int]
    align_corners: bool
    stem: Literal["v1", "v1c"]
    like: str
    dtype: Dtype
    difnet: DifNetOptions = DifNetOptions()
    binary: bool = False

    def dropout_or(self, default: float) -> float:
        """What was asked for, else the network's own."""
        return default if self.dropout is None else self.dropout

    def classifier(self, dropout: float) -> Classifier:
        """The usual one; `dropout` is the network's own."""
        return Classifier(self.num_classes, self.dropout_or(dropout), self.dtype, self.binary)

    def auxiliary(self, channels: int) -> Head:
        """mmseg's auxiliary head: one convolution and a classifier."""
        features = FCNHead(channels, convs=1, concat_input=False, dtype=self.dtype)
        return Head(features, self.classifier(0.1))

    def network(self, **parts: Any) -> EncoderDecoder:
        """The family's own parts with those that were asked for."""
        return EncoderDecoder(
            neck=self.neck,
            context=self.context,
            refine=self.refine,
            edge=self.edge,
            align_corners=self.align_corners,
            **parts,
        )


def fcn(depth: int, common: Common) -> EncoderDecoder:
    """FCN on a ResNet of output stride 8; both heads reduce their input to a quarter."""
    top = 512 if depth < 50 else 2048
    return common.network(
        backbone=ResNet(depth, stem=common.stem, output_stride=8, dtype=common.dtype),
        decoder=FCNHead(top // 4, dtype=common.dtype),
        classifier=common.classifier(0.1),
        auxiliary=common.auxiliary(top // 8),
    )


def fpn(depth: int | str, common: Common) -> EncoderDecoder:
    """SemanticFPN on a plain ResNet of a depth, or on EfficientNet-Lite0; no auxiliary head."""
    pyramid, features = common.fpn_channels
    return common.network(
        backbone=ResNet(depth, stem=common.stem, dtype=common.dtype)
        if isinstance(depth, int)
        else EfficientNetLite(dtype=common.dtype),
        decoder=SemanticFPNHead(pyramid, features, common.align_corners, common.dtype),
        classifier=common.classifier(0.1),
        decoder_stages=ALL_STAGES,
    )


def ocrnet(variant: str, common: Common) -> EncoderDecoder:
    """OCRNet on HRNetV2, mmseg's without dropout; with align_corners, the authors' own."""
    return common.network(
        backbone=_hrnet(variant, common.align_corners, common.dtype),
        decoder=OCRHead(
            common.num_classes,
            dropout=common.dropout_or(0.0),
            align_corners=common.align_corners,
            dtype=common.dtype,
        ),
        classifier=common.classifier(0.0),
        decoder_stages=ALL_STAGES,
    )


def _hrnet(variant: str, align_corners: bool, dtype: Dtype) -> HRNet:
    sizes: dict[str, Any] = {"modules": (1, 3, 2), "blocks": 2} if variant == "hr18s" else {}
    width = 48 if variant == "hr48" else 18
    return HRNet(width, align_corners=align_corners, dtype=dtype, **sizes)


def segfix(variant: str, common: Common) -> SegFixNet:
    """SegFix on HRNetV2 or HRNet2x as its authors have it, everything with align_corners; or on
    the four stages of EfficientNet-Lite0 (a choice).

    Raises: InputError for a neck, context, refinement or edge head, which it has no place for.
    """
    for part in ("neck", "context", "refine", "edge"):
        if getattr(common, part) is not None:
            raise InputError(
                f"{part} does not fit SegFix, which predicts directions, not classes: it belongs "
                "to the network whose labels are moved"
            )
    backbone: nn.Module
    if variant == "efficientnet-lite0":
        backbone = EfficientNetLite(dtype=common.dtype)
    elif variant == "hr2x20":
        backbone = HRNet2x(dtype=common.dtype)
    else:
        backbone = _hrnet(variant, True, common.dtype)
    return SegFixNet(common.num_classes, backbone, dtype=common.dtype)


def deeplabv3plus(depth: int, common: Common) -> EncoderDecoder:
    """DeepLabV3+ reads stages 1 and 4; the guidance of its first SDN is the raw stage 4."""
    small = depth < 50
    return common.network(
        backbone=ResNet(depth, stem=common.stem, output_stride=8, dtype=common.dtype),
        decoder=DeepLabV3PlusHead(
            channels=128 if small else 512,
            fine_channels=12 if small else 48,
            align_corners=common.align_corners,
            dtype=common.dtype,
        ),
        classifier=common.classifier(0.1),
        auxiliary=common.auxiliary(64 if small else 256),
        decoder_stages=(0, 3),
    )


def deeplabv2(depth: int, common: Common) -> EncoderDecoder:
    """DeepLabV2 on mmseg's ResNet of output stride 8, without dropout or auxiliary head.

    DifNet's "Sim-Deeplab" has another ResNet and another start; see `sim_deeplab`.
    """
    return common.network(
        backbone=ResNet(depth, stem=common.stem, output_stride=8, dtype=common.dtype),
        classifier=DeepLabV2Classifier(
            common.num_classes, dropout=common.dropout_or(0.0), dtype=common.dtype
        ),
    )


def difnet(depth: int | tuple[int, int], common: Common) -> DifNet:
    """DifNet on two ResNets of one depth; (18, 50) is the released code's hybrid.

    Raises: InputError for a neck, context, refinement or edge head, which it has no place for.
    """
    for part in ("neck", "context", "refine", "edge"):
        if getattr(common, part) is not None:
            raise InputError(
                f"{part} does not fit DifNet, whose walks take the place of what lies between "
                "features and scores; use another network"
            )
    options = common.difnet
    hybrid = isinstance(depth, tuple)
    seeds, similarity = depth if isinstance(depth, tuple) else (depth, depth)
    how: dict[str, Any] = {"bgr": options.preprocessing == "released", "dtype": common.dtype}
    return DifNet(
        backbone=difnet_resnet(seeds, blocks=(3, 2, 2, 2) if hybrid else None, **how),
        classifier=_seed_head(common),
        similarity=difnet_resnet(similarity, **how),
        walks=options.walks,
        align_corners=common.align_corners,
    )


def sim_deeplab(depth: int, common: Common) -> EncoderDecoder:
    """DifNet's baseline: its ResNet and its seed head, nothing else."""
    bgr = common.difnet.preprocessing == "released"
    return common.network(
        backbone=difnet_resnet(depth, bgr=bgr, dtype=common.dtype),
        classifier=_seed_head(common),
    )


def _seed_head(common: Common) -> DeepLabV2Classifier:
    return DeepLabV2Classifier(
        common.num_classes,
        common.difnet.dilations,
        dropout=common.dropout_or(0.0),
        dtype=common.dtype,
        init_std=common.difnet.init_std,
    )


def segmenter(size: str, common: Common, classifier: str) -> EncoderDecoder:
    """Segmenter as mmseg builds it, dropout only of paths, with the details of `VIT_LIKE`."""
    width, depth, heads = vit.SIZES[size]
    side = 40 if size == "l" else 32  # trained at 640² and 512² pixels
    return common.network(
        backbone=vit.ViT(
            width,
            depth,
            heads,
            position_grid=(side, side),
            dtype=common.dtype,
            **VIT_LIKE[common.like],
        ),
        classifier=MaskTransformer(common.num_classes, width, heads, dtype=common.dtype)
        if classifier == "mask"
        else Classifier(common.num_classes, 0.0, common.dtype, common.binary),
        decoder_stages=(0,),
        multiple=16 if common.like == "official" else 1,
    )


def segformer(size: str, common: Common) -> EncoderDecoder:
    """SegFormer as mmseg builds it, 256 channels in every head, or as Hugging Face has it.

    Those are the authors' weights: a plain linear layer per stage in the head, 768 channels there
    from B2 on, and another epsilon of the layer norms.
    """
    details: dict[str, Any] = {}
    backbone = mit.MiT(*mit.SIZES[size], dtype=common.dtype)
    if common.like == "hf":
        backbone = backbone.clone(epsilon=1e-5)
        details = {"projection": "linear", "channels": 768 if sum(backbone.depths) > 8 else 256}
    return common.network(
        backbone=backbone,
        decoder=SegFormerHead(align_corners=common.align_corners, dtype=common.dtype, **details),
        classifier=common.classifier(0.1),
        decoder_stages=ALL_STAGES,
    )


def maskformer(depth_or_size: int | str, common: Common) -> MaskClassifier:
    """MaskFormer on torchvision's ResNet with frozen statistics, as mmseg has it, or on Swin.

    Raises: InputError for a context, a refinement or an edge head, which it has no place for.
    """
    for part in ("context", "refine", "edge"):
        if getattr(common, part) is not None:
            raise InputError(
                f"{part} does not fit MaskFormer, which classifies masks: it has no features "
                "and scores of pixels; use another network"
            )
    backbone: nn.Module
    if isinstance(depth_or_size, int):
        backbone = ResNet(depth_or_size, stem="v1", dtype=common.dtype)
    else:
        backbone = swin.Swin(*swin.SIZES[depth_or_size], dtype=common.dtype)
    return MaskClassifier(
        backbone=backbone,
        neck=common.neck,
        decoder=MaskFormerDecoder(
            common.num_classes, dropout=common.dropout_or(0.1), dtype=common.dtype
        ),
        frozen_statistics=isinstance(backbone, ResNet),
        align_corners=common.align_corners,
    )
