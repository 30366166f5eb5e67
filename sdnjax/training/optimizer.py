"""Optimizers with PyTorch's definitions and the polynomial schedule of the papers."""

from __future__ import annotations

import optax

from sdnjax.training.config import Optimizer


def poly_schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """`lr(t) = (lr₀ − lr_end)·(1 − t/T)^power + lr_end`, after an optional linear warm-up.

    `t` counts optimizer steps from 0 and T is `steps`; the warm-up is part of T and the
    decay runs over what remains.
    """
    decay = optax.polynomial_schedule(
        config.learning_rate,
        config.end_learning_rate,
        config.power,
        max(1, steps - config.warmup_steps),
    )
    if config.warmup_steps == 0:
        return decay
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, decay], [config.warmup_steps])


def make_optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """SGD with momentum or AdamW, as PyTorch defines them.

    SGD: `g ← g + wd·w; m ← μ·m + g; w ← w − lr·m` (decay enters the momentum). AdamW:
    decay is decoupled. Both decay every parameter.
    """
    schedule = poly_schedule(config, steps)
    parts = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    if config.kind == "sgd":
        parts.append(optax.add_decayed_weights(config.weight_decay))
        parts.append(optax.sgd(schedule, momentum=config.momentum or None))
    else:
        parts.append(optax.adamw(schedule, config.b1, config.b2, weight_decay=config.weight_decay))
    return optax.chain(*parts)
