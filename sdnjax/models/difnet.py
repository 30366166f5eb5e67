"""DifNet (Jiang et al., NeurIPS 2018): seeds, and random walks that carry them over the image.

Where the paper and the released code differ this is the code: the score grid has stride 8, both
ResNets start from ImageNet weights, and the classifier's start is not N(0, 0.01).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models.backbones.resnet import ResNet
from sdnjax.models.layers import (
    BatchNorm,
    Dtype,
    at_least_float32,
    conv,
    stage_outputs,
    torch_bias,
    torch_uniform,
)
from sdnjax.ops import resize_bilinear
from sdnjax.ops.random_walk import adaptive_max_pool, random_walk_step, transition_rows
from sdnjax.settings import check_types, setting

WALKS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class DifNetOptions:
    """What DifNet and its baseline Sim-Deeplab can have other than the released code's."""

    walks: tuple[int, ...] = setting(
        WALKS,
        "what each random walk compares pixels by, in their order: 0 is the image, 1 to 4 the "
        "stages; 0,2,4 is without the second and the fourth",
        least=0,
        most=4,
    )
    dilations: tuple[int, ...] = setting(
        (6, 12, 18, 24),
        "of the 3×3 convolutions whose sum the scores are; 12 alone is without ASPP (a choice)",
        least=1,
    )
    init_std: float | None = setting(
        None,
        "the scores' convolutions start from N(0, init_std), DeepLabV2's is 0.01; none: from what "
        "the released code starts with, N(0, √(2/(9K)))",
        above=0,
    )
    preprocessing: Literal["rgb", "released"] = setting(
        "rgb",
        "released: the network turns images to blue, green, red, for weights of the authors",
    )

    def __post_init__(self) -> None:
        check_types(self)
        if not self.walks or list(self.walks) != sorted(set(self.walks)):
            raise InputError(
                f"model.difnet.walks must be some of 0,1,2,3,4 in this order, not {self.walks}"
            )
        if not self.dilations:
            raise InputError("model.difnet.dilations is empty: name at least one")


def difnet_resnet(
    depth: int,
    *,
    bgr: bool = False,
    blocks: tuple[int, int, int, int] | None = None,
    dtype: Dtype = jnp.float32,
) -> ResNet:
    """DifNet's ResNet, which is neither torchvision's nor mmseg's: 321² pixels give 41², 512² 65².

    The stride is in a bottleneck's first 1×1; of a basic block only conv2 is dilated; every block
    of stages 3 and 4 has the whole dilation, 2 and 4; the stem's pool rounds sizes up.
    """
    return ResNet(
        depth,
        stem="v1",
        output_stride=8,
        dtype=dtype,
        first_dilation="full",
        strided="1x1",
        dilated="conv2",
        ceil_mode=True,
        blocks=blocks,
        bgr=bgr,
    )


class Similarity(nn.Module):
    """Ψ: 1×1 to 64 channels, batch norm without a ReLU, and the largest value of each bin (Sec. 4).

    `[B, H, W, C]` → `[B, *grid, 64]`, at least float32. In training batch norm cancels the
    convolution's bias, whose gradient is 0.
    """

    channels: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, grid: tuple[int, int], *, train: bool) -> jax.Array:
        x = at_least_float32(x)
        x = conv(
            self.channels,
            1,
            bias=True,
            dtype=x.dtype,
            kernel_init=torch_uniform,
            bias_init=torch_bias(x.shape[-1]),
            name="conv",
        )(x)
        return adaptive_max_pool(BatchNorm(name="bn")(x, train=train), grid)


