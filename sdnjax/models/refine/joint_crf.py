"""A CRF on the scores, trained with the network that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.layers import at_least_float32
from sdnjax.ops import resize_bilinear
from sdnjax.ops.crf import Filter, bilateral_features, crf_rnn, exact_filter, separable_filter
from sdnjax.settings import check_types, setting


class JointCRF(nn.Module):
    """Scores `[B, h, w, K]` and the picture → scores, by CRF-RNN (Zheng et al., 2015).

    E-CRF's comparison "Joint-CRF" (Zhu et al., 2023, Sec. 4.3: "similar to Zheng et al."). What
    the paper leaves open is chosen here: the CRF works on the grid of the scores, with the picture
    resized bilinearly to it and the standard deviations of positions divided by the stride; there
    are five iterations in training and in evaluation; they start from the logits themselves.

    Learnt are W_s, W_b and C, `[K, K]` each, which begin as 3I, 5I and I, as in the authors'
    later code: 3·K² parameters. There is no gradient to the picture.

    Cost: `exact` makes all (h·w)² elements of the bilateral kernel once in every iteration, and
    holds 2²² of them for each picture at a time; on 128×128 that is 2.7e8 exponentials and
    2·2.7e8·K operations of the product. In training each iteration is done three times.

    Raises:
      InputError: for settings out of bounds, and from the call if the picture does not fit the
        scores.
    """

    iterations: int = setting(5, "T, in training and evaluation", least=0)
    sigma_xy: float = setting(
        160.0, "σ of the bilateral kernel's positions, in pixels of the image", above=0
    )
    sigma_rgb: float = setting(3.0, "σ of its colours, in levels of 0-255", above=0)
    sigma_position: float = setting(
        3.0, "σ of the kernel of positions alone, in pixels of the image", above=0
    )
    bilateral: Literal["exact"] | Callable[[jax.Array], Filter] = setting(
        "exact",
        "how the bilateral kernel is applied: over all pairs, or by a function of its features "
        "[h·w, 5] to a filter (sdnjax.ops.crf), which is traced",
    )

    inputs = ("picture",)

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, scores: jax.Array, *, train: bool, picture: jax.Array) -> jax.Array:
        b, h, w, k = scores.shape
        if picture.ndim != 4 or picture.shape[0] != b:
            raise InputError(
                f"JointCRF: picture {picture.shape} does not fit scores {scores.shape}"
            )

        def matrix(name: str, scale: float) -> jax.Array:
            return self.param(name, lambda key: jnp.eye(k, dtype=jnp.float32) * scale)

        weights = matrix("position", 3.0), matrix("bilateral", 5.0)
        compatibility = matrix("compatibility", 1.0)
        stride = picture.shape[1] / h, picture.shape[2] / w
        sigma = self.sigma_position / stride[0], self.sigma_position / stride[1]
        make = exact_filter if isinstance(self.bilateral, str) else self.bilateral
        smoothing = separable_filter(h, w, sigma)
        colours = 255 * resize_bilinear(at_least_float32(picture), (h, w))

        def refined(scores, picture, matrices):
            sigma_xy = self.sigma_xy / stride[0], self.sigma_xy / stride[1]
            bilateral = make(bilateral_features(picture, sigma_xy, self.sigma_rgb))
            found = crf_rnn(
                scores.reshape(h * w, k),
                (smoothing, bilateral),
                matrices[:2],
                matrices[2],
                iterations=self.iterations,
            )
            return found.reshape(h, w, k)

        # Each image has copies, so that gradients are summed over images, and devices, once: not
        # in every iteration.
        copies = jnp.broadcast_to(jnp.stack([*weights, compatibility]), (b, 3, k, k))
        return jax.vmap(refined)(scores, jax.lax.stop_gradient(colours), copies)
