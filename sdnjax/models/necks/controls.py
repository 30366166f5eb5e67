"""What SDC's similarities are compared with: known from the labels, out of place, or unlearnt.

For studies of the operator, not for use. All of them are values of settings that are there:
`Model(neck=OracleNeck())`, `Neck("sdc", implementation=out_of_place)`, `Neck("sdc",
similarity=mean_charbonnier)`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from sdnjax.models.necks.sdn import SDN, chosen_stages
from sdnjax.ops import resize_nearest
from sdnjax.ops.labels import IGNORE
from sdnjax.ops.neighbours import inside, tap_offsets
from sdnjax.ops.sdc import xla


class OracleNeck(nn.Module):
    """SDNs whose S is taken from the labels: 1 between two pixels of one class, 0 otherwise.

    **It cheats**, in training and in evaluation: what it scores is not what a network could, but
    an upper end of what a perfect S would be worth here; the network may also read the classes'
    outlines off the responses. Void is a class like any other. Labels are brought to each stage
    by nearest neighbours.

    It computes in the stages' dtype. Attributes: of `SDN`; there is no Φ, and no λ.
      coarser: labels are brought to 1/coarser of a stage's size first: with 2, S knows all
        classes, but places only as well as the next stage, the paper's guidance, could.
      stages: see `SDNNeck`.
    """

    kernel_size: int = 3
    dilation: int = 1
    reduction: int = 1
    coarser: int = 1
    stages: tuple[int, ...] | None = None
    inputs = ("label",)

    @nn.compact
    def __call__(
        self, stages: Sequence[jax.Array], *, train: bool = False, label: jax.Array
    ) -> tuple[jax.Array, ...]:
        del train
        # Beyond a picture, evaluation has −1 and training 255.
        label = jnp.where(label < 0, IGNORE, label)[..., None].astype(jnp.float32)
        sdn = functools.partial(
            SDN,
            similarity=same_class,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            reduction=self.reduction,
            dtype=stages[0].dtype,
        )

        def guidance(size: tuple[int, ...]) -> jax.Array:
            small = resize_nearest(label, tuple(-(-n // self.coarser) for n in size))
            return resize_nearest(small, size)

        chosen = chosen_stages(self.stages, len(stages))
        return tuple(
            sdn(name=f"sdn{i}")(u, guidance(u.shape[1:3])) if i in chosen else u
            for i, u in enumerate(stages, start=1)
        )


def same_class(neighbour: jax.Array, centre: jax.Array) -> jax.Array:
    """1 where two label maps `[B, H, W, 1]` agree, else 0."""
    return (neighbour == centre).all(axis=-1).astype(centre.dtype)


def mean_charbonnier(neighbour: jax.Array, centre: jax.Array) -> jax.Array:
    """`1/√(1 + d²)` with the mean over channels in d² in place of the sum, and without λ."""
    return lax.rsqrt(1 + jnp.mean(jnp.square(neighbour - centre), axis=-1))


def sum_charbonnier(neighbour: jax.Array, centre: jax.Array) -> jax.Array:
    """`1/√(1 + d²)` with the sum in d², the library's `"charbonnier"` with λ = 1 unlearnt."""
    return lax.rsqrt(1 + jnp.sum(jnp.square(neighbour - centre), axis=-1))


def out_of_place(
    u: jax.Array,
    s: jax.Array,
    kernel: jax.Array,
    *,
    dilation: tuple[int, int],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """SDC with the similarities of other pixels of the same image: their values, not their places.

    Each pixel takes all K similarities of one other. The order is drawn anew for each size and the
    same for all images of it; taps outside stay 0.
    """
    b, h, w, taps = s.shape
    order = jax.random.permutation(jax.random.key(h * w), h * w)
    s = s.reshape(b, h * w, taps)[:, order].reshape(s.shape)
    s = jnp.where(inside(u.shape, tap_offsets(kernel.shape[:2], dilation)), s, 0)
    return xla.semantic_difference(u, s, kernel, dilation=dilation, precision=precision)
