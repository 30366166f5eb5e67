"""What a recipe needs on machines that one does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdnjax.data.data_settings import dataset_of
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.files import write_atomically
from sdnjax.options import replaced
from sdnjax.planning.devices import Target
from sdnjax.planning.memory import usable
from sdnjax.planning.plan import plan_of
from sdnjax.planning.report import format_plan, format_variations
from sdnjax.planning.variations import tried, variations

# What of an experiment the step depends on, and how long it runs.
USES = (
    *("model", "losses", "optimizer", "steps", "batch_size", "accumulate", "ema_decay"),
    *("batch_norm_images", "remat", "data.name", "data.crop_size", "data.channels"),
    *("data.mean", "data.std", "data.augment_on", "data.transfer"),
)
PER_DEVICE = 2


def plan(
    experiment: Experiment,
    target: Target,
    *,
    classes: int | None = None,
    per_device: int | None = None,
    vary: bool | None = None,
    out: Path | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Plans an experiment on a target, prints the plan and returns it.

    Args:
      classes: K; None for that of the data set.
      per_device: images on each device; None for the experiment's batch.
      vary: try what takes less memory; None: if the step does not fit.
      out: JSON file to write the plan to.
      report: takes what is meant for people.

    Raises: InputError for a number of classes that is not known, a compiler that is not
      installed, or a file that is there and is no plan.
    """
    k, mirrored = _classes(experiment, classes)
    if out is not None:
        _check_is_ours(out)
    experiment, notes = with_batch(experiment, target, per_device)
    if experiment.data.augment_on == "device":
        notes += ["data.augment_on is device: planned without what augmenting there takes"]
    for note in notes:
        report(note)
    report(f"compiling for {target.text}, which may take minutes")

    def planned(one: Experiment) -> dict[str, Any]:
        return plan_of(one.build(k, mirrored=mirrored), target, one.batch_size, one.steps)

    found = planned(experiment)
    found = {"name": experiment.name, "notes": notes, **found, "variations": []}
    report(format_plan(found, target))
    if found["fits"] is False if vary is None else vary:
        limit = usable(target.device)
        options = variations(experiment, target.count)
        for variation, total in tried(
            experiment, options, lambda one: planned(one)["memory"]["total"], limit
        ):
            fits = None if limit is None else total <= limit
            found["variations"].append({"variation": variation.name, "total": total, "fits": fits})
        if found["variations"]:
            report(format_variations(found["variations"]))
        else:
            report("there is nothing that takes less")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, json.dumps(found, indent=1) + "\n")
        report(f"written to {out}")
    return found


def with_batch(
    experiment: Experiment, target: Target, per_device: int | None
) -> tuple[Experiment, list[str]]:
    """The experiment with a batch that splits over the target, and what has to be said about it."""
    own, parts = experiment.batch_size, experiment.accumulate
    if per_device is None and own % (target.count * parts) == 0:
        return experiment, []
    if per_device is not None and (per_device < 1 or per_device % parts):
        multiple = f" and a multiple of accumulate, {parts}" if parts > 1 else ""
        raise InputError(f"--per-device must be at least 1{multiple}, not {per_device}")
    images = per_device or max(PER_DEVICE, parts)
    if per_device is None:
        images = -(-images // parts) * parts
    batch = images * target.count
    if batch == own:
        return experiment, []
    why = "--per-device" if per_device else f"{own} does not split over {target.count} devices"
    note = (
        f"planned with a batch of {batch}, {images} on each device, not the recipe's {own} "
        f"({why}); its steps are those for its own batch"
    )
    return replaced(experiment, {"batch_size": batch}), [note]


def _classes(experiment: Experiment, given: int | None) -> tuple[int, tuple[int, ...] | None]:
    """K and the classes of the mirror image, without the data being there."""
    if given is not None:
        if given < 2:
            raise InputError(f"--classes must be at least 2, not {given}")
        return given, None
    data_set = dataset_of(experiment.data)
    space = data_set.label_space
    if not isinstance(space, LabelSpace):
        raise InputError(f"the classes of {data_set.name} are in its folder: give --classes K")
    return space.num_classes, space.mirrored


def _check_is_ours(path: Path) -> None:
    if not path.exists():
        return
    try:
        held = json.loads(path.read_text())
        is_plan = {"target", "memory", "operations"} <= held.keys()
    except (OSError, ValueError, AttributeError):
        is_plan = False
    if not is_plan:
        raise InputError(f"--json {path}: it is there and no plan of ours; name another file")
