"""Teaching SDC's S: near 1 inside a class, near 0 where two classes meet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from sdnjax.losses.objective import Batch, Mean, Outputs, output
from sdnjax.ops import resize_bilinear, resize_nearest
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.similarity import same_class, similarity_maps
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class SimilarityLoss:
    """Squared distance of S (Eq. 5 of the SDN paper) from the labels' own, 1 or 0.

    Not of the paper, where nothing but the segmentation's loss forms the guidance. S is measured
    on the raw stages that `SDNNeck` takes as guidance, stage i + 1 of the backbone for stage i,
    with `similarity="relative"`, which needs no λ; so a network without a neck can be taught the
    same, to tell what is due to SDC. Labels are brought to stage i by nearest neighbours. The
    mean over pairs of neighbours of one class and that over pairs of two are added: boundaries
    are rare. Pairs with void, or beyond the image, do not count.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    stages: tuple[int, ...] = setting(
        (1, 2, 3), "stages of the backbone whose S is taught, from 1, each by the next", least=1
    )
    kernel_size: int = setting(3, "of the SDC", least=3)
    dilation: int = setting(1, "of the SDC", least=1)

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Mean]:
        return {
            f"similarity{i}": self._of_stage(
                output(outputs, f"stage{i}"), output(outputs, f"stage{i + 1}"), batch["label"]
            )
            for i in self.stages
        }

    def _of_stage(self, stage: jax.Array, guidance: jax.Array, label: jax.Array) -> Mean:
        size = stage.shape[1:3]
        maps = partial(similarity_maps, kernel_size=self.kernel_size, dilation=self.dilation)
        s = maps(resize_bilinear(guidance, size), similarity="relative")
        label = resize_nearest(label[..., None].astype(s.dtype), size)
        same = maps(label, similarity=same_class)
        counted = maps(label, similarity=_both_labelled)
        # Every pixel is like itself: the centre teaches nothing.
        counted = counted.at[..., counted.shape[-1] // 2].set(0)
        pairs = jnp.stack([counted * same, counted * (1 - same)])
        errors = pairs * jnp.square(s - same)
        axes = (1, 2, 3, 4)
        return Mean(jnp.sum(errors, axes), jnp.sum(pairs, axes))


def _both_labelled(neighbour: jax.Array, centre: jax.Array) -> jax.Array:
    return ((neighbour != IGNORE) & (centre != IGNORE)).all(axis=-1).astype(centre.dtype)
