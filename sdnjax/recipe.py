"""`Recipe`: what an experiment comes to for K classes — the only place that puts it together.

Training, comparing, converting, the demo, benchmarks and compile-only tests all start here, so
that each of them means the same network, loss, optimizer, state and step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from sdnjax.convert.tensors import read_tensors
from sdnjax.losses import (
    CrossEntropy,
    EdgeCrossEntropy,
    MaskMatching,
    Objective,
    SegFixLoss,
    constants_of,
)
from sdnjax.models import MaskClassifier, SegFixNet
from sdnjax.models.inputs import abstract_inputs, blank_inputs, inputs_of
from sdnjax.ops.normalization import Normalization
from sdnjax.training.interceptors import Calls, Remat
from sdnjax.training.parameter_rules import ParameterRule, keeps_statistics, without_gradient
from sdnjax.training.sharding import StateSharding, replicate, shardings_of
from sdnjax.training.state import TrainState, create_state
from sdnjax.training.step import Batch, TrainStep, compile_step, make_train_step


@dataclass(frozen=True)
class Recipe:
    """Network, losses and optimizer, and what follows from them.

    Attributes:
      network: `apply(variables, images [B, H, W, C], train=…, **inputs)` → named outputs.
      losses: their weighted sum is minimised.
      optimizer: an optax transformation.
      num_classes: K.
      image_size: height and width of a training crop.
      normalization: of the pictures that the network sees.
      seed: decides initial values and dropout.
      augment: what the devices make of a batch as read, or None if the host has done it.
      state_sharding: how the state lies on a mesh.
      rules: those that the optimizer follows; batch norms of a frozen part are frozen too.
      micro_batches: parts that a batch is divided into, one after the other.
      ema_decay: of the average of the parameters in the state, or None for none.
      batch_norm_images, remat: see `Calls`.
    """

    network: nn.Module
    losses: tuple[Objective, ...]
    optimizer: optax.GradientTransformation
    num_classes: int
    image_size: tuple[int, int]
    normalization: Normalization
    seed: int = 0
    augment: Callable[[Batch], Batch] | None = None
    state_sharding: StateSharding = replicate
    rules: tuple[ParameterRule, ...] = ()
    micro_batches: int = 1
    ema_decay: float | None = None
    batch_norm_images: int | None = None
    remat: Remat | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the network's inputs besides the images."""
        return inputs_of(self.network)

    @functools.cached_property
    def constants(self) -> tuple[Any, ...]:
        """The arrays that losses have beside their settings, read when first asked for.

        Raises: InputError for a file that is missing or does not fit.
        """
        return constants_of(self.losses, read_tensors)

    @property
    def step(self) -> TrainStep:
        """The pure train step `(state, batch) → (state, metrics)`."""
        return make_train_step(
            self.network,
            self.losses,
            self.optimizer,
            seed=self.seed,
            normalization=self.normalization,
            augment=self.augment,
            calls=Calls(
                functools.partial(keeps_statistics, self.rules),
                self.batch_norm_images,
                self.remat,
                functools.partial(without_gradient, self.rules),
            ),
            constants=lambda: self.constants,
            micro_batches=self.micro_batches,
            ema_decay=self.ema_decay,
        )

    def init_variables(self) -> Any:
        """The network's initial variables; they depend on `seed`, not on the image size."""
        size = (1, *self.image_size)
        images = jnp.zeros((*size, len(self.normalization.mean)), jnp.float32)
        init: Callable[..., Any] = self.network.init
        extras = blank_inputs(self.network, size)
        return init(jax.random.key(self.seed), images, train=False, **extras)

    def init_state(self, variables: Any = None) -> TrainState:
        """The state at step 0, of given variables or the initial ones; pure, for `jax.jit`."""
        variables = self.init_variables() if variables is None else variables
        return create_state(variables, self.optimizer, average=self.ema_decay is not None)

    def check(self) -> None:
        """Traces outputs and losses, on shapes alone: what does not fit says so before a run.

        Raises:
          InputError: for a loss that reads an output which the network does not have, or a file
            that is not there.
        """
        size = (1, *self.image_size)
        batch: Batch = {
            "image": jax.ShapeDtypeStruct((*size, len(self.normalization.mean)), jnp.float32),
            "label": jax.ShapeDtypeStruct(size, jnp.int32),
            **abstract_inputs(self.network, size),
        }
        # One image, which neither parts nor groups divide.
        plain = dataclasses.replace(self, augment=None, micro_batches=1, batch_norm_images=None)
        jax.eval_shape(plain.step, self.abstract_state(), batch, self.constants)

    def abstract_state(self) -> TrainState:
        """Shapes and types of the state; nothing is computed."""
        return jax.eval_shape(self.init_state)

    def shardings(self, mesh: Mesh) -> TrainState:
        """Where each leaf of the state lies on a mesh."""
        return shardings_of(self.abstract_state(), mesh, self.state_sharding)

    def placed(self, mesh: Mesh) -> TrainState:
        """`abstract_state` with the shardings on a mesh, to restore a checkpoint to."""
        return with_shardings(self.abstract_state(), self.shardings(mesh))

    def new_state(self, mesh: Mesh) -> TrainState:
        """The state at step 0 on a mesh; every leaf is made where it lies."""
        with jax.set_mesh(mesh):
            init = jax.jit(self.init_state, out_shardings=self.shardings(mesh)).lower()
        # It runs once, and LLVM takes most of the time: less optimised code gives the same bits.
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        return init.compile({"xla_backend_optimization_level": "1"} if on_cpu else None)()

    def compiled_step(self, mesh: Mesh) -> TrainStep:
        """The step for a mesh: batches split over `data`, the state as `shardings` has it."""
        return compile_step(self.step, mesh, self.shardings(mesh), self.constants)


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """Shapes and types together with where they lie; one sharding may stand for all."""
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, abstract)
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        abstract,
        shardings,
    )


def own_losses(network: nn.Module) -> tuple[Objective, ...]:
    """What a network is trained with where nothing else is asked for.

    Cross-entropy of its scores, and at 0.4 (mmseg's) of an auxiliary head's, which a network
    announces by `has_auxiliary_scores`; at 0.3 (InverseForm's) the loss of an edge head, which it
    announces by `has_edge_scores`; MaskFormer's matching loss for one that classifies masks, and
    SegFix's for one that predicts directions.
    """
    if isinstance(network, MaskClassifier):
        return (MaskMatching(),)
    if isinstance(network, SegFixNet):
        return (SegFixLoss(),)
    found: tuple[Objective, ...] = (CrossEntropy(),)
    if getattr(network, "has_auxiliary_scores", False):
        found += (CrossEntropy(weight=0.4, on="auxiliary"),)
    if getattr(network, "has_edge_scores", False):
        found += (EdgeCrossEntropy(weight=0.3),)
    return found
