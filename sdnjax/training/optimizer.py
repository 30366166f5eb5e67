"""Optimizers with PyTorch's definitions and the schedules of the papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import optax

from sdnjax.settings import check_types, setting
from sdnjax.training.parameter_rules import ParameterRule, with_rules


@dataclass(frozen=True)
class Optimizer:
    """SGD or AdamW under a schedule; the defaults are the SDN paper's for CNNs."""

    kind: Literal["sgd", "adamw"] = setting("sgd", "optimizer")
    learning_rate: float = setting(0.01, "at step 0, or after the warm-up", least=0)
    end_learning_rate: float = setting(1e-4, "at the last step", least=0)
    schedule: Literal["poly", "cosine", "constant"] = setting(
        "poly", "how the rate falls from learning_rate to end_learning_rate; constant: not at all"
    )
    power: float = setting(0.9, "of the polynomial decay", least=0)
    warmup_steps: int = setting(0, "steps of linear rise from 0 before the decay", least=0)
    weight_decay: float = setting(5e-4, "on every parameter, batch norm and biases too", least=0)
    momentum: float = setting(0.9, "SGD's momentum", least=0, below=1)
    b1: float = setting(0.9, "AdamW's decay of the first moment", least=0, below=1)
    b2: float = setting(0.999, "AdamW's decay of the second moment", least=0, below=1)
    clip_norm: float | None = setting(
        None, "largest global norm of the gradient; none: no limit", above=0
    )
    rules: tuple[ParameterRule, ...] = setting(
        (),
        "ParameterRule(…) for parts of the network: factors of learning rate and decay, or frozen",
    )

    def __post_init__(self) -> None:
        check_types(self)

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        reason = f"optimizer.kind is {self.kind}"
        others = ("momentum",) if self.kind == "adamw" else ("b1", "b2")
        found = dict.fromkeys(others, reason)
        of_schedule = {"cosine": ("power",), "constant": ("power", "end_learning_rate")}
        for name in of_schedule.get(self.schedule, ()):
            found[name] = f"optimizer.schedule is {self.schedule}"
        return found


def schedule_of(config: Optimizer, steps: int) -> optax.Schedule:
    """The learning rate at step t = 0, 1, …, after an optional linear warm-up.

    `poly`: `lr(t) = (lr₀ − lr_end)·(1 − t/T)^power + lr_end`. `cosine`: `(lr₀ − lr_end)·(1 +
    cos(πt/T))/2 + lr_end`. `constant`: lr₀. T is `steps`; the warm-up is part of T and the decay
    runs over what remains.
    """
    first, last = config.learning_rate, config.end_learning_rate
    length = max(1, steps - config.warmup_steps)
    if config.schedule == "constant":
        decay = optax.constant_schedule(first)
    elif config.schedule == "cosine":
        cosine = optax.cosine_decay_schedule(first - last, length)

        def decay(t: Any) -> Any:
            return last + cosine(t)
    else:
        decay = optax.polynomial_schedule(first, last, config.power, length)
    if config.warmup_steps == 0:
        return decay
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, decay], [config.warmup_steps])


def learning_rate_of(optimizer: Any, steps: int) -> optax.Schedule | None:
    """The schedule by which a log can tell the learning rate; an optimizer of one's own has none
    that anyone knows."""
    return schedule_of(optimizer, steps) if isinstance(optimizer, Optimizer) else None


def make_optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """SGD with momentum or AdamW, as PyTorch defines them.

    SGD: `g ← g + wd·w; m ← μ·m + g; w ← w − lr·m` (decay enters the momentum). AdamW:
    decay is decoupled. Both decay every parameter.
    """
    if not config.rules:
        return _whole(config, steps, optax.add_decayed_weights(config.weight_decay))

    def optimizer(decay: optax.GradientTransformation) -> optax.GradientTransformation:
        return _whole(config, steps, decay)

    return with_rules(config.rules, config.weight_decay, optimizer)


def _whole(
    config: Optimizer, steps: int, decay: optax.GradientTransformation
) -> optax.GradientTransformation:
    schedule = schedule_of(config, steps)
    parts = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    if config.kind == "sgd":
        parts += [decay, optax.sgd(schedule, momentum=config.momentum or None)]
    else:
        # What optax.adamw is made of.
        adam = optax.scale_by_adam(config.b1, config.b2)
        parts.append(optax.chain(adam, decay, optax.scale_by_learning_rate(schedule)))
    return optax.chain(*parts)
