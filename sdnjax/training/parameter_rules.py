"""Learning rate and weight decay of single parameters, and parameters that stay as they are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import optax
from jax import lax

from sdnjax.errors import InputError, did_you_mean
from sdnjax.settings import check_types, setting


@dataclass(frozen=True)
class ParameterRule:
    """What holds for the parameters that it matches; the factors of all that match are multiplied.

    `ParameterRule("backbone/", learning_rate=0.1)` is mmsegmentation's
    `custom_keys={"backbone": dict(lr_mult=0.1)}`, and `ParameterRule(most_dims=1,
    weight_decay=0.0)` timm's rule that norms and biases do not decay. (Of mmsegmentation's keys
    only the longest that matches counts; here a narrower rule says what differs.)

    The parameters of a frozen part are not changed and have no optimizer state; its batch norms
    use their running statistics and leave them as they are (mmsegmentation's `frozen_stages`).
    `frozen_statistics` does the latter alone (its `norm_eval`).
    """

    pattern: str = setting(
        "", "regular expression found in a parameter's path (backbone/stage1_block0/…); empty: all"
    )
    most_dims: int | None = setting(
        None, "only parameters of at most so many dimensions; none: of any", least=0
    )
    learning_rate: float = setting(1.0, "factor of the learning rate", least=0)
    weight_decay: float = setting(1.0, "factor of the weight decay", least=0)
    frozen: bool = setting(False, "the parameters stay as they are")
    frozen_statistics: bool = setting(
        False, "batch norms use their running statistics and keep them, as where all is frozen"
    )

    def __post_init__(self) -> None:
        check_types(self)
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InputError(f"rules: {self.pattern!r} is no regular expression: {error}") from None
        held = self.frozen or self.frozen_statistics
        if (self.learning_rate, self.weight_decay) == (1, 1) and not held:
            raise InputError(f"rules: the one for {self.pattern or 'all'} changes nothing")

    def matches(self, path: str, dims: int) -> bool:
        """Whether it holds for the parameter at `path`, `decoder/classifier/kernel`."""
        fits = self.most_dims is None or dims <= self.most_dims
        return fits and re.search(self.pattern, path) is not None


Rules = Sequence[ParameterRule]


def layer_decay(patterns: Sequence[str], rate: float) -> tuple[ParameterRule, ...]:
    """Rules under which the rate falls from layer to layer towards the input.

    Args:
      patterns: of the layers, from the input on. What none of them matches, such as the decoder,
        has the full rate, the last of them `rate` times it, the one before `rate²`.

    For ViTs this is BEiT's rule (and mmsegmentation's `LearningRateDecayOptimizerConstructor`
    with `decay_type="layer_wise"`), see `vit_layers`.
    """
    count = len(patterns)
    return tuple(
        ParameterRule(pattern, learning_rate=rate ** (count - i))
        for i, pattern in enumerate(patterns)
    )


def vit_layers(depth: int) -> tuple[str, ...]:
    """Patterns of a ViT's layers for `layer_decay`: embeddings, then every block."""
    embeddings = r"^backbone/(patch_embedding|class_token|position_embedding)"
    return (embeddings, *(rf"^backbone/block{i}/" for i in range(depth)))


def factors(rules: Rules, path: str, dims: int) -> tuple[float, float]:
    """The factors of the learning rate and of the weight decay of one parameter."""
    found = [rule for rule in rules if rule.matches(path, dims)]
    rate = math.prod(rule.learning_rate for rule in found)
    return rate, math.prod(rule.weight_decay for rule in found)


def without_gradient(rules: Rules, params: Any) -> Any:
    """The parameters, those that are frozen as constants: nothing computes a gradient for them."""
    return _map(
        lambda path, x: lax.stop_gradient(x) if is_frozen(rules, path, x.ndim) else x, params
    )


