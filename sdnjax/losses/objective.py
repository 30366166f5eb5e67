"""What a loss is: a value that makes sums and counts of a network's outputs and a batch.

An objective is a frozen dataclass, or a function, called as `objective(outputs, batch)`. It
returns named terms, each a `Mean`: a sum and what it is to be divided by. Sums and counts add up
exactly over devices, micro-batches and images with unequal void; means of means do not.

An objective that needs arrays which nothing trains, a frozen network, has a method `constants`
besides. It is called once before a run, and what it returns, a tree of arrays, comes with every
call: `objective(outputs, batch, constants)`. They lie on every device once, as an argument of the
compiled step, and are in no checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.errors import unknown

Outputs = Mapping[str, Any]
Batch = Mapping[str, Any]
# Reads, of a file of any kind that is known, the tensors of these names, and what lies beside them.
ReadTensors = Callable[[str, Sequence[str]], Mapping[str, np.ndarray]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mean:
    """`Σ total / count`, 0 where nothing is counted.

    Attributes:
      total: [] or [n], at least float32.
      count: of the same shape; integers or floats, which no parameter moves.
    """

    total: jax.Array
    count: jax.Array

    def merge(self, other: Mean) -> Mean:
        """The mean over both parts of a batch."""
        return Mean(self.total + other.total, self.count + other.count)

    def value(self) -> jax.Array:
        """A scalar; of several means, their sum."""
        counted = self.count > 0
        count = jnp.where(counted, self.count, 1).astype(self.total.dtype)
        return jnp.sum(jnp.where(counted, self.total / count, 0))


class Objective(Protocol):
    """A loss. Its attribute `weight`, 1 if it has none, multiplies all its terms.

    outputs: what the network returns in training: `logits`, `auxiliary`, ….
    batch: `label [B, H, W]` of 0…K−1 and 255, and what else the batch holds.
    """

    def __call__(self, outputs: Outputs, batch: Batch) -> Mapping[str, Mean]: ...


def output(outputs: Outputs, name: str) -> Any:
    """The output called `name`; InputError with the nearest name if there is none."""
    if name not in outputs:
        raise unknown("losses: the network has no output", name, outputs)
    return outputs[name]


def constants_of(objectives: Sequence[Objective], read: ReadTensors) -> tuple[Any, ...]:
    """The arrays that each objective has beside its settings, `()` for one that has none.

    read: what an objective's `constants(read)` may read files with.
    """
    return tuple(x.constants(read) if hasattr(x, "constants") else () for x in objectives)


def total_loss(
    objectives: Sequence[Objective],
    outputs: Outputs,
    batch: Batch,
    constants: Sequence[Any] | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of all terms, and every term, before its weight, as `loss_NAME`.

    A name that occurs again is numbered by its objective: `loss_dice`, `loss_dice_2`.

    Args:
      constants: of `constants_of`; None where no objective has any.
    """
    return valued(means_of(objectives, outputs, batch, constants))


# Name of a term → its weight, and what it is the mean of.
Means = dict[str, tuple[float, Mean]]


def means_of(
    objectives: Sequence[Objective],
    outputs: Outputs,
    batch: Batch,
    constants: Sequence[Any] | None = None,
) -> Means:
    """Every term, named as `total_loss` says."""
    found: Means = {}
    given = [()] * len(objectives) if constants is None else constants
    for i, (objective, own) in enumerate(zip(objectives, given, strict=True), start=1):
        call: Callable[..., Mapping[str, Mean]] = objective
        further = (own,) if hasattr(objective, "constants") else ()
        for name, mean in call(outputs, batch, *further).items():
            key = f"loss_{name}" if f"loss_{name}" not in found else f"loss_{name}_{i}"
            found[key] = getattr(objective, "weight", 1.0), mean
    return found


def valued(
    means: Means, counts: Mapping[str, jax.Array] | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of all terms, and every term before its weight.

    Args:
      counts: by which each term's total is divided in place of its own count.
    """
    if counts is not None:
        means = {name: (w, Mean(mean.total, counts[name])) for name, (w, mean) in means.items()}
    terms = {name: mean.value() for name, (_, mean) in means.items()}
    parts = [means[name][0] * value for name, value in terms.items()]
    return sum(parts[1:], parts[0]), terms
