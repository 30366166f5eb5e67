"""Train FCN-R18 with and without SDN on `shapes` and compare them, in a few minutes on a CPU.

    make demo

Both networks see the same batches for the same number of steps. Prints one table and writes
`runs/demo/comparison.png`: image, truth, both predictions, both error maps.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from sdnjax.commands.command_line import run
from sdnjax.commands.train import train
from sdnjax.commands.trained import Trained, count_parameters, load_network
from sdnjax.config_file import load_config
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.sources import open_source
from sdnjax.experiment import Experiment
from sdnjax.training.metrics_log import read_metrics
from sdnjax.training.sharding import data_mesh, to_global
from sdnjax.visualize import colorize, error_map, legend, panel, save_png

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = {"without SDN": "shapes_fcn_r18", "with SDN": "shapes_fcn_r18_sdn"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, help="of each training [the configuration's]")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="[runs/demo]")
    arguments = parser.parse_args()

    networks, scores = {}, {}
    for title, name in NAMES.items():
        experiment = load_config(CONFIGS / f"{name}.py", Experiment)
        if arguments.steps:
            experiment = dataclasses.replace(experiment, steps=arguments.steps)
        workdir = arguments.out / name
        state = train(experiment, workdir, overwrite=True)
        if int(state.step) < experiment.steps:
            raise KeyboardInterrupt
        networks[title] = load_network(workdir)
        scores[title] = read_metrics(workdir)[-1]["val"]

    seconds = time_per_step(networks)
    print("\n" + table(networks, scores, seconds))
    comparison(networks, arguments.out)
    (arguments.out / "results.json").write_text(
        json.dumps({"seconds_per_step": seconds, "validation": scores}, indent=1) + "\n"
    )
    print(f"pictures: {arguments.out / 'comparison.png'}, {arguments.out / 'legend.png'}")


def time_per_step(networks: dict[str, Trained], rounds: int = 9) -> dict[str, float]:
    """Median seconds of a train step of each network, their steps taking turns."""
    ready = {}
    for title, network in networks.items():
        e, recipe = network.experiment, network.experiment.build(len(network.classes))
        mesh = data_mesh(e.batch_size)
        step = recipe.compiled_step(mesh)
        own = jax.tree.map(jnp.copy, network.variables)  # the step takes its state's memory
        state = recipe.init_state(own)
        with train_batches(e.data, seed=1, batch_size=e.batch_size) as batches:
            batch = to_global(next(batches), mesh)
        ready[title] = [step, step(state, batch)[0], batch]
    times: dict[str, list[float]] = {title: [] for title in ready}
    for _ in range(rounds):
        for title, (step, state, batch) in ready.items():
            begin = time.perf_counter()
            ready[title][1] = jax.block_until_ready(step(state, batch)[0])
            times[title].append(time.perf_counter() - begin)
    return {title: statistics.median(t) for title, t in times.items()}


def table(networks: dict, scores: dict, seconds: dict) -> str:
    """One row per network and the difference between them."""
    columns = ("mIoU", "F 1 px", "F 3 px", "parameters", "time per step")
    values = {
        title: (
            100 * scores[title]["mIoU"],
            100 * scores[title]["boundary_f"]["1px"],
            100 * scores[title]["boundary_f"]["3px"],
            count_parameters(network.variables["params"]) / 1e6,
            1e3 * seconds[title],
        )
        for title, network in networks.items()
    }
    formats = ("{:.2f}", "{:.2f}", "{:.2f}", "{:.2f} M", "{:.0f} ms")
    lines = [f"{'FCN-R18':<12}" + "".join(f"{c:>16}" for c in columns)]
    for title, row in values.items():
        cells = [f.format(v) for f, v in zip(formats, row, strict=True)]
        lines.append(f"{title:<12}" + "".join(f"{c:>16}" for c in cells))
    before, after = values.values()
    gain = [f"{b - a:+.2f}" for a, b in zip(before[:3], after[:3], strict=True)]
    cost = [f"× {b / a:.2f}" for a, b in zip(before[3:], after[3:], strict=True)]
    lines.append(f"{'difference':<12}" + "".join(f"{c:>16}" for c in [*gain, *cost]))
    return "\n".join(lines)


def comparison(networks: dict[str, Trained], out: Path, scenes: int = 5) -> None:
    """The sheet of pictures, from the first validation scenes."""
    first = next(iter(networks.values()))
    data, palette = first.experiment.data, first.palette
    source = open_source(data, data.val_split)
    examples = [source[i] for i in range(scenes)]
    images = [e.image for e in examples]
    rows = [[e.image, colorize(e.label, palette)] for e in examples]
    errors: list[list] = [[] for _ in examples]
    for network in networks.values():
        protocol = dataclasses.replace(network.experiment.evaluation, batch_size=scenes)
        predictor = network.predictor(protocol)
        labels = predictor.labels(predictor.place(network.variables), images)
        for i, (example, label) in enumerate(zip(examples, labels, strict=True)):
            rows[i].append(colorize(label, palette))
            errors[i].append(error_map(example.label, label))
    titles = ["image", "truth", *networks, *(f"errors {title}" for title in networks)]
    sheet = panel([row + error for row, error in zip(rows, errors, strict=True)], titles, scale=2)
    save_png(out / "comparison.png", sheet)
    save_png(out / "legend.png", legend(first.classes, palette))


if __name__ == "__main__":
    sys.exit(run(main))