class Importance(nn.Module):
    """M: scores `[B, h, w, K]` → how much each pixel's scores count, `[B, h, w, 1]` in [0, 1]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for i, channels in enumerate((8, 4, 1), start=1):
            x = nn.relu(BatchNorm(name=f"bn{i - 1}")(x, train=train))
            x = conv(channels, 5, dtype=x.dtype, kernel_init=torch_uniform, name=f"conv{i}")(x)
        return jax.nn.sigmoid(x)


class RandomWalk(nn.Module):
    """One ⊕ of Eq. 5 with its learnt μ = σ(−alpha) and β = σ(−beta), both ½ at the start.

    Features, y and seed → y, μ, β.
    """

    @nn.compact
    def __call__(
        self, psi: jax.Array, y: jax.Array, seed: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        alpha, beta = (self.param(name, nn.initializers.zeros, ()) for name in ("alpha", "beta"))
        y = random_walk_step(psi, y, seed, alpha, beta)
        return y, jax.nn.sigmoid(-alpha), jax.nn.sigmoid(-beta)


class DifNet(nn.Module):
    """`images [B, H, W, 3]` → dict of named outputs.

    `logits [B, H, W, K]` are the last walk's, resized bilinearly to the image. On the network's own
    grid there are `scores` x, `importance` M `[B, h, w, 1]`, `seed` s = M·x, and `walk1…5`, each
    what that walk made of y; a network with fewer walks has fewer of them. `mu` and `beta`
    `[number of walks]` are learnt. `stage1…4` are the seed branch's, `similarity1…4` the other's.

    The two ResNets and the classifier compute in their own dtype; what follows does in float32.

    Attributes:
      backbone: of the seed branch.
      classifier: stage 4 → scores x.
      similarity: the ResNet of the similarity branch.
      walks: what each walk compares nodes by: 0 is the image as the network sees it, 1 to 4 the
        stages of `similarity`.
      align_corners: how the last walk is resized to the image.
    """

    backbone: ResNet
    classifier: nn.Module
    similarity: ResNet
    walks: tuple[int, ...] = WALKS
    align_corners: bool = False

    @property
    def logits_from(self) -> str:
        """The output that the logits are resized from."""
        return f"walk{self.walks[-1] + 1}"

    def setup(self) -> None:
        self.importance = Importance()
        for walk in self.walks:
            setattr(self, f"psi{walk + 1}", Similarity())
            setattr(self, f"walk{walk + 1}", RandomWalk())

    def __call__(self, images: jax.Array, *, train: bool) -> dict[str, Any]:
        stages = self.backbone(images, train=train)
        scores = self.classifier(stages[-1], train=train)
        importance = self.importance(scores, train=train)
        seed = importance * scores
        outputs = stage_outputs(stages, "stage")
        outputs |= {"scores": scores, "importance": importance, "seed": seed}

        compared, maps = self._features(images, scores.shape[1:3], train=train)
        outputs |= stage_outputs(compared, "similarity")
        y, mus, betas = seed, [], []
        for walk, psi in zip(self.walks, maps, strict=True):
            y, mu, beta = getattr(self, f"walk{walk + 1}")(psi, y, seed)
            outputs[f"walk{walk + 1}"] = y
            mus.append(mu)
            betas.append(beta)
        outputs |= {"mu": jnp.stack(mus), "beta": jnp.stack(betas)}
        outputs["logits"] = resize_bilinear(y, images.shape[1:3], align_corners=self.align_corners)
        return outputs

    def _features(
        self, images: jax.Array, grid: tuple[int, int], *, train: bool
    ) -> tuple[tuple[jax.Array, ...], list[jax.Array]]:
        """The stages of the similarity branch, and Ψ of what the walks compare by."""
        stages = self.similarity(images, train=train)
        seen = images[..., ::-1] if self.similarity.bgr else images
        inputs = (seen, *stages)
        maps = [getattr(self, f"psi{w + 1}")(inputs[w], grid, train=train) for w in self.walks]
        return stages, maps

    def transition_rows(
        self, variables: Any, images: jax.Array, points: Sequence[Sequence[int]]
    ) -> jax.Array:
        """Rows of the matrices P for chosen pixels: whom a walk goes to from there (Fig. 3).

        Args:
          variables: `params` and `batch_stats`.
          images: one image, `[1, H, W, 3]`, normalised.
          points: (row, column) of each pixel of the image, integers `[n, 2]`; the row of P is that
            of the node that it lies in.

        Returns: `[n, number of walks, h, w]` on the network's grid; each map sums to 1.
        Raises: InputError for several images, or a point that is no pixel of it.
        """
        batch, h, w, _ = images.shape
        chosen = np.asarray(points)
        if batch != 1:
            raise InputError(f"transition_rows takes one image [1, H, W, 3], not {images.shape}")
        if chosen.ndim != 2 or chosen.shape[1] != 2 or chosen.dtype.kind not in "iu":
            raise InputError(f"points must be integers [n, 2], row and column, not {chosen.shape}")
        if (chosen < 0).any() or (chosen >= (h, w)).any():
            raise InputError(f"points must be pixels of {h}×{w}, not {chosen.tolist()}")
        apply: Callable[..., Any] = self.apply
        rows: jax.Array = apply(variables, images, chosen, method=DifNet._transition_rows)
        return rows

    def _transition_rows(self, images: jax.Array, points: np.ndarray) -> jax.Array:
        grid = self._grid(images)
        _, maps = self._features(images, grid, train=False)
        node = points * grid // np.array(images.shape[1:3])
        nodes = jnp.asarray(node[:, 0] * grid[1] + node[:, 1], jnp.int32)
        rows = [transition_rows(psi.reshape(-1, psi.shape[-1]), nodes) for psi in maps]
        return jnp.stack(rows, axis=1).reshape(len(points), len(maps), *grid)

    def _grid(self, images: jax.Array) -> tuple[int, int]:
        """Height and width of the network's own grid; nothing is computed."""
        stages = jax.eval_shape(lambda x: self.backbone(x, train=False), images)
        height, width = stages[-1].shape[1:3]
        return height, width
