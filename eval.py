"""Evaluate the network of a work directory on its validation split.

    python eval.py runs/shapes_fcn_r18_sdn
    python eval.py runs/camvid_fcn_r18_sdn --evaluation.scales .5,.75,1,1.25,1.5,1.75,2 \\
        --evaluation.flip true
    python eval.py runs/cityscapes_fcn_r50_sdn --evaluation.mode slide

Without options it repeats the validation of the training run, to the last digit. It prints
the table and writes the scores as JSON into the work directory.
"""

import sys
from pathlib import Path

from sdnjax.config import OneLineParser
from sdnjax.runs.command_line import add_on_bad_image, parse_experiment, run
from sdnjax.runs.workdir import load_experiment


def main() -> None:
    parser = OneLineParser(usage="python eval.py WORKDIR [options]", description=__doc__)
    parser.add_argument("workdir", type=Path, help="work directory of a run of train.py")
    parser.add_argument("--step", type=int, help="step of the checkpoint [the latest]")
    parser.add_argument("--split", help="split to evaluate [the setting data.val_split]")
    parser.add_argument("--out", type=Path, help="JSON file to write [WORKDIR/evaluation/…]")
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(parser, "work directory", load_experiment)

    from sdnjax.runs.evaluate import evaluate_run  # noqa: PLC0415  (imports TensorFlow: not for --help)

    evaluate_run(
        arguments.workdir,
        experiment,
        step=arguments.step,
        split=arguments.split,
        out=arguments.out,
    )


if __name__ == "__main__":
    sys.exit(run(main))
