"""`Experiment`: everything that a configuration file decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.inference.protocols import Evaluation
from sdnjax.models.model_settings import Model
from sdnjax.settings import check_types, setting
from sdnjax.training.optimizer import Optimizer


@dataclass(frozen=True)
class Experiment:
    """One training run. Every field can be overridden on the command line by its key."""

    name: str = setting("experiment", "name of the run; its work directory is runs/NAME")
    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()

    steps: int = setting(1000, "optimizer steps")
    batch_size: int = setting(8, "images in one step, over all devices")
    seed: int = setting(0, "decides initial values, order of images, augmentation, dropout")
    auxiliary_weight: float = setting(0.4, "weight of the auxiliary head's loss")
    normalize_by: Literal["valid_pixels", "all_pixels"] = setting(
        "valid_pixels", "what cross-entropy is divided by; all_pixels is mmseg's rule"
    )
    evaluate_every: int = setting(0, "steps between validations; 0: only at the end")
    checkpoint_every: int = setting(500, "steps between checkpoints", run_only=True)
    keep_checkpoints: int = setting(2, "checkpoints kept, counted from the latest", run_only=True)
    log_every: int = setting(10, "steps between lines of metrics", run_only=True)
    tensorboard: bool = setting(True, "also write TensorBoard event files", run_only=True)

    def __post_init__(self) -> None:
        check_types(self)
        lower = {"steps": 1, "batch_size": 1, "seed": 0, "evaluate_every": 0}
        lower |= {"checkpoint_every": 1, "keep_checkpoints": 1, "log_every": 1}
        for key, least in lower.items():
            if getattr(self, key) < least:
                raise InputError(f"{key} must be at least {least}, not {getattr(self, key)}")
