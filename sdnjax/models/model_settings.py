"""The settings of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError, unknown
from sdnjax.models.difnet import DifNetOptions
from sdnjax.models.families import likes
from sdnjax.models.necks.sdn import Operator
from sdnjax.models.zoo import check_name, check_part, create_model
from sdnjax.ops.sdc import IMPLEMENTATIONS
from sdnjax.ops.similarity import SCALED, SIMILARITIES
from sdnjax.settings import check_types, setting

WITHOUT_NECK = ("difnet", "segfix")


@dataclass(frozen=True)
class Neck:
    """The SDN neck; `operator="none"` is the network without it.

    In Python `similarity` may also be a function of two maps, and `implementation` a function
    in the place of Eq. 5; see `sdnjax.ops.similarity_maps` and `semantic_difference_conv`.
    """

    operator: Operator = setting("none", "operator of the SDN neck; none: no neck")
    kernel_size: int = setting(3, "taps on each side of the operator's kernel", least=1)
    dilation: int = setting(1, "spacing of the taps", least=1)
    similarity: (
        Literal["charbonnier", "relative", "gaussian", "cosine", "constant"]
        | Callable[[jax.Array, jax.Array], jax.Array]
    ) = setting("charbonnier", "similarity S of the guidance at two pixels")
    scale: float = setting(1.0, "where the similarity's λ starts, which is learnt", above=0)
    boundary: Literal["no_flux", "zeros"] = setting("no_flux", "taps outside the image")
    reduction: int = setting(1, "the operator works on 1/reduction of the channels", least=1)
    guidance_channels: int | None = setting(
        None, "channels of Φ; none: those of its input", least=1
    )
    guidance: Literal["next", "own"] = setting(
        "next", "what guides a stage: the next one, as in the paper, or the stage itself"
    )
    stop_guidance_gradient: bool = setting(False, "no gradient into the guidance")
    fusion: Literal["identity", "plain"] = setting(
        "identity", "start of the 1×1 fusion: the network without a neck, or random"
    )
    stages: tuple[int, ...] | None = setting(
        None, "which of the stages that the decoder reads have an SDN, from 1; none: all", least=1
    )
    implementation: (
        Literal["pallas_gpu", "pallas_tpu", "xla", "reference"] | Callable[..., jax.Array] | None
    ) = setting(None, "what computes sdc; none: the fastest that serves")

    def __post_init__(self) -> None:
        for name, known in (("similarity", SIMILARITIES), ("implementation", IMPLEMENTATIONS)):
            value = getattr(self, name)
            if isinstance(value, str) and value not in known:
                raise unknown(f"model.neck.{name}: there is no", value, known)
        check_types(self)
        if self.kernel_size % 2 == 0:
            raise InputError(f"model.neck.kernel_size must be odd, not {self.kernel_size}")

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        if self.operator == "sdc":
            found = {}
            if self.similarity not in SCALED:
                found["scale"] = f"model.neck.similarity is {self.similarity}"
            if self.guidance == "own":
                found["guidance_channels"] = "model.neck.guidance is own, and there is no Φ"
            return found
        names = ["similarity", "scale", "boundary", "guidance_channels", "guidance"]
        names += ["stop_guidance_gradient", "implementation"]
        if self.operator in ("apdc", "rpdc", "lbc"):
            names += ["kernel_size"]
        if self.operator == "none":
            names += ["kernel_size", "dilation", "reduction", "fusion", "stages"]
        return dict.fromkeys(names, f"model.neck.operator is {self.operator}")


@dataclass(frozen=True)
class Model:
    """A named network and its options.

    The parts of one's own, `neck`, `context`, `refine` and `edge`, are Linen modules that the
    network calls as `EncoderDecoder` says. They compute in their own dtype.
    """

    name: str = setting("fcn_r18-d8", "network, as in sdnjax.models.MODELS")
    neck: Neck | nn.Module = setting(Neck(), "Neck(…), or a module of stages to stages")
    context: nn.Module | None = setting(
        None, "a module of features to features before the classifier, such as ECRF()"
    )
    refine: nn.Module | None = setting(
        None, "a module of scores to scores, before they are resized"
    )
    edge: nn.Module | None = setting(
        None, "a head on the classifier's features that learns where edges are, such as EdgeHead()"
    )
    dropout: float | None = setting(
        None,
        "share of channels dropped before the classifier; none: the network's own",
        least=0,
        below=1,
    )
    fpn_channels: tuple[int, int] = setting(
        (256, 128), "channels of SemanticFPN's pyramid, and of its features", least=1
    )
    align_corners: bool = setting(False, "align_corners for every resizing of scores")
    stem: Literal["v1", "v1c"] = setting("v1c", "ResNet stem: torchvision's or mmseg's")
    like: Literal["mmseg", "timm", "augreg", "hf", "official"] = setting(
        "mmseg",
        "whose details Segmenter and SegFormer have, such as the epsilon of layer norms: those of "
        "whoever trained the weights; convert.py sets it by its table",
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "type of the computation")
    binary: bool = setting(
        False, "of two classes, one logit, the second's: its probability is the logit's sigmoid"
    )
    difnet: DifNetOptions = DifNetOptions()

    def __post_init__(self) -> None:
        if not isinstance(self.neck, Neck | nn.Module):
            raise InputError(f"model.neck must be Neck(…) or a Linen module, not {self.neck!r}")
        check_part("model.context", self.context)
        check_part("model.refine", self.refine)
        check_part("model.edge", self.edge)
        check_types(self)
        check_name(self.name)
        if "like" not in self.unused() and self.like not in likes(self.name):
            known = ", ".join(likes(self.name))
            raise InputError(f"model.like: {self.name} can be like {known}, not {self.like}")

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        with_stem = ("fcn_r", "fpn_r", "deeplab")
        found = {}
        if not self.name.startswith(with_stem):
            found["stem"] = f"{self.name} has another stem"
        if not self.name.startswith("fpn_"):
            found["fpn_channels"] = f"{self.name} has another decoder"
        if self.name.startswith("segmenter"):
            found["dropout"] = f"{self.name} has none"
        if not likes(self.name):
            found["like"] = f"{self.name} is the same everywhere"
        if self.name.startswith("segfix"):
            found["dropout"] = f"{self.name} has none"
            found["align_corners"] = f"{self.name} always aligns them"
        if self.name.startswith(WITHOUT_NECK):
            found["neck"] = f"{self.name} has no place for one"
        if self.name.startswith("sim-deeplab"):
            found["difnet.walks"] = f"{self.name} has none"
        elif not self.name.startswith("difnet"):
            found["difnet"] = f"{self.name} is another network"
        return found

    def build(self, num_classes: int, dtype: Any = None) -> nn.Module:
        """The Linen module; `dtype` in place of the settings', for float64."""
        neck: dict[str, Any] = {"neck": self.neck}
        if isinstance(self.neck, Neck):
            neck = {"neck": "sdn", **vars(self.neck)}
            if self.name.startswith(WITHOUT_NECK) and self.neck.operator == "none":
                neck = {}  # there is no place even for a neck that does nothing
        return create_model(
            self.name,
            num_classes=num_classes,
            context=self.context,
            refine=self.refine,
            edge=self.edge,
            dropout=self.dropout,
            fpn_channels=self.fpn_channels,
            align_corners=self.align_corners,
            stem=self.stem,
            like=self.like,
            dtype=dtype or jnp.dtype(self.dtype),
            binary=self.binary,
            difnet=self.difnet,
            **neck,
        )
