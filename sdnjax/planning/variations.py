"""What may make a step fit: other settings of the same experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.options import replaced
from sdnjax.settings import settings
from sdnjax.training.sharding import fully_sharded, replicate


@dataclasses.dataclass(frozen=True)
class Variation:
    """Settings that take less memory, and what they are in words."""

    name: str
    overrides: Mapping[str, Any]

    def of(self, experiment: Experiment) -> Experiment:
        """Raises: InputError where the settings do not go together."""
        return replaced(experiment, dict(self.overrides))

    def __add__(self, other: Variation) -> Variation:
        return Variation(f"{self.name}, {other.name}", {**self.overrides, **other.overrides})


def variations(experiment: Experiment, devices: int) -> list[Variation]:
    """Those that change something, what changes the result least first.

    A setting that the experiment does not have, as one whose network is a function, is left out.
    """
    known = {s.key: s.value for s in settings(experiment)}
    images = experiment.batch_size // devices
    found = []
    if experiment.state_sharding is replicate and devices > 1:
        found.append(Variation("state_sharding fully_sharded", {"state_sharding": fully_sharded}))
    if experiment.remat == "none":
        found.append(Variation("remat blocks", {"remat": "blocks"}))
    if experiment.accumulate == 1 and images > 1:
        parts = next(n for n in range(2, images + 1) if images % n == 0)
        found.append(Variation(f"accumulate {parts}", {"accumulate": parts}))
    if known.get("model.dtype") == "float32":
        found.append(Variation("model.dtype bfloat16", {"model.dtype": "bfloat16"}))
    if images > 1:
        fewer = images // 2
        found.append(Variation(f"--per-device {fewer}", {"batch_size": fewer * devices}))
    return found


def tried(
    experiment: Experiment,
    options: Sequence[Variation],
    total: Callable[[Experiment], int],
    limit: int | None,
) -> Iterator[tuple[Variation, int]]:
    """Each variation alone with the bytes that it takes, then what fits together.

    If none fits alone, those that save most are put together, one more each time, until they do.
    """
    alone = []
    for option in options:
        alone.append((option, total(option.of(experiment))))
        yield alone[-1]
    if limit is None or not alone or min(taken for _, taken in alone) <= limit:
        return
    (together, _), *rest = sorted(alone, key=lambda one: one[1])
    for option, _ in rest:
        try:
            changed = (together + option).of(experiment)
        except InputError:  # parts of a batch that has become too small
            continue
        together = together + option
        taken = total(changed)
        yield together, taken
        if taken <= limit:
            return
