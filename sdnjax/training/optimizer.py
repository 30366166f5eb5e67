"""Optimizers with PyTorch's definitions and the schedules of the papers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from sdnjax.errors import InputError
from sdnjax.settings import check_types, setting
from sdnjax.training.parameter_rules import ParameterRule, with_rules


@dataclass(frozen=True)
class Optimizer:
    """An optimizer under a schedule; the defaults are the SDN paper's for CNNs."""

    kind: Literal["sgd", "adamw", "lars", "lamb"] = setting(
        "sgd", "optimizer; lars and lamb are SGD and Adam for large batches"
    )
    learning_rate: float = setting(0.01, "at step 0, or after the warm-up", least=0)
    end_learning_rate: float = setting(1e-4, "at the last step", least=0)
    reference_batch: int | None = setting(
        None,
        "batch size that the rates are meant for: with another they are scaled by its ratio to "
        "this (sgd, lars) or the square root of that (adamw, lamb); none: they are not",
        least=1,
    )
    schedule: Literal["poly", "cosine", "step", "constant"] = setting(
        "poly",
        "how the rate falls from learning_rate to end_learning_rate; step: by step_factor at each "
        "of the milestones; constant: not at all",
    )
    milestones: tuple[int, ...] = setting(
        (), "of the step schedule: the first steps of lower rate", least=1
    )
    step_factor: float = setting(0.1, "of the step schedule", above=0)
    power: float = setting(0.9, "of the polynomial decay", least=0)
    warmup_steps: int = setting(0, "steps of linear rise from 0 before the decay", least=0)
    weight_decay: float = setting(5e-4, "on every parameter, batch norm and biases too", least=0)
    momentum: float = setting(0.9, "SGD's and LARS's momentum", least=0, below=1)
    trust: float = setting(
        0.001, "LARS's largest relative change of a kernel in a step at rate 1", above=0
    )
    b1: float = setting(0.9, "AdamW's and LAMB's decay of the first moment", least=0, below=1)
    b2: float = setting(0.999, "AdamW's and LAMB's decay of the second moment", least=0, below=1)
    clip_norm: float | None = setting(
        None, "largest global norm of the gradient; none: no limit", above=0
    )
    rules: tuple[ParameterRule, ...] = setting(
        (),
        "ParameterRule(…) for parts of the network: factors of learning rate and decay, or frozen",
    )

    def __post_init__(self) -> None:
        check_types(self)
        rising = list(self.milestones) == sorted(set(self.milestones))
        if not rising or any(step <= self.warmup_steps for step in self.milestones):
            raise InputError(
                "optimizer.milestones must be rising steps after the warm-up of "
                f"{self.warmup_steps}, not {self.milestones}"
            )
        if self.schedule == "step" and not self.milestones:
            raise InputError("optimizer.schedule is step: name optimizer.milestones")

    def unused(self) -> dict[str, str]:
        """The settings that have no effect beside the others, and why."""
        reason = f"optimizer.kind is {self.kind}"
        of_kind = {"sgd": ("momentum",), "lars": ("momentum", "trust")}
        used = of_kind.get(self.kind, ("b1", "b2"))
        others = {"momentum", "trust", "b1", "b2"}.difference(used)
        found = dict.fromkeys(sorted(others), reason)
        of_schedule = {
            "poly": ("end_learning_rate", "power"),
            "cosine": ("end_learning_rate",),
            "step": ("milestones", "step_factor"),
        }
        used = of_schedule.get(self.schedule, ())
        others = {"end_learning_rate", "power", "milestones", "step_factor"}.difference(used)
        for name in sorted(others):
            found[name] = f"optimizer.schedule is {self.schedule}"
        return found

    def for_batch(self, batch_size: int) -> Optimizer:
        """The same with rates that are meant for this batch size, see `reference_batch`.

        The linear rule is that of Goyal et al. (2017), the square root LAMB's (You et al., 2020).
        """
        if self.reference_batch is None:
            return self
        factor = batch_size / self.reference_batch
        factor = factor if self.kind in ("sgd", "lars") else factor**0.5
        return dataclasses.replace(
            self,
            learning_rate=factor * self.learning_rate,
            end_learning_rate=factor * self.end_learning_rate,
            reference_batch=None,
        )


def schedule_of(config: Optimizer, steps: int) -> optax.Schedule:
    """The learning rate at step t = 0, 1, …, after an optional linear warm-up.

    `poly`: `lr(t) = (lr₀ − lr_end)·(1 − t/T)^power + lr_end`. `cosine`: `(lr₀ − lr_end)·(1 +
    cos(πt/T))/2 + lr_end`. `step`: lr₀ times `step_factor` for each milestone that t has reached.
    `constant`: lr₀. T is `steps`; the warm-up is part of T and the decay runs over what remains,
    but milestones count from the run's start.
    """
    first, last = config.learning_rate, config.end_learning_rate
    length = max(1, steps - config.warmup_steps)
    if config.schedule == "constant":
        decay = optax.constant_schedule(first)
    elif config.schedule == "step":
        # The decay's own count begins after the warm-up.
        at = {t - config.warmup_steps: config.step_factor for t in config.milestones}
        decay = optax.piecewise_constant_schedule(first, at)
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
    """SGD with momentum or AdamW, as PyTorch defines them, or LARS or LAMB, as optax does.

    SGD: `g ← g + wd·w; m ← μ·m + g; w ← w − lr·m` (decay enters the momentum). AdamW:
    decay is decoupled. All decay every parameter.

    LARS (You et al., 2017) and LAMB (You et al., 2020) bring the update of each kernel to a share
    of the kernel's own norm, `trust` or 1; norms and biases, of one dimension, are updated as by
    SGD and AdamW.
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
    scale = optax.scale_by_learning_rate(schedule)
    adam = optax.scale_by_adam(config.b1, config.b2)
    if config.kind == "sgd":
        parts += [decay, optax.sgd(schedule, momentum=config.momentum or None)]
    elif config.kind == "adamw":
        parts.append(optax.chain(adam, decay, scale))  # what optax.adamw is made of
    elif config.kind == "lars":
        trust = optax.scale_by_trust_ratio(trust_coefficient=config.trust)
        momentum = optax.trace(config.momentum)
        parts.append(optax.chain(decay, optax.masked(trust, _are_kernels), scale, momentum))
    else:
        trust = optax.masked(optax.scale_by_trust_ratio(), _are_kernels)
        parts.append(optax.chain(adam, decay, trust, scale))
    return optax.chain(*parts)


def _are_kernels(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)
