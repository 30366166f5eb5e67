"""InverseForm (Borse et al., CVPR 2021): how far predicted edges are from those of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sdnjax.errors import InputError
from sdnjax.losses.edges import EdgeCrossEntropy, edge_pair
from sdnjax.losses.image_cross_entropy import EdgeAttention, ImageCrossEntropy
from sdnjax.losses.objective import Batch, Mean, Objective, Outputs, ReadTensors, output
from sdnjax.ops.resize import resize_bilinear
from sdnjax.settings import check_types, setting

# Weights [out, in] and biases of three linear layers, as PyTorch keeps them.
Regressor = Sequence[tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]]

NAMES = tuple(f"fc.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias"))
TILE = "tile"  # in files of ours: height, width of a tile


@dataclass(frozen=True)
class InverseForm:
    """The length of the transformation that a trained regressor sees between two edge maps.

    The probabilities of edges and the labels' edge map are resized to `size` and cut into tiles; of
    each pair of tiles the regressor estimates normalised shifts and scales, all 0 where edges lie
    on each other. The loss is the mean length of the estimate. The regressor is a file and never
    changes; `python -m sdnjax.commands.inverse_form` trains one.

    The released code puts the logits through a softmax over their one channel: 1 everywhere, so
    that the gradient is exactly 0. Here it is the sigmoid.
    """

    weight: float = setting(1.0, "factor of the loss", least=0)
    on: str = setting("edge", "output that is scored, logits [B, H, W, 1]")
    regressor: str | None = setting(
        None, "file of the trained regressor: of sdnjax.commands.inverse_form, or as released"
    )
    size: tuple[int, int] = setting(
        (672, 1344), "height, width to which edge maps are resized", least=1
    )
    tiles: tuple[int, int] = setting((3, 6), "how many tiles that makes, down and across", least=1)
    radius: int = setting(2, "pixels from another class within which a pixel is an edge", least=1)

    def __post_init__(self) -> None:
        check_types(self)
        if any(n % k for n, k in zip(self.size, self.tiles, strict=True)):
            raise InputError(
                f"InverseForm: a size of {self.size[0]}×{self.size[1]} does not divide into "
                f"{self.tiles[0]}×{self.tiles[1]} equal tiles"
            )

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile, in pixels."""
        return self.size[0] // self.tiles[0], self.size[1] // self.tiles[1]

    def constants(self, read: ReadTensors) -> Regressor:
        """The regressor.

        Raises: InputError if there is no file, or it is not one for tiles of this size.
        """
        make = "python -m sdnjax.commands.inverse_form CONFIG makes one"
        if self.regressor is None:
            raise InputError(f"losses: InverseForm needs a regressor, a file: {make}")
        if not Path(self.regressor).exists():
            raise InputError(f"losses: InverseForm: there is no regressor {self.regressor}: {make}")
        return regressor_of(read(self.regressor, NAMES), self.tile, self.regressor)

    def __call__(
        self, outputs: Outputs, batch: Batch, constants: Regressor = ()
    ) -> dict[str, Mean]:
        if not constants:
            raise ValueError("InverseForm is called with its constants, the regressor")
        logits, edges = edge_pair(output(outputs, self.on), batch["label"], self.radius)
        predicted = self.cut(jax.nn.sigmoid(logits))
        found = regress(constants, predicted, self.cut(edges))
        lengths = jnp.sqrt(jnp.sum(jnp.square(found), axis=-1) + 1e-12)
        return {"inverse_form": Mean(jnp.sum(lengths), jnp.asarray(lengths.size, lengths.dtype))}

    def cut(self, maps: jax.Array) -> jax.Array:
        """Maps `[B, H, W]` → tiles of the resized maps, `[B·tiles, pixels]`."""
        (down, across), (h, w) = self.tiles, self.tile
        resized = resize_bilinear(maps[..., None], self.size)[..., 0]
        tiles = resized.reshape(-1, down, h, across, w).transpose(0, 1, 3, 2, 4)
        return tiles.reshape(-1, h * w)


