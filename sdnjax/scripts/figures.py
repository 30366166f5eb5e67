"""Figures of the papers, of your own networks and data.

    python figures.py class-weights RUN [RUN …]    do classes that meet have similar weights?
    python figures.py network RUN PICTURE […]      what a network does inside
    python figures.py errors RUN [RUN …]           where networks are wrong, side by side
    python figures.py operators RUN [RUN …] --pictures PICTURE […]   what their necks respond to
    python figures.py similarities RUN [RUN …]     whether SDC's S is low at boundaries
    python figures.py segfix RUN SEGFIX            directions, and labels moved along them

`python figures.py VERB --help` tells the rest.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sdnjax.commands.class_weights import compare_class_weights
from sdnjax.commands.command_line import (
    PICTURES,
    VALIDATION,
    add_code,
    add_step,
    from_workdir,
    parse_experiment,
    run_verb,
    verb_parser,
)
from sdnjax.commands.directions import Directions
from sdnjax.commands.error_maps import compare_errors
from sdnjax.commands.figures import draw_network
from sdnjax.commands.operators import compare_operators
from sdnjax.commands.segfix_figure import draw_segfix
from sdnjax.commands.similarities import similarities
from sdnjax.commands.trained import Trained, load_network
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.options import OneLineParser


def class_weights_command(argv: Sequence[str]) -> int:
    """Cosines of class weights at boundaries (E-CRF, Fig. 1a), several runs in one picture.

    python figures.py class-weights runs/baseline runs/ecrf --out figures

    For each class, the one that it has the most neighbouring pixels with, in the labels of the
    first run's training split, and the cosine of the weights of both in every run: the mean over
    classes is printed, class_weights.csv and class_weights.png are written.
    """
    parser = verb_parser("figures.py class-weights RUN [RUN …] [options]", class_weights_command)
    _add_runs(parser)
    parser.add_argument("--split", help="split whose labels are counted [data.train_split]")
    arguments, experiment = _parsed(parser, argv, ("data",))
    compare_class_weights(
        _runs(arguments, experiment),
        experiment.data,
        arguments.split or experiment.data.train_split,
        arguments.out or arguments.workdir / "figures",
    )
    return 0


def network_command(argv: Sequence[str]) -> int:
    """What a network does inside, for each picture.

    python figures.py network runs/ecrf street.jpg

    Sheets NAME_….png: for DifNet its scores, influence and importance (Fig. 2), seed and walks
    (Fig. 4) and, of the pixels that --points names, the rows of its transition matrices (Fig. 3);
    for E-CRF the size of messages and superpixel means; features before and after an SDN neck or
    a context as their principal components.
    """
    parser = verb_parser("figures.py network RUN PICTURE [PICTURE …] [options]", network_command)
    parser.add_argument("workdir", metavar="RUN", type=Path, help="work directory of a run")
    parser.add_argument("pictures", type=Path, nargs="+", help="image files or folders of them")
    _add_points(parser)
    arguments, experiment = _parsed(parser, argv, PICTURES)
    draw_network(
        arguments.workdir,
        experiment,
        arguments.pictures,
        arguments.out or arguments.workdir / "figures",
        points=arguments.points,
        step=arguments.step,
    )
    return 0


def errors_command(argv: Sequence[str]) -> int:
    """Where networks are wrong, side by side (SDN, Fig. 1 and 5).

    python figures.py errors runs/baseline runs/sdn

    Sheets NAME_errors.png: picture, truth, and each run's labels and error map, of the examples in
    which the runs' errors differ most, or of those that --examples names. Data and their settings
    are those of the first run; each run's own evaluation settings hold.
    """
    parser = verb_parser("figures.py errors RUN [RUN …] [options]", errors_command)
    _add_runs(parser)
    parser.add_argument("--split", help="split that is looked at [data.val_split]")
    parser.add_argument("--examples", nargs="+", default=(), metavar="NAME", help="by their names")
    parser.add_argument("--count", type=_count, default=4, help="how many, without --examples [4]")
    arguments, experiment = _parsed(parser, argv, VALIDATION)
    split = arguments.split or experiment.data.val_split
    if split is None:
        raise InputError("data.val_split is none: name the split with --split")
    compare_errors(
        _runs(arguments, experiment),
        experiment.data,
        split,
        arguments.out or arguments.workdir / "figures",
        examples=arguments.examples,
        count=arguments.count,
    )
    return 0


def operators_command(argv: Sequence[str]) -> int:
    """What the operators in the necks of networks respond to (SDN, Fig. 2b and c).

    python figures.py operators runs/conv runs/cdc runs/sdc --pictures street.jpg

    Sheets NAME_operators.png: how large each operator's response is at every pixel, a row for each
    SDN of the neck, a column for each run; and of the pixels that --points names, in numbers.
    """
    parser = verb_parser(
        "figures.py operators RUN [RUN …] --pictures PICTURE [PICTURE …] [options]",
        operators_command,
    )
    _add_runs(parser)
    parser.add_argument(
        "--pictures", type=Path, nargs="+", required=True, help="image files or folders of them"
    )
    _add_points(parser)
    arguments, experiment = _parsed(parser, argv, PICTURES)
    compare_operators(
        _runs(arguments, experiment),
        arguments.pictures,
        arguments.out or arguments.workdir / "figures",
        points=arguments.points,
    )
    return 0


def similarities_command(argv: Sequence[str]) -> int:
    """Whether SDC's similarities S are low at boundaries, for each stage of the networks.

    python figures.py similarities studies/camvid_operators/sdc/seed0

    similarities.png: histograms of S at pixels that have another class beside them, and at the
    others; similarities.json and the lines that are printed: their means, and the area under the
    ROC curve of 1 - S as a detector of boundaries, 0.5 for no relation at all.
    """
    parser = verb_parser("figures.py similarities RUN [RUN …] [options]", similarities_command)
    _add_runs(parser)
    parser.add_argument("--split", help="split that is looked at [data.val_split]")
    parser.add_argument(
        "--examples", type=_count, default=100, metavar="N", help="how many, from the first [100]"
    )
    arguments, experiment = _parsed(parser, argv, ("data",))
    similarities(
        _runs(arguments, experiment),
        arguments.out or arguments.workdir / "figures",
        split=arguments.split,
        examples=arguments.examples,
    )
    return 0


def segfix_command(argv: Sequence[str]) -> int:
    """SegFix's directions, and labels of a run moved along them, on examples of its data set.

    python figures.py segfix runs/shapes_fcn_r18 runs/shapes_segfix_hr18s --out figures

    A row for each example: the picture, its label, the directions that follow from it and those
    that the second run predicts, and the errors of the first run's labels before and after.
    """
    parser = verb_parser("figures.py segfix RUN SEGFIX [options]", segfix_command)
    parser.add_argument("workdir", metavar="RUN", type=Path, help="run whose labels are moved")
    parser.add_argument("segfix", metavar="SEGFIX", type=Path, help="run that learnt directions")
    parser.add_argument("--examples", type=_count, default=3, metavar="N", help="rows [3]")
    parser.add_argument("--split", help="split of the examples [data.val_split]")
    arguments, experiment = _parsed(parser, argv, ("data", "evaluation"))
    draw_segfix(
        arguments.workdir,
        load_network(arguments.workdir, experiment, arguments.step),
        Directions(arguments.segfix),
        arguments.out or arguments.workdir / "figures",
        examples=arguments.examples,
        split=arguments.split,
    )
    return 0


VERBS = {
    "class-weights": class_weights_command,
    "network": network_command,
    "errors": errors_command,
    "operators": operators_command,
    "similarities": similarities_command,
    "segfix": segfix_command,
}


def main() -> int:
    return run_verb(__doc__, VERBS)


def _parsed(
    parser: OneLineParser, argv: Sequence[str], uses: Sequence[str]
) -> tuple[argparse.Namespace, Experiment]:
    parser.add_argument("--out", type=Path, help="folder to write to [RUN/figures]")
    add_step(parser)
    add_code(parser)
    return parse_experiment(parser, "work directory", from_workdir, argv, uses=uses)


def _add_runs(parser: OneLineParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path, help="work directory of a run")
    parser.add_argument("others", metavar="RUN", nargs="*", type=Path, help="more of them")


def _runs(arguments: argparse.Namespace, experiment: Experiment) -> dict[str, Trained]:
    """The networks by the names of their work directories, or by their paths where those agree."""
    step = arguments.step
    runs = {arguments.workdir: load_network(arguments.workdir, experiment, step)}
    for workdir in arguments.others:
        runs[workdir] = load_network(workdir, from_workdir(arguments, workdir), step)
    names = [path.name for path in runs]
    return {path.name if names.count(path.name) == 1 else str(path): x for path, x in runs.items()}


def _add_points(parser: OneLineParser) -> None:
    parser.add_argument(
        "--points", type=_point, nargs="+", default=(), metavar="ROW,COLUMN", help="of pixels"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _point(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"must be ROW,COLUMN, not {text!r}")
    return int(parts[0]), int(parts[1])
