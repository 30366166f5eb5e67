"""A small study on generated scenes, in minutes on a CPU: does SDN help, by more than chance?

    make demo

Trains SemanticFPN on ResNet-18 without a neck and with SDN, three times each and shortly, as
`study.py configs/studies/shapes_operators.py` does with more operators, seeds and steps. It prints
the study's tables and what they allow one to say, and writes
`runs/demo/comparison.png`: image, truth, predictions, and where they err. Called again it goes on
where it was stopped.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sdnjax.commands.command_line import run
from sdnjax.commands.trained import Trained, load_network
from sdnjax.data.sources import open_source
from sdnjax.visualize import colorize, error_map, legend, panel, save_png

ROOT = Path(__file__).parents[1]
VARIANTS = {"none": "no neck", "sdc": "SDN"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=60, help="of each training [%(default)s]")
    parser.add_argument("--seeds", default="0,1,2", help="[%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="[%(default)s]")
    arguments = parser.parse_args()
    out = arguments.out
    study = ROOT / "configs" / "studies" / "shapes_operators.py"
    command = [sys.executable, str(ROOT / "study.py"), str(study), "--workdir", str(out)]
    command += ["--variants", ",".join(VARIANTS), "--seeds", arguments.seeds]
    command += ["--steps", str(arguments.steps), "--jobs", str(min(2, os.cpu_count() or 1))]
    status = subprocess.run(command, check=False).returncode
    if status:
        return status
    found = json.loads(out.with_name(f"{out.name}.json").read_text())
    print("\n".join(conclusions(found)))
    first = arguments.seeds.split(",")[0]
    networks = {
        title: load_network(out / variant / f"seed{first}") for variant, title in VARIANTS.items()
    }
    comparison(networks, out)
    print(f"pictures of seed {first}: {out / 'comparison.png'}, {out / 'legend.png'}")
    return 0


def conclusions(found: dict[str, Any]) -> list[str]:
    """For each variant and score whether the interval of its difference leaves 0 out."""
    lines = []
    for variant, title in VARIANTS.items():
        if variant == found["baseline"]:
            continue
        for metric in ("mIoU", "boundary_f.1px", "boundary_f.3px"):
            entry = found["variants"][variant]["metrics"][metric]
            difference, half = entry["difference"], entry["half_width"]
            if half is None:
                lines.append(f"{title}, {metric}: one seed, {difference:+.2f}, says nothing")
                continue
            says = "no difference can be seen at this size"
            if abs(difference) > half:
                says = "better" if difference > 0 else "worse"
            lines.append(f"{title}, {metric}: {difference:+.2f} ± {half:.2f}: {says}")
    return lines


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
    titles = ["image", "truth", *networks, *(f"errors, {title}" for title in networks)]
    sheet = panel([row + error for row, error in zip(rows, errors, strict=True)], titles, scale=2)
    save_png(out / "comparison.png", sheet)
    save_png(out / "legend.png", legend(first.classes, palette))


if __name__ == "__main__":
    sys.exit(run(main))
