"""Segment pictures with the network of a work directory.

    python predict.py runs/camvid_fcn_r18_sdn street.jpg
    python predict.py runs/camvid_fcn_r18_sdn photos/ --out segmented/

For each picture NAME.jpg it writes NAME_overlay.png (the classes in colour over the picture)
and NAME_labels.png (class indices, with the colours as palette), and once legend.png. It needs
the work directory alone, not the data set.
"""

import sys
from pathlib import Path

from sdnjax.config import OneLineParser
from sdnjax.runs.command_line import add_on_bad_image, parse_experiment, run
from sdnjax.runs.predict import predict_pictures
from sdnjax.runs.workdir import load_experiment


def main() -> None:
    parser = OneLineParser(
        usage="python predict.py WORKDIR PICTURE [PICTURE …] [options]", description=__doc__
    )
    parser.add_argument("workdir", type=Path, help="work directory of a run of train.py")
    parser.add_argument("pictures", type=Path, nargs="+", help="image files or folders of them")
    parser.add_argument("--out", type=Path, help="folder to write to [WORKDIR/predictions]")
    parser.add_argument("--step", type=int, help="step of the checkpoint [the latest]")
    parser.add_argument("--opacity", type=float, default=0.5, help="of the colours [0.5]")
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(parser, "work directory", load_experiment)

    predict_pictures(
        arguments.workdir,
        experiment,
        arguments.pictures,
        arguments.out or arguments.workdir / "predictions",
        step=arguments.step,
        opacity=arguments.opacity,
    )


if __name__ == "__main__":
    sys.exit(run(main))