def regress(regressor: Regressor, predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Shifts t and scales s of pairs of tiles, `[N, pixels]` each → `[N, 4]`.

    `(t_y/.1, t_x/.1, (s_y − 1)/.2, (s_x − 1)/.2)` of `sdnjax.commands.inverse_form`'s; the order
    does not matter for the loss. t is in units of a tile.
    """
    x = jnp.concatenate([predicted, target], axis=-1)
    for i, (weight, bias) in enumerate(regressor):
        x = jax.nn.relu(x) if i else x
        # Widened, never narrowed: the first weight is most of the memory.
        weight, bias = (jnp.asarray(a, jnp.promote_types(a.dtype, x.dtype)) for a in (weight, bias))
        x = jnp.einsum("ni,oi->no", x, weight, precision=lax.Precision.HIGHEST) + bias
    return x


def regressor_of(
    tensors: Mapping[str, np.ndarray], tile: tuple[int, int], where: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers, of a file's tensors by name.

    Raises: InputError if they are not three layers from two tiles of this size to four numbers.
    """
    if missing := [name for name in NAMES if name not in tensors]:
        raise InputError(f"{where} is no regressor of InverseForm: {missing[0]} is missing")
    made_for = tensors.get(TILE)
    if made_for is not None and tuple(int(n) for n in made_for) != tile:
        theirs = "×".join(str(int(n)) for n in made_for)
        raise InputError(
            f"{where} was trained on tiles of {theirs} pixels; InverseForm.size and tiles make "
            f"tiles of {tile[0]}×{tile[1]}"
        )
    width = 2 * tile[0] * tile[1]
    first = tensors["fc.0.weight"].shape
    if len(first) != 2 or first[1] != width:
        raise InputError(
            f"{where} reads {first[-1] if first else 0} numbers; two tiles of {tile[0]}×{tile[1]} "
            f"pixels (InverseForm.size by tiles) are {width}"
        )
    layers = []
    for i in (0, 2, 4):
        weight, bias = (np.asarray(tensors[f"fc.{i}.{kind}"]) for kind in ("weight", "bias"))
        outputs = 4 if i == 4 else len(weight)
        if weight.shape != (outputs, width) or bias.shape != (outputs,):
            raise InputError(
                f"{where}: fc.{i} is {weight.shape} and {bias.shape}, not {(outputs, width)} and "
                f"{(outputs,)}"
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise InputError(f"{where}: fc.{i} has values that are not finite")
        layers.append((weight.astype(np.float32, copy=False), bias.astype(np.float32, copy=False)))
        width = outputs
    return layers


def inverse_form_losses(
    regressor: str | None = None,
    *,
    size: tuple[int, int] = (672, 1344),
    tiles: tuple[int, int] = (3, 6),
    radius: int = 2,
    auxiliary: bool = False,
    released: bool = False,
) -> tuple[Objective, ...]:
    """The joint loss, `1·segmentation + .3·edge + .1·attention + .3·InverseForm`.

        Experiment(
            model=Model("fcn_r50-d8", edge=EdgeHead()),
            losses=inverse_form_losses("regressor.safetensors", auxiliary=True),
        )

    Args:
      regressor, size, tiles, radius: of `InverseForm`.
      auxiliary: segmentation and attention also of the auxiliary output, times .4. The released
        network has an edge head of its own there, whose two terms are missing here: attention
        looks at the one edge head.
      released: counts are the batch's, and images add up, as in the released code; see
        `ImageCrossEntropy` and `EdgeCrossEntropy`.
    """
    over: Any = "batch" if released else "image"
    how: dict[str, Any] = {"over": over, "images": "sum" if released else "mean"}
    main = (
        ImageCrossEntropy(**how),
        EdgeCrossEntropy(weight=0.3, radius=radius, over=over),
        EdgeAttention(weight=0.1, **how),
        InverseForm(weight=0.3, regressor=regressor, size=size, tiles=tiles, radius=radius),
    )
    if not auxiliary:
        return main
    return (
        *main,
        ImageCrossEntropy(weight=0.4, on="auxiliary", **how),
        EdgeAttention(weight=0.04, on="auxiliary", **how),
    )
