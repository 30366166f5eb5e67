"""The networks that have a name, in mmseg's spelling, and the one function that builds them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError, unknown
from sdnjax.models import families
from sdnjax.models.backbones import mit, swin, vit
from sdnjax.models.difnet import DifNetOptions
from sdnjax.models.families import Common
from sdnjax.models.layers import Dtype, EqualPartial
from sdnjax.models.necks.sdn import SDN, SDNNeck

MODELS: dict[str, tuple[Callable[[Any, Common], nn.Module], int | str | tuple[int, int]]] = {
    "fcn_r18-d8": (families.fcn, 18),
    "fcn_r34-d8": (families.fcn, 34),
    "fcn_r50-d8": (families.fcn, 50),
    "fcn_r101-d8": (families.fcn, 101),
    "fpn_r18": (families.fpn, 18),
    "fpn_r34": (families.fpn, 34),
    "fpn_r50": (families.fpn, 50),
    "fpn_r101": (families.fpn, 101),
    "fpn_efficientnet-lite0": (families.fpn, "efficientnet-lite0"),
    "ocrnet_hr18s": (families.ocrnet, "hr18s"),
    "ocrnet_hr18": (families.ocrnet, "hr18"),
    "ocrnet_hr48": (families.ocrnet, "hr48"),
    "deeplabv3plus_r18-d8": (families.deeplabv3plus, 18),
    "deeplabv3plus_r50-d8": (families.deeplabv3plus, 50),
    "deeplabv3plus_r101-d8": (families.deeplabv3plus, 101),
    "deeplabv2_r50-d8": (families.deeplabv2, 50),
    "deeplabv2_r101-d8": (families.deeplabv2, 101),
    **{f"difnet_r{depth}-d8": (families.difnet, depth) for depth in (18, 34, 50, 101)},
    "difnet_r18-r50-d8": (families.difnet, (18, 50)),
    **{f"sim-deeplab_r{depth}-d8": (families.sim_deeplab, depth) for depth in (18, 34, 50, 101)},
    **{
        f"segfix_{variant}": (families.segfix, variant)
        for variant in ("hr18s", "hr18", "hr48", "hr2x20", "efficientnet-lite0")
    },
    "maskformer_r50-d32": (families.maskformer, 50),
    "maskformer_r101-d32": (families.maskformer, 101),
    **{f"maskformer_swin-{size}": (families.maskformer, size) for size in swin.SIZES},
    **{f"segformer_mit-{size}": (families.segformer, size) for size in mit.SIZES},
    **{
        f"segmenter_vit-{size}_{classifier}": (
            functools.partial(families.segmenter, classifier=classifier),
            size,
        )
        for size in vit.SIZES
        for classifier in ("mask", "linear")
    },
}


def check_name(name: str) -> None:
    """Raises InputError that suggests the nearest name if there is no such network."""
    if name not in MODELS:
        raise unknown("unknown model", name, MODELS, most=3)


def check_part(name: str, module: Any) -> None:
    """Raises InputError unless a part of a network is a Linen module or None."""
    if module is not None and not isinstance(module, nn.Module):
        raise InputError(f"{name} must be a Linen module, such as MyModule(), not {module!r}")


def create_model(
    name: str,
    *,
    num_classes: int,
    neck: str | nn.Module | None = None,
    context: nn.Module | None = None,
    refine: nn.Module | None = None,
    edge: nn.Module | None = None,
    dropout: float | None = None,
    fpn_channels: tuple[int, int] = (256, 128),
    align_corners: bool = False,
    stem: Literal["v1", "v1c"] = "v1c",
    like: Literal["mmseg", "timm", "augreg", "hf", "official"] = "mmseg",
    dtype: Dtype = jnp.float32,
    binary: bool = False,
    difnet: DifNetOptions | None = None,
    guidance_channels: int | None = None,
    stages: tuple[int, ...] | None = None,
    guidance: Literal["next", "own"] = "next",
    **sdn_options: Any,
) -> nn.Module:
    """A named segmentation network as a Linen module.

        model = create_model("fcn_r50-d8", num_classes=19, neck="sdn", reduction=4)
        variables = model.init(jax.random.key(0), images, train=False)
        logits = model.apply(variables, images, train=False)["logits"]

    Args:
      name: a key of `MODELS`.
      num_classes: K, the channels of the logits.
      neck: None, "sdn", or a module of your own, `(stages, train=…) → stages`, for the stages
        that the decoder reads.
      context: None or a module, `(features, train=…) → features`, before the classifier.
      refine: None or a module, `(scores, train=…) → scores`, before they are resized. Both may
        name extra inputs; see `EncoderDecoder`. MaskFormer has a place for neither, DifNet and
        SegFix for no neck either.
      edge: None or a module, `(features, train=…) → edge scores [B, h, w, 1]`, which runs in
        training; MaskFormer, DifNet and SegFix have no place for it.
      dropout: of channels, before each classifier; throughout the decoder in MaskFormer; not in
        the Segmenter. None for the network's own: 0.1, or 0 for OCRNet, DeepLabV2 and DifNet.
      fpn_channels: of SemanticFPN's pyramid, and of its features; no other network has any.
      align_corners: for every resizing of scores; for OCRNet, between HRNet's branches too.
      stem: the ResNet's, "v1c" (mmseg) or "v1" (torchvision); MaskFormer's and DifNet's
        are always "v1".
      like: whose details the Segmenter has ("mmseg", "timm", "augreg", "hf", "official") and the
        SegFormer ("mmseg", "hf"); other networks are the same everywhere.
      dtype: of the computation; parameters, batch-norm statistics and logits are float32.
      binary: the classifier gives one logit for the second of two classes, `Classifier.binary`;
        not in networks whose classifier is another. OCRNet's regions stay two.
      difnet: of DifNet and Sim-Deeplab, which walks, dilations, start and colours they
        have; None for the released code's.
      guidance_channels, stages, guidance, sdn_options: with neck="sdn", for `SDNNeck` and `SDN`:
        operator, kernel_size, dilation, similarity, scale, boundary, reduction,
        stop_guidance_gradient, fusion, implementation.

    Raises:
      InputError: an unknown name (the nearest is suggested), `like` or neck, SDN options without an
        SDN, or a part that is no module or that the network has no place for.
    """
    check_name(name)
    difnet = DifNetOptions() if difnet is None else difnet
    if difnet != DifNetOptions() and not name.startswith(("difnet", "sim-deeplab")):
        raise InputError(f"difnet: {name} is another network")
    if like != "mmseg" and like not in families.likes(name):
        fitting = ", ".join(families.likes(name)) or "mmseg"
        raise InputError(f"like: {name} can be like {fitting}, not {like}")
    neck_options: dict[str, Any] = {
        "guidance_channels": guidance_channels,
        "stages": stages,
        "guidance": guidance,
    }
    if neck == "sdn":
        known = [f.name for f in dataclasses.fields(SDN) if f.name not in ("parent", "name")]
        for option in sorted(set(sdn_options) - set(known)):
            raise unknown("unknown SDN option", option, known)
        sdn = EqualPartial(SDN, dtype=dtype, **sdn_options)
        neck = SDNNeck(sdn, **neck_options, dtype=dtype)
    elif isinstance(neck, str):
        raise InputError(f"unknown neck {neck!r}: use 'sdn', None or a module")
    elif asked := sorted(sdn_options) or [
        k for k, v in neck_options.items() if v != getattr(SDNNeck, k)
    ]:
        raise InputError(f"{asked[0]} is an option of neck='sdn', which was not asked for")
    for part, module in {"neck": neck, "context": context, "refine": refine, "edge": edge}.items():
        check_part(part, module)
    if tuple(fpn_channels) != (256, 128) and not name.startswith("fpn_"):
        raise InputError(f"fpn_channels: {name} has another decoder")
    build, depth = MODELS[name]
    common = Common(
        num_classes=num_classes,
        neck=neck,
        context=context,
        refine=refine,
        edge=edge,
        dropout=dropout,
        fpn_channels=fpn_channels,
        align_corners=align_corners,
        stem=stem,
        like=like,
        dtype=dtype,
        difnet=difnet,
        binary=binary,
    )
    if binary and num_classes != 2:
        raise InputError(f"model.binary: one logit tells 2 classes apart, there are {num_classes}")
    network = build(depth, common)
    if binary and not getattr(getattr(network, "classifier", None), "binary", False):
        raise InputError(f"model.binary: the classifier of {name} has a score for each class")
    return network
