"""Look a data set over, before anything is trained on it.

    python check.py configs/camvid_fcn_r18_sdn.py --data.dir FOLDER
    python check.py configs/camvid_fcn_r18_sdn.py --data.dir FOLDER --split val --out report

Reads every image and label of a split as training would and lists those that cannot be used:
unreadable files, sizes that differ, label values that mean nothing. Prints sizes, colours and the
share of every class, and writes pictures of augmented examples, of what the network will see.
The exit status is 1 if anything cannot be used, or no pixel has a class.
"""

from pathlib import Path

from sdnjax.commands.command_line import add_code, from_config, parse_experiment
from sdnjax.data.data_settings import dataset_of
from sdnjax.options import OneLineParser


def main() -> int:
    parser = OneLineParser(usage="python check.py CONFIG [options]", description=__doc__)
    parser.add_argument(
        "source",
        metavar="CONFIG",
        help="the configuration file that says how the data is used, or a work directory",
    )
    add_code(parser)
    parser.add_argument("--split", help="split to read [the setting data.train_split]")
    parser.add_argument("--out", type=Path, help="folder to write to [runs/check/DATA]")
    arguments, experiment = parse_experiment(
        parser, "configuration file", from_config, uses=("data", "seed")
    )

    from sdnjax.commands.check import check_split  # noqa: PLC0415  (imports TensorFlow: not for --help)

    data = experiment.data
    results = check_split(
        data,
        arguments.split or data.train_split,
        arguments.out or Path("runs/check") / dataset_of(data).name,
        seed=experiment.seed,
    )
    return 1 if results["unusable"] or results["nothing_labelled"] else 0
