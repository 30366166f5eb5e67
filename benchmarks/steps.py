"""Train steps of whole networks on the devices at hand, beside what `plan.py` says of them.

    python -m benchmarks.steps --json FILE [--configs NAME ...] [--images N ...] [--target h100]

For each configuration, as it is and without its neck, and for each number of images on a device
(0: the recipe's own batch): the median time of a step, its share of the peak, the memory, and
whether the same step twice gives the same bits. Pictures, labels and parameters are random; the
step is the one that `train.py` runs, and reads nothing. The plan is made in the same process: the
operations, the least time by the figures of `--target`, and the memory that XLA says the program
needs, now that it could try its kernels on the device.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sdnjax.config_file import load_config
from sdnjax.data.data_settings import dataset_of
from sdnjax.experiment import Experiment
from sdnjax.models import Neck
from sdnjax.models.cost import live
from sdnjax.options import replaced
from sdnjax.planning.compiled import CompiledStep, trace_for
from sdnjax.planning.devices import parse_target
from sdnjax.planning.memory import memory_of
from sdnjax.planning.operations import operations
from sdnjax.planning.roofline import roofline
from sdnjax.recipe import Recipe
from sdnjax.training.sharding import data_mesh, on_every_device

ROOT = Path(__file__).parents[1]
CONFIGS = ("ade20k_fpn_r50_sdn", "ade20k_segmenter_vitb_sdn", "ade20k_fcn_r50_sdn")


@dataclass(frozen=True)
class Case:
    """A configuration with or without its neck, and the images of each device (0: its own)."""

    config: str
    neck: bool
    images: int

    def experiment(self) -> Experiment:
        one = load_config(ROOT / "configs" / f"{self.config}.py", Experiment)
        changes = {} if self.neck else {"model.neck": Neck(operator="none")}
        if self.images:
            changes["batch_size"] = self.images * jax.device_count()
        return replaced(one, changes)


@dataclass(frozen=True)
class Compiling:
    """A step whose program is being compiled."""

    experiment: Experiment
    recipe: Recipe
    state: Any
    batch: Any
    constants: Any
    jaxpr: Any
    executable: Future


def compiling(case: Case, pool: ThreadPoolExecutor) -> Compiling:
    """Traces the step here, and has it compiled while the next one is traced."""
    experiment = case.experiment()
    recipe = experiment.build(dataset_of(experiment.data).label_space.num_classes)
    mesh = data_mesh(experiment.batch_size)
    traced, *shapes = trace_for(recipe, mesh, experiment.batch_size)
    with jax.set_mesh(mesh):
        lowered = traced.lower()

    def compiled():
        with jax.set_mesh(mesh):
            start = time.perf_counter()
            return lowered.compile(), time.perf_counter() - start

    return Compiling(experiment, recipe, *shapes, live(traced.jaxpr), pool.submit(compiled))


def filled(abstract: Any, classes: int) -> Any:
    """Values for shapes: small random parameters, random pictures, some void, statistics of 1."""
    rng = np.random.default_rng(0)

    def value(path: Any, x: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if "label" in name:
            array = rng.integers(0, classes + 1, x.shape)
            array[array == classes] = 255
        elif ".params" in name:
            array = 0.02 * rng.standard_normal(x.shape, np.float32)
        elif "image" in name:
            array = rng.standard_normal(x.shape, np.float32)
        else:
            array = np.full(x.shape, ".batch_stats" in name)
        return jax.device_put(np.asarray(array, x.dtype), x.sharding)

    return jax.tree_util.tree_map_with_path(value, abstract)


def digest(state: Any) -> str:
    """Of all numbers of a state, to compare processes by."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def measured(one: Compiling, target: str, rounds: int, steps: int) -> dict[str, Any]:
    """The row of one step."""
    executable, seconds = one.executable.result()
    described = CompiledStep(
        one.state, one.batch, one.constants, one.jaxpr, executable, None, 0, seconds
    )
    counted = operations(one.jaxpr)
    batch, state = filled((one.batch, one.state), one.recipe.num_classes)
    mesh = jax.tree.leaves(state)[0].sharding.mesh
    held = (on_every_device(one.recipe.constants, mesh),) if jax.tree.leaves(one.constants) else ()
    kept = jax.tree.map(np.asarray, state)  # on the host: the step takes the device's for itself
    state, metrics = executable(state, batch, *held)
    losses, times = [float(metrics["loss"])], []
    first = digest(state)
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(steps):
            state, metrics = executable(state, batch, *held)
        losses.append(float(metrics["loss"]))
        times.append((time.perf_counter() - start) / steps)
    del state
    again = jax.tree.map(lambda x, y: jax.device_put(x, y.sharding), kept, one.state)
    again, _ = executable(again, batch, *held)
    ms, size = 1e3 * statistics.median(times), one.experiment.batch_size
    place = parse_target(f"{target}:{jax.device_count()}")
    least = roofline(place, counted, {}, one.experiment.steps)
    return {
        "batch_size": size,
        "image_size": list(one.recipe.image_size),
        "dtype": one.experiment.model.dtype,
        "ms": ms,
        "ms_of_rounds": [1e3 * t for t in times],
        "images_per_s": 1e3 * size / ms,
        "tflops_per_s": counted["flops"] / ms / 1e9 / jax.device_count(),
        "least_ms": 1e3 * least["lower"] if least else None,
        "share_of_peak": 1e3 * least["compute"] / ms if least else None,
        "memory": memory_of(described),
        "operations": counted,
        "same_bits": digest(again) == first,
        "digest": first,
        "losses": losses,
        "seconds_to_compile": round(seconds, 1),
    }


def rows(cases: list[Case], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One after the other; nothing is timed before all are compiled."""
    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for case in cases:
            try:
                waiting.append((case, compiling(case, pool)))
            except Exception as error:  # the others are results all the same
                waiting.append((case, error))
    for case, one in waiting:
        row = {"config": case.config, "neck": case.neck}
        try:
            if isinstance(one, Exception):
                raise one
            row |= measured(one, options.target, options.rounds, options.steps)
        except Exception as error:
            print(f"{case}: broke off")
            traceback.print_exc(limit=-6)
            yield row | {"error": f"{type(error).__name__}: {error}"[:1000]}
            continue
        print(
            f"{case.config:28} {'neck' if case.neck else 'none'} batch {row['batch_size']:3} "
            f"{row['ms']:8.2f} ms {row['images_per_s']:7.1f} images/s "
            f"{row['tflops_per_s']:6.1f} TFLOP/s least {row['least_ms'] or 0:6.2f} ms "
            f"{row['memory']['total'] / 2**30:6.2f} GiB same bits {row['same_bits']} "
            f"{row['digest']} loss {row['losses'][0]:.3f} "
            f"compiled {row['seconds_to_compile']:.0f} s",
            flush=True,
        )
        yield row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="where the rows go")
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="NAME")
    parser.add_argument("--images", nargs="+", type=int, default=[0, 2], metavar="N")
    parser.add_argument("--with-neck-only", action="store_true")
    parser.add_argument("--target", default="h100", help="whose peaks to compare with [h100]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="of each round")
    options = parser.parse_args()
    necks = (True,) if options.with_neck_only else (False, True)
    cases = [
        Case(name, neck, images)
        for images in options.images
        for name in options.configs
        for neck in necks
    ]
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {jax.device_count()} × {device}")
    found: list[dict[str, Any]] = []
    for row in rows(cases, options):
        found.append(row)
        held = {"jax": jax.__version__, "device": device, "target": options.target, "rows": found}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(held, indent=1) + "\n")
    return 1 if any("error" in row for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
