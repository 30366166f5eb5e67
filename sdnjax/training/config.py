"""The settings of an optimizer and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdnjax.config import check_types, setting
from sdnjax.errors import InputError


@dataclass(frozen=True)
class Optimizer:
    """SGD or AdamW under a polynomial schedule; the defaults are the SDN paper's for CNNs."""

    kind: Literal["sgd", "adamw"] = setting("sgd", "optimizer")
    learning_rate: float = setting(0.01, "at step 0, or after the warm-up")
    end_learning_rate: float = setting(1e-4, "at the last step")
    power: float = setting(0.9, "of the polynomial decay")
    warmup_steps: int = setting(0, "steps of linear rise from 0 before the decay")
    weight_decay: float = setting(5e-4, "on every parameter, batch norm and biases too")
    momentum: float = setting(0.9, "SGD's momentum")
    b1: float = setting(0.9, "AdamW's decay of the first moment")
    b2: float = setting(0.999, "AdamW's decay of the second moment")
    clip_norm: float | None = setting(None, "largest global norm of the gradient; none: no limit")

    def __post_init__(self) -> None:
        check_types(self)
        if self.learning_rate < 0 or self.end_learning_rate < 0 or self.weight_decay < 0:
            raise InputError("optimizer: learning rates and weight_decay must not be negative")
        if self.warmup_steps < 0:
            raise InputError(f"optimizer.warmup_steps must be ≥ 0, not {self.warmup_steps}")