def is_frozen(rules: Rules, path: str, dims: int) -> bool:
    """Whether a rule freezes the parameter."""
    return any(rule.frozen and rule.matches(path, dims) for rule in rules)


def keeps_statistics(rules: Rules, path: str) -> bool:
    """Whether the batch norm at `path` uses its running statistics in training."""
    scale = f"{path}/scale"
    held = any(rule.frozen_statistics and rule.matches(scale, 1) for rule in rules)
    return held or is_frozen(rules, scale, 1)


def check_rules(rules: Rules, params: Any) -> None:
    """Raises InputError for a rule that matches no parameter, and if nothing is left to train."""
    leaves = _leaves(params)
    for rule in rules:
        if not any(rule.matches(path, dims) for path, dims in leaves):
            parts = {part for path, _ in leaves for part in path.split("/")}
            hint = did_you_mean(rule.pattern.strip("^$/"), sorted(parts))
            raise InputError(
                f"optimizer.rules: {rule.pattern!r} matches no parameter{hint or ''}; paths are "
                f"like {leaves[0][0]}"
            )
    if all(is_frozen(rules, path, dims) for path, dims in leaves):
        raise InputError("optimizer.rules: every parameter is frozen")


def groups(rules: Rules, params: Any) -> list[str]:
    """One line for each set of parameters that are trained alike."""
    counts: dict[str, list[int]] = {}
    for (path, dims), leaf in zip(_leaves(params), jax.tree.leaves(params), strict=True):
        rate, decay = factors(rules, path, dims)
        what = f"learning rate × {rate:.4g}, weight decay × {decay:.4g}"
        what = "frozen" if is_frozen(rules, path, dims) else what
        counts.setdefault(what, []).append(math.prod(leaf.shape))
    return [
        f"{len(sizes)} tensors, {sum(sizes) / 1e6:.2f} M parameters: {what}"
        for what, sizes in counts.items()
    ]


def with_rules(
    rules: Rules,
    weight_decay: float,
    optimizer: Callable[[optax.GradientTransformation], optax.GradientTransformation],
) -> optax.GradientTransformation:
    """An optimizer for the parameters that are not frozen, whose updates have their factors.

    Args:
      weight_decay: before its factors.
      optimizer: makes the whole optimizer of the transformation by which weights decay.

    Raises: InputError, when its state is made, for a rule that matches no parameter.
    """

    def decay_factors(params: Any) -> Any:
        return _map(lambda path, x: weight_decay * factors(rules, path, x.ndim)[1], params)

    def trained(tree: Any) -> Any:
        return _map(lambda path, x: not is_frozen(rules, path, x.ndim), tree)

    def frozen(tree: Any) -> Any:
        return jax.tree.map(lambda on: not on, trained(tree))

    def decay(updates: Any, params: Any) -> Any:
        # Leaves that are masked are no arrays, and stay.
        return jax.tree.map(lambda u, p, f: u + f * p, updates, params, decay_factors(params))

    def scale(updates: Any, params: Any) -> Any:
        rates = _map(lambda path, x: factors(rules, path, x.ndim)[0], params)
        return jax.tree.map(lambda u, f: u * f, updates, rates)

    inner = optax.chain(
        optimizer(optax.stateless(decay)),
        optax.stateless(scale),
    )
    whole = optax.chain(optax.masked(optax.set_to_zero(), frozen), optax.masked(inner, trained))

    def init(params: Any) -> Any:
        check_rules(rules, params)
        return whole.init(params)

    return optax.GradientTransformation(init, whole.update)


def _map(function: Callable[[str, Any], Any], tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, x: function(jax.tree_util.keystr(path, simple=True, separator="/"), x), tree
    )


def _leaves(params: Any) -> list[tuple[str, int]]:
    """Path and number of dimensions of every parameter."""
    return jax.tree.leaves(
        _map(lambda path, x: (path, len(x.shape)), params), is_leaf=lambda x: isinstance(x, tuple)
    )
