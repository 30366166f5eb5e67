"""E-CRF, the embedded CRF: "Embedded Conditional Random Fields" (Zhu et al., ICLR 2023)."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.ops.message_passing import pairwise_message, position_encoding, superpixel_means
from sdnjax.ops.resize import resize_bilinear, resize_nearest
from sdnjax.settings import check_types, setting


class Projection(nn.Module):
    """A 1×1 convolution without bias, `[..., C]` → `[..., features]`, at least float32.

    It starts from U(±1/√C), PyTorch's default, on which the scale of the messages depends.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        kernel = self.param("kernel", init, (1, 1, x.shape[-1], self.features))
        return jnp.einsum(
            "...c,cd->...d",
            x,
            kernel[0, 0].astype(x.dtype),
            precision=jax.lax.Precision.HIGHEST,
            preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
        )


class ECRF(nn.Module):
    """Messages of neighbours and means of superpixels, added to the features: Eq. 4.

    `F* = F + w_s·mean_s(F) + w_p·Σ_j ψ_p(i, j) F_j`, `[B, h, w, C]` → `[B, h, w, C]` in the dtype
    of F, both terms of the unchanged F. Put it before dropout and classifier. What it takes
    besides: `picture [B, H, W, 3]` in [0, 1] and `superpixels [B, H, W]`, each at any size;
    pictures are resized bilinearly, superpixels to the nearest.

    The defaults are those of the released code, which differs from the paper: μ sees the
    neighbour alone, a pixel is its own neighbour, and nothing is divided by Z. It does not start
    near the identity: at the initial scale the messages have several times the norm of F.
    `start="identity"` is for adding it to a trained network.

    It computes the same in training as in evaluation, in float32 where F is narrower. Besides the
    features it returns `messages` (Σ ψ F), `psi` (ψ of the taps, `[B, h, w, 9]`) and
    `superpixel_means`, as far as there are any, for inspection.

    Raises: InputError for settings out of bounds.
    """

    message_weight: float = setting(
        0.2, "factor of the messages, w_p; 0: none, no picture", least=0
    )
    superpixel_weight: float = setting(
        0.1, "factor of the superpixels' means, w_s; 0: none, no superpixels", least=0
    )
    segments: int = setting(
        200, "superpixels that an image has at most; data.superpixels must not exceed it", least=1
    )
    compatibility: Literal["neighbour", "pair"] = setting(
        "neighbour", "what μ sees: the neighbour, as released, or both, as in the paper's Eq. 7"
    )
    centre: bool = setting(True, "a pixel is its own neighbour, as released; false: j ≠ i")
    normalize: bool = setting(
        False, "divide by Z = 1 + w_s + w_p·Σ|ψ|; the paper has a Z and does not define it"
    )
    start: Literal["released", "identity"] = setting(
        "released", "identity: both terms have a learnt gain that starts at 0"
    )
    embedding: int = setting(
        32, "channels of the picture's and of the positions' embedding", least=1
    )
    dilation: int = setting(2, "spacing of the 3×3 window", least=1)

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The extra inputs that the terms of weight above 0 need."""
        needs = {"picture": self.message_weight, "superpixels": self.superpixel_weight}
        return tuple(name for name, weight in needs.items() if weight > 0)

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        pairwise = ("compatibility", "centre", "embedding", "dilation")
        found: dict[str, str] = {}
        if self.message_weight == 0:
            found |= dict.fromkeys(pairwise, "message_weight is 0")
        if self.superpixel_weight == 0:
            found["segments"] = "superpixel_weight is 0"
        return found

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        *,
        train: bool,
        picture: jax.Array | None = None,
        superpixels: jax.Array | None = None,
    ) -> dict[str, Any]:
        del train
        wide = jnp.promote_types(features.dtype, jnp.float32)
        gains = jnp.ones((2,), wide)
        if self.start == "identity":
            gains = self.param("gains", nn.initializers.zeros, (2,)).astype(wide)
        result, partition = features.astype(wide), jnp.ones((), wide)
        outputs: dict[str, Any] = {}
        if picture is not None and self.message_weight > 0:
            messages, psi = self._messages(features, picture)
            result += self.message_weight * gains[0] * messages
            partition += self.message_weight * jnp.sum(jnp.abs(psi), axis=-1, keepdims=True)
            outputs |= {"messages": messages, "psi": psi}
        if superpixels is not None and self.superpixel_weight > 0:
            grid = resize_nearest(superpixels[..., None], features.shape[1:3])[..., 0]
            means = superpixel_means(features, grid, self.segments)
            result += self.superpixel_weight * gains[1] * means
            partition += self.superpixel_weight
            outputs["superpixel_means"] = means
        if self.normalize:
            result /= partition
        return {"features": result.astype(features.dtype), **outputs}

    def _messages(self, features: jax.Array, picture: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Σ_j ψ_p(i, j) F_j and ψ_p, Eq. 5–7."""
        _, h, w, _ = features.shape
        wide = jnp.promote_types(features.dtype, jnp.float32)
        colours = resize_bilinear(picture.astype(wide), (h, w))
        colours = Projection(self.embedding, name="colours")(colours)
        positions = jnp.asarray(position_encoding(h, w), wide)[None]
        positions = Projection(self.embedding, name="positions")(positions)
        positions = jnp.broadcast_to(positions, colours.shape)
        embedding = jnp.concatenate([colours, positions], axis=-1)

        # conv([F_i, F_j]) is a sum of what either gives.
        both = self.compatibility == "pair"
        score = Projection(2 if both else 1, name="compatibility")(features)
        return pairwise_message(
            features,
            embedding,
            score[..., 0],
            score[..., 1] if both else None,
            dilation=self.dilation,
            centre=self.centre,
        )
