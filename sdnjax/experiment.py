"""`Experiment`: everything that a configuration file decides."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optax
from flax import linen as nn

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.inference.protocols import Evaluation, evaluation_record
from sdnjax.losses import CrossEntropy, Objective
from sdnjax.models import Model, Neck
from sdnjax.models.blocks import is_block
from sdnjax.ops import augment_batch
from sdnjax.recipe import Recipe, own_losses
from sdnjax.settings import check_types, from_dict, setting
from sdnjax.training.interceptors import Remat
from sdnjax.training.loggers import Logger, TensorBoard
from sdnjax.training.optimizer import Optimizer, make_optimizer
from sdnjax.training.sharding import StateSharding, replicate

# A network of one's own: K → module. An optimizer of one's own: number of steps → optax.
NetworkFunction = Callable[[int], nn.Module]
OptimizerFunction = Callable[[int], optax.GradientTransformation]


@dataclass(frozen=True)
class Experiment:
    """One training run. Every setting can be overridden on the command line by its key.

    What is no plain value may be an object of one's own, defined in the configuration file or
    imported by it: a network, neck, similarity, loss, metric, optimizer, data set, ….
    """

    name: str = setting("experiment", "name of the run; its work directory is runs/NAME")
    model: Model | NetworkFunction = setting(
        Model(), "the network: Model(…), or a function of the number of classes"
    )
    data: Data = Data()
    losses: tuple[Objective, ...] | None = setting(
        None, "what is minimised, a tuple such as (CrossEntropy(),); none: the network's own"
    )
    optimizer: Optimizer | OptimizerFunction = setting(
        Optimizer(), "Optimizer(…), or a function of the number of steps to an optax transformation"
    )
    evaluation: Evaluation = Evaluation()
    state_sharding: StateSharding = setting(
        replicate, "a function of a leaf's path and shape to its PartitionSpec on the mesh"
    )

    init_from: str | None = setting(
        None,
        "work directory, of train.py or convert.py, whose weights the run starts from; classes "
        "are kept by name, those that are new there start anew",
    )
    init_without: tuple[str, ...] = setting(
        (), "parts of the network, such as neck, that init_from does not give: they start anew"
    )

    steps: int = setting(1000, "optimizer steps", least=1)
    batch_size: int = setting(8, "images in one step, over all devices", least=1)
    accumulate: int = setting(
        1,
        "parts that a batch is divided into, one after the other: less memory and the same loss, "
        "but batch norm sees one part at a time",
        least=1,
    )
    batch_norm_images: int | None = setting(
        None,
        "images that a batch norm takes its statistics of in training, such as those of one "
        "device; none: the whole batch, or part of it (accumulate)",
        least=1,
    )
    remat: Literal["none", "blocks"] | Remat = setting(
        "none",
        "what is computed again in the backward pass instead of being kept, for less memory: the "
        "blocks of backbones, or the modules for which a function of your own is true",
    )
    ema_decay: float | None = setting(
        None,
        "decay of a running average of the parameters, such as 0.999, which is what is evaluated, "
        "predicted with and converted; none: no average",
        above=0,
        below=1,
    )
    seed: int = setting(
        0,
        "decides initial values, order of images, augmentation, dropout",
        least=0,
        below=2**32,  # JAX would take it modulo 2³²
    )
    evaluate_every: int = setting(0, "steps between validations; 0: only at the end", least=0)
    checkpoint_every: int = setting(500, "steps between checkpoints", run_only=True, least=1)
    keep_checkpoints: int = setting(
        2, "checkpoints kept, counted from the latest", run_only=True, least=1
    )
    keep_best: str | None = setting(
        None,
        "score of the validation, such as mIoU or boundary_f.1px, whose best checkpoint is kept "
        "too; --step best uses it",
        run_only=True,
    )
    best_is: Literal["highest", "lowest"] = setting(
        "highest", "which value of keep_best is the best", run_only=True
    )
    stop_after: int | None = setting(
        None,
        "validations in a row without a new best that end the run; none: it goes to its last step",
        run_only=True,
        least=1,
    )
    log_every: int = setting(10, "steps between lines of metrics", run_only=True, least=1)
    profile: tuple[int, int] | None = setting(
        None,
        "first and last step of which a profiler trace is written to WORKDIR/profile, such as "
        "20,25; none: of none",
        run_only=True,
        least=1,
    )
    tensorboard: bool = setting(True, "also write TensorBoard event files", run_only=True)
    loggers: tuple[Logger, ...] = setting(
        (),
        "where metrics go besides metrics.jsonl and TensorBoard, such as (WandB(project=…),); a "
        "function of the run to an object with write(step, values) and close()",
        run_only=True,
    )

    code: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    """The configuration file, if there are objects in here that only its code can make again."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.losses is not None and not self.losses:
            raise InputError("losses is empty: name at least one, or none for the network's own")
        if self.stop_after is not None and not (self.keep_best and self.evaluate_every):
            raise InputError("stop_after needs keep_best and evaluate_every, which make it count")
        self._check_numbers()
        if self.keep_best and self.data.val_split is None:
            raise InputError("keep_best needs a validation: data.val_split is none")
        if self.evaluate_every and self.data.val_split is None:
            raise InputError("evaluate_every has no effect: data.val_split is none")
        if self.init_without and self.init_from is None:
            raise InputError("init_without has no effect without init_from")
        if getattr(self.model, "binary", False):
            for i, loss in enumerate(self.losses or ()):
                if getattr(loss, "activation", None) == "sigmoid":
                    raise InputError(
                        f"losses.{i}.activation is sigmoid, a problem of its own for each class: "
                        "with model.binary take softmax, which is the sigmoid of the one logit"
                    )
        segments = getattr(getattr(self.model, "context", None), "segments", None)
        if segments is not None and (self.data.superpixels or 0) > segments:
            raise InputError(
                f"data.superpixels is {self.data.superpixels}, but model.context.segments, which "
                f"bounds their number, is {segments}"
            )

    def _check_numbers(self) -> None:
        """InputError for numbers that do not fit each other."""
        if self.profile is not None and not 1 <= self.profile[0] <= self.profile[1] <= self.steps:
            raise InputError(
                f"profile is {self.profile}: name the first and the last step, from 1 to "
                f"{self.steps} (steps)"
            )
        if self.batch_size % self.accumulate:
            raise InputError(
                f"batch_size {self.batch_size} does not divide into {self.accumulate} parts "
                "(accumulate)"
            )
        if self.batch_size // self.accumulate % (self.batch_norm_images or 1):
            raise InputError(
                f"batch_norm_images {self.batch_norm_images} does not divide "
                f"{self.batch_size // self.accumulate} images (batch_size / accumulate)"
            )
        warmup = getattr(self.optimizer, "warmup_steps", 0)
        if warmup >= self.steps > 0 and isinstance(self.optimizer, Optimizer):
            raise InputError(
                f"optimizer.warmup_steps is {warmup}, which leaves nothing of {self.steps} steps"
            )

    @property
    def all_loggers(self) -> tuple[Logger, ...]:
        """The loggers, TensorBoard among them if `tensorboard` says so."""
        others = tuple(x for x in self.loggers if x != TensorBoard())
        return (TensorBoard(), *others) if self.tensorboard else others

    @property
    def network_name(self) -> str:
        """The name of the network, or of the function that makes it."""
        model = self.model
        return model.name if isinstance(model, Model) else getattr(model, "__name__", str(model))

    @property
    def network_title(self) -> str:
        """The network in the log's words."""
        model = self.model
        if not isinstance(model, Model):
            return self.network_name
        neck = model.neck
        parts: dict[str, Any] = {"neck": neck}
        if isinstance(neck, Neck):
            parts = {"operator": neck.operator}
        parts |= {"context": model.context, "refine": model.refine, "edge": model.edge}
        shown = {k: v if isinstance(v, str) else type(v).__name__ for k, v in parts.items() if v}
        if "neck" in model.unused():
            del shown["operator"]
        return ", ".join([model.name, *(f"{name} {part}" for name, part in shown.items())])

    def network(self, num_classes: int, dtype: Any = None) -> nn.Module:
        """The Linen module for K classes; `dtype` in place of the settings' (float64)."""
        if isinstance(self.model, Model):
            return self.model.build(num_classes, dtype)
        if dtype is not None:
            raise InputError(f"{self.network_name} is your own: give it its dtype yourself")
        network = self.model(num_classes)
        if not isinstance(network, nn.Module):
            raise InputError(
                f"model: {self.network_name}({num_classes}) returned {type(network).__name__}, "
                "not a Linen module"
            )
        return network

    @property
    def scaled_optimizer(self) -> Optimizer | OptimizerFunction:
        """The optimizer with the rates for this batch size."""
        found = self.optimizer
        return found.for_batch(self.batch_size) if isinstance(found, Optimizer) else found

    def resolved(self) -> Experiment:
        """The same with `losses` spelled out: what a work directory records."""
        if self.losses is not None:
            return self
        return dataclasses.replace(self, losses=own_losses(self.network(2)))

    def build(
        self, num_classes: int, *, dtype: Any = None, mirrored: tuple[int, ...] | None = None
    ) -> Recipe:
        """Network, losses, optimizer, state and step for K classes.

        `mirrored` is the label space's: what they are in the mirror image, which devices that
        augment have to know.
        """
        network = self.network(num_classes, dtype)
        data, optimizer = self.data, self.scaled_optimizer
        augment: Callable[[Any], Any] | None = None
        if data.augment_on == "device":
            augment = functools.partial(
                augment_batch,
                seed=self.seed,
                crop_size=data.crop_size,
                num_classes=num_classes,
                mean=data.mean,
                std=data.std,
                base_size=data.base_size,
                scale_range=data.scale_range,
                max_class_share=data.max_class_share,
                flip=data.flip,
                photometric=data.photometric,
                mirrored_classes=mirrored,
            )
        elif data.transfer == "uint8":
            augment = data.normalization.batch
        return Recipe(
            network=network,
            losses=own_losses(network) if self.losses is None else self.losses,
            optimizer=make_optimizer(optimizer, self.steps)
            if isinstance(optimizer, Optimizer)
            else optimizer(self.steps),
            num_classes=num_classes,
            image_size=data.crop_size,
            normalization=data.normalization,
            seed=self.seed,
            augment=augment,
            state_sharding=self.state_sharding,
            rules=optimizer.rules if isinstance(optimizer, Optimizer) else (),
            micro_batches=self.accumulate,
            ema_decay=self.ema_decay,
            batch_norm_images=self.batch_norm_images,
            remat={"none": None, "blocks": is_block}.get(self.remat)
            if isinstance(self.remat, str)
            else self.remat,
        )


