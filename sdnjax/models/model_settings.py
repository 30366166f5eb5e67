"""The settings of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from sdnjax.errors import InputError
from sdnjax.models.zoo import Network, check_name, create_model
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class Neck:
    """The SDN neck; `operator="none"` is the network without it."""

    operator: Literal["sdc", "conv", "cdc", "none"] = setting(
        "none", "operator of the SDN neck; none: no neck"
    )
    kernel_size: int = setting(3, "taps on each side of the operator's kernel")
    dilation: int = setting(1, "spacing of the taps")
    similarity: Literal["charbonnier", "relative", "gaussian", "cosine", "constant"] = setting(
        "charbonnier", "similarity S of the guidance at two pixels"
    )
    boundary: Literal["no_flux", "zeros"] = setting("no_flux", "taps outside the image")
    reduction: int = setting(1, "the operator works on 1/reduction of the channels")
    guidance_channels: int | None = setting(None, "channels of Φ; none: those of its input")
    stop_guidance_gradient: bool = setting(False, "no gradient into the guidance")

    def __post_init__(self) -> None:
        check_types(self)
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise InputError(f"model.neck.kernel_size must be odd, not {self.kernel_size}")
        if self.dilation < 1 or self.reduction < 1:
            raise InputError("model.neck.dilation and model.neck.reduction must be at least 1")
        if self.guidance_channels is not None and self.guidance_channels < 1:
            raise InputError("model.neck.guidance_channels must be at least 1, or none")

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        reason = f"model.neck.operator is {self.operator}"
        guided = ("similarity", "boundary", "guidance_channels", "stop_guidance_gradient")
        if self.operator == "sdc":
            return {}
        if self.operator != "none":
            return dict.fromkeys(guided, reason)
        return dict.fromkeys((*guided, "kernel_size", "dilation", "reduction"), reason)


@dataclass(frozen=True)
class Model:
    """A named network and its options."""

    name: str = setting("fcn_r18-d8", "network, as in sdnjax.models.MODELS")
    neck: Neck = Neck()
    dropout: float | None = setting(
        None, "share of channels dropped before the classifier; none: the network's own"
    )
    align_corners: bool = setting(False, "align_corners for every resizing of scores")
    stem: Literal["v1", "v1c"] = setting("v1c", "ResNet stem: torchvision's or mmseg's")
    dtype: Literal["float32", "bfloat16"] = setting("float32", "type of the computation")

    def __post_init__(self) -> None:
        check_types(self)
        check_name(self.name)

    def build(self, num_classes: int, dtype: Any = None) -> Network:
        """The Linen module; `dtype` in place of the settings', for float64."""
        return create_model(
            self.name,
            num_classes=num_classes,
            neck="sdn",
            dropout=self.dropout,
            align_corners=self.align_corners,
            stem=self.stem,
            dtype=dtype or jnp.dtype(self.dtype),
            **vars(self.neck),
        )
