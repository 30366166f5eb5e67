"""`Study`: what a study file decides."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdnjax.config_file import load_made
from sdnjax.errors import InputError, unknown
from sdnjax.experiment import Experiment
from sdnjax.options import replaced
from sdnjax.settings import differences, fields_of, is_section, own_objects, to_dict

# What a variant changes of the base: values by their dotted keys, or a function that does it.
Variant = Mapping[str, Any] | Callable[[Experiment], Experiment]

METRICS = (
    *("mIoU", "boundary_f.1px", "boundary_f.3px"),
    *("trimap_iou.1px", "trimap_iou.3px", "trimap_iou.10px"),
    *("error_inside.3px", "error_outside.3px"),
)


@dataclass(frozen=True)
class Study:
    """Variants of one experiment, each run with every seed.

    **Pairs.** Runs with one seed see the same pictures in the same order with the same crops and
    augmentation, and begin with the same values wherever two networks have a parameter of the
    same path and shape: order and augmentation follow from the seed, the step and the data
    settings alone, an initial value from the seed and the path of its module. So differences
    between variants are taken seed by seed.

    Attributes:
      name: its work directory is studies/NAME.
      base: the experiment that all variants have in common; its name and seed are not used.
      variants: name → what it changes of the base, {"model.neck": Neck("sdc")}, {} for nothing, or
        a function from experiment to experiment. A variant has precedence over the command line.
      seeds: of the runs of each variant.
      baseline: the variant that the others are compared with.
      metrics: scores of the validation that are compared, as `Experiment.keep_best` names them.
      chosen: the variants that the command runs if `--variants` names no others; () for all.
      code: the study file, see `Experiment.code`.

    Raises: InputError for what makes no study.
    """

    name: str
    base: Experiment
    variants: Mapping[str, Variant]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    baseline: str = "none"
    metrics: tuple[str, ...] = METRICS
    chosen: tuple[str, ...] = ()
    code: Path | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.base, Experiment):
            raise InputError(f"base must be an Experiment, not {type(self.base).__name__}")
        for name in (self.name, *self.variants):
            # They become folders.
            if not re.fullmatch(r"\w[\w.+=-]*", str(name)):
                raise InputError(f"{name!r} is no name: letters, digits and . + = - _ are")
        if self.baseline not in self.variants:
            raise unknown("baseline: there is no variant", self.baseline, self.variants)
        for name in self.chosen:
            if name not in self.variants:
                raise unknown("chosen: there is no variant", name, self.variants)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds must be different numbers, at least one, not {self.seeds}")
        if not self.metrics:
            raise InputError("metrics is empty: name a score that is compared, such as mIoU")
        if self.base.data.val_split is None:
            raise InputError("data.val_split is none: a study compares scores of a validation")
        self._check_variants()

    def _check_variants(self) -> None:
        """InputError for a variant that cannot be made, or that is another one."""
        seen: dict[str, str] = {}
        for name in self.variants:
            values = to_dict(dataclasses.replace(self.experiment(name, 0), name=self.name))
            # Two functions may have one description and differ.
            same = None if own_objects(values) else seen.setdefault(str(values), name)
            if same not in (None, name):
                raise InputError(f"variants {same} and {name} are the same experiment")

    def experiment(self, variant: str, seed: int) -> Experiment:
        """The run of a variant with a seed."""
        if variant not in self.variants:
            raise unknown("there is no variant", variant, self.variants)
        change = self.variants[variant]
        if callable(change):
            found = change(self.base)
            if not isinstance(found, Experiment):
                raise InputError(
                    f"variant {variant} returned {type(found).__name__}, not an Experiment"
                )
        elif isinstance(change, Mapping):
            for key in change:
                _check_key(self.base, key, f"variant {variant}")
            try:
                found = replaced(self.base, dict(change))
            except InputError as error:
                raise InputError(f"variant {variant}: {error}") from None
        else:
            raise InputError(
                f"variant {variant} must be {{key: value}} of what it changes, or a function of "
                f"the base, not {type(change).__name__}"
            )
        found = dataclasses.replace(found, name=f"{self.name}_{variant}", seed=seed)
        return self._with_code(found).resolved()

    def _with_code(self, experiment: Experiment) -> Experiment:
        if self.code is None or not own_objects(to_dict(experiment)):
            return experiment
        return dataclasses.replace(experiment, code=self.code)

    @property
    def names(self) -> dict[str, str]:
        """What the runs of each variant are called → the variant."""
        return {f"{self.name}_{variant}": variant for variant in self.variants}

    def named(self, name: str) -> Experiment:
        """The experiment of the variant whose runs are called `name`, with the first seed."""
        if name not in self.names:
            raise unknown("the study has no run called", name, self.names)
        return self.experiment(self.names[name], self.seeds[0])

    def changes(self, variant: str) -> list[str]:
        """A phrase for every setting in which a variant differs from the baseline."""
        baseline = self.experiment(self.baseline, 0)
        ours = dataclasses.replace(self.experiment(variant, 0), name=baseline.name)
        return [d.removesuffix(" here") for d in differences(baseline, ours)]

    def same_training(self, variant: str, other: str) -> bool:
        """Whether two variants differ in their evaluation alone: one training serves both."""
        ours, theirs = self.experiment(variant, 0), self.experiment(other, 0)
        if ours.stop_after is not None:
            return False  # scores decide when training ends
        return ours == dataclasses.replace(theirs, name=ours.name, evaluation=ours.evaluation)

    def unpaired(self) -> dict[str, list[str]]:
        """The variants that see other batches than the baseline, and the settings that do it."""
        found = {
            variant: [c for c in self.changes(variant) if c.startswith(("data.", "batch_size "))]
            for variant in self.variants
        }
        return {variant: changes for variant, changes in found.items() if changes}


def load_study(path: str | Path) -> Study:
    """Runs a study file's `study()`; errors are those of `load_config`."""
    study = load_made(path, "study", Study)
    return dataclasses.replace(study, code=Path(path).resolve())


def _check_key(config: Any, key: str, where: str) -> None:
    """InputError with the nearest key if there is no such setting."""
    at = config
    for part in str(key).split("."):
        if isinstance(at, tuple) and part.isdecimal() and int(part) < len(at):
            at = at[int(part)]
            continue
        names = [f.name for f in fields_of(at)] if is_section(at) else []
        if part not in names:
            raise unknown(f"{where}: there is no setting {key}: no", part, names)
        at = getattr(at, part)