def experiment_from_dict(
    values: Any, where: str = "config", base: Experiment | None = None
) -> Experiment:
    """The experiment of a work directory, also of one that an earlier version wrote."""
    if isinstance(values, dict):
        values = _with_losses(values)
        if "evaluation" in values:
            values = {**values, "evaluation": evaluation_record(values["evaluation"])}
    return from_dict(Experiment, values, where, base=base)


def _with_losses(values: dict[str, Any]) -> dict[str, Any]:
    """Version 0.1 had two numbers in the place of the losses; both hold for pixels alone."""
    old = {"auxiliary_weight": 0.4, "normalize_by": "valid_pixels"}
    if not old.keys() & values.keys():
        return values
    found = {**old, **{k: v for k, v in values.items() if k in old}}
    values = {k: v for k, v in values.items() if k not in old}
    kind = "sdnjax.losses.CrossEntropy"
    one = {"type": kind, "weight": 1.0, "on": "logits", "normalize_by": found["normalize_by"]}
    auxiliary = {**one, "weight": found["auxiliary_weight"], "on": "auxiliary"}
    own = own_losses(from_dict(Experiment, values).network(2))
    if all(isinstance(loss, CrossEntropy) for loss in own):
        values["losses"] = [one, auxiliary][: len(own)]
    return values
