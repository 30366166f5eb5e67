"""The semantic diffusion network (SDN), a neck between encoder and decoder.

"Semantic Diffusion Network for Semantic Segmentation" (Tan et al., 2022), Sec. 4.2–4.3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.layers import Dtype, conv, kaiming_normal
from sdnjax.ops import (
    angular_difference_conv,
    central_difference_conv,
    local_binary_conv,
    radial_difference_conv,
    resize_bilinear,
    semantic_difference_conv,
)
from sdnjax.ops.neighbours import inside, tap_offsets
from sdnjax.ops.sdc import Implementation
from sdnjax.ops.similarity import SCALED, Similarity, similarity_maps

Operator = Literal["sdc", "conv", "cdc", "apdc", "rpdc", "lbc", "none"]
# What each computes instead of SDC; none of them looks at the guidance.
_WITHOUT_GUIDANCE: dict[str, Callable[..., jax.Array]] = {
    "conv": functools.partial(central_difference_conv, theta=0.0),
    "cdc": central_difference_conv,
    "apdc": angular_difference_conv,
    "rpdc": radial_difference_conv,
    "lbc": local_binary_conv,
}


class SDN(nn.Module):
    """`F_sdn = Conv1x1([U, Y])` with `Y = SDC(U, V)` (Eq. 5 and Sec. 4.2.2).

    `u [B, H, W, C]`, `guidance [B, h, w, Cf]` → `[B, H, W, C]`. The guidance is resized
    bilinearly to U's grid. Fusion starts as the identity on U and zero on Y, so that a
    network gains a neck without changing its predictions (a choice).

    Attributes:
      operator: "sdc", or the other rows of Table 3(a): "conv" (vanilla 3×3) and "cdc"
        (central difference with θ = 0.7), which do not look at the guidance, and "none",
        the baseline, which returns U; and of the same family "apdc" and "rpdc" (angular and
        radial differences) and "lbc" (fixed binary filters), all of them 3×3.
      kernel_size, dilation: of the operator; Table 3(b).
      similarity, boundary: see `sdnjax.ops.semantic_difference_conv`.
      scale: where λ starts, a learnable positive scalar that is stored as its logarithm.
      reduction: the operator works on C / reduction channels, reached by a 1×1 convolution.
        1 is the paper's, whose SDC alone has 9·C² parameters.
      stop_guidance_gradient: no gradient through the similarity into the guidance.
      fusion: how the fusion starts: "identity" on U, or "plain", as any convolution does.
      implementation: what computes SDC: a name, a function of your own, or None for the fastest
        that serves; see `sdnjax.ops.semantic_difference_conv`.
    """

    operator: Operator = "sdc"
    kernel_size: int = 3
    dilation: int = 1
    similarity: Similarity = "charbonnier"
    scale: float = 1.0
    boundary: Literal["no_flux", "zeros"] = "no_flux"
    reduction: int = 1
    stop_guidance_gradient: bool = False
    fusion: Literal["identity", "plain"] = "identity"
    implementation: str | Implementation | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, u: jax.Array, guidance: jax.Array) -> jax.Array:
        if self.operator == "none":
            return u
        channels = u.shape[-1]
        if self.reduction < 1 or channels % self.reduction:
            raise InputError(f"reduction={self.reduction} must divide U's {channels} channels")
        inner = channels // self.reduction
        u = u.astype(self.dtype)
        x = u if self.reduction == 1 else conv(inner, 1, dtype=self.dtype, name="reduce")(u)

        known = ("sdc", *_WITHOUT_GUIDANCE)
        if self.operator not in known:
            raise InputError(f"operator must be {', '.join(known)} or none, not {self.operator!r}")
        k = 1 if self.operator == "lbc" else self.kernel_size
        if self.operator in ("apdc", "rpdc", "lbc") and self.kernel_size != 3:
            raise InputError(f"operator {self.operator} is 3×3, not kernel_size={self.kernel_size}")
        kernel = self.param("kernel", kaiming_normal, (k, k, inner, inner)).astype(self.dtype)
        if self.operator == "sdc":
            guidance, scale = resize_bilinear(guidance, u.shape[1:3]), self._scale()
            if self.is_mutable_collection("intermediates"):
                self.sow("intermediates", "similarity", self._mean_similarity(guidance, scale))
            y = semantic_difference_conv(
                x,
                guidance,
                kernel,
                similarity=self.similarity,
                scale=scale,
                dilation=self.dilation,
                boundary=self.boundary,
                stop_guidance_gradient=self.stop_guidance_gradient,
                implementation=self.implementation,
            )
        else:
            y = _WITHOUT_GUIDANCE[self.operator](x, kernel, dilation=self.dilation)
        # For those who look inside; nothing is kept unless "intermediates" are asked for.
        self.sow("intermediates", "response", y)

        both = jnp.concatenate([u, y], axis=-1)
        init = {"identity": _identity_on_u, "plain": kaiming_normal}[self.fusion]
        fusion = conv(channels, 1, bias=True, dtype=self.dtype, kernel_init=init, name="fusion")
        return fusion(both)

    def _scale(self) -> jax.Array | float:
        if self.similarity not in SCALED:
            return 1.0
        start = nn.initializers.constant(math.log(self.scale))
        return jnp.exp(self.param("log_scale", start, ()))

    def _mean_similarity(self, guidance: jax.Array, scale: jax.Array | float) -> jax.Array:
        """The mean of S over the neighbours that lie inside, `[B, H, W]`: what is looked at."""
        s = similarity_maps(
            guidance,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            similarity=self.similarity,
            scale=scale,
            boundary="no_flux",
        )
        offsets = tap_offsets(self.kernel_size, self.dilation)
        neighbours = jnp.sum(inside(guidance.shape, offsets), axis=-1) - 1
        return (jnp.sum(s, axis=-1) - 1) / jnp.maximum(neighbours, 1)


def _identity_on_u(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    """A 1×1 kernel `[1, 1, C + C/r, C]`: identity on the first C channels, zero on the rest."""
    del key
    return jnp.eye(shape[-2], shape[-1], dtype=dtype)[None, None]


class SDNNeck(nn.Module):
    """One SDN per stage that the decoder reads, without shared parameters (Sec. 4.3, Eq. 6).

    Stage i is guided by the raw stage i + 1, the last by Φ(F_L), a 3×3 convolution of
    stride 2 (with bias and no norm: a choice). A decoder that reads one stage is the case
    of one feature; where it skips stages, the guidance is the next one that it reads
    (DeepLabV3+: stage 4 for stage 1, a choice). It computes the same in training (`train`) as in
    evaluation: there is no batch norm and no dropout.

    Attributes:
      sdn: makes the SDN of one stage, called with its `name`: the class, or a
        `functools.partial` of it with options.
      guidance_channels: Φ's output channels; None keeps those of its input, as the paper
        does, which costs another 9·C² parameters.
      stages: which of the stages that the decoder reads have an SDN, from 1; None for all of them.
        The others pass as they are.
      guidance: "next" is the paper's; with "own" each stage guides itself, as features do in
        Perona and Malik's diffusion, and there is no Φ.
    """

    sdn: Callable[..., SDN] = SDN
    guidance_channels: int | None = None
    stages: tuple[int, ...] | None = None
    guidance: Literal["next", "own"] = "next"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, stages: Sequence[jax.Array], *, train: bool = False
    ) -> tuple[jax.Array, ...]:
        del train
        last = len(stages)
        sdns = {i: self.sdn(name=f"sdn{i}") for i in chosen_stages(self.stages, last)}
        guidance = list(stages) if self.guidance == "own" else [*stages[1:], stages[-1]]
        if self.guidance == "next" and last in sdns and sdns[last].operator == "sdc":
            width = self.guidance_channels or stages[-1].shape[-1]
            phi = conv(width, 3, stride=2, bias=True, dtype=self.dtype, name="phi")
            guidance[-1] = phi(stages[-1])
        return tuple(
            sdns[i](u, v) if i in sdns else u
            for i, (u, v) in enumerate(zip(stages, guidance, strict=True), start=1)
        )


def chosen_stages(stages: Sequence[int] | None, count: int) -> Sequence[int]:
    """Those of `count` stages that a neck changes, from 1. Raises: InputError for others."""
    if stages is None:
        return range(1, count + 1)
    if not set(stages) <= set(range(1, count + 1)):
        raise InputError(f"stages {stages} of the neck: the decoder reads {count}, 1 to {count}")
    return stages
