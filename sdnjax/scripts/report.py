"""One HTML file about runs, which needs no server and no network.

    python report.py runs/shapes_fcn_r18_sdn
    python report.py runs/baseline runs/sdn --out comparison.html --pictures 4

Curves, scores of every class, boundary scores, confusion matrices, costs, settings (of several
runs, what differs from the first) and versions, from what the work directories hold: the data set
need not be there. Scores are those of eval.py, or else of the last validation. With --pictures N
the networks are evaluated on the validation split, and the N worst and the N most typical pictures
are shown with maps of their errors; data and their settings are then those of the first run.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from sdnjax.commands.command_line import (
    VALIDATION,
    add_code,
    add_step,
    from_workdir,
    parse_experiment,
)
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.options import OneLineParser
from sdnjax.places import place

_MOST = 12  # of each kind: a few megabytes


def main() -> None:
    parser = OneLineParser(usage="python report.py RUN [RUN …] [options]", description=__doc__)
    parser.add_argument("workdir", metavar="RUN", type=place, help="work directory of a run")
    parser.add_argument("others", metavar="RUN", nargs="*", type=place, help="more of them")
    parser.add_argument("--out", type=place, metavar="FILE", help="to write to [RUN/report.html]")
    parser.add_argument(
        "--pictures",
        type=_count,
        default=0,
        metavar="N",
        help="evaluate, and show so many of the worst and of the most typical pictures [0]",
    )
    add_code(parser)
    words = sys.argv[1:]
    if not _asks_for_pictures(words):
        parser.unused += ["--split", "--step", *(f"--{key}" for key in VALIDATION)]
        parser.epilog = "with --pictures also --step, --split and settings of data"
        arguments = parser.parse_args(words)
        runs = _named([arguments.workdir, *arguments.others])
        _write(arguments, runs, _buildable(arguments, runs))
        return
    add_step(parser)
    parser.add_argument("--split", help="split that is looked through [data.val_split]")
    arguments, experiment = parse_experiment(
        parser, "work directory", from_workdir, words, uses=VALIDATION
    )
    runs = _named([arguments.workdir, *arguments.others])
    split = arguments.split or experiment.data.val_split
    if split is None:
        raise InputError("data.val_split is none: name the split with --split")
    first, *others = runs
    experiments = {first: experiment}
    experiments |= {name: from_workdir(arguments, runs[name]) for name in others}

    from sdnjax.commands.report import check_out, look_through  # noqa: PLC0415
    from sdnjax.commands.trained import load_network  # noqa: PLC0415

    check_out(_out(arguments))
    networks = {
        name: load_network(runs[name], own, arguments.step) for name, own in experiments.items()
    }
    looked = look_through(networks, experiment.data, split, arguments.pictures)
    _write(arguments, runs, experiments, looked)


def _write(
    arguments: argparse.Namespace,
    runs: dict[str, Path],
    experiments: dict[str, Experiment],
    looked: Any = None,
) -> None:
    from sdnjax.commands.report import write_report  # noqa: PLC0415  (not for --help)

    write_report(runs, _out(arguments), experiments=experiments, looked=looked)


def _out(arguments: argparse.Namespace) -> Path:
    return arguments.out or arguments.workdir / "report.html"


def _buildable(arguments: argparse.Namespace, runs: dict[str, Path]) -> dict[str, Experiment]:
    """The experiments of the runs, but of those whose code nobody has said to run."""
    found = {}
    for name, path in runs.items():
        try:
            found[name] = from_workdir(arguments, path)
        except InputError as error:
            if arguments.trust_code or arguments.config is not None:
                raise
            if (path / "config.json").is_file():
                print(f"{name}: costs are left out: {error}")
    return found


def _named(paths: list[Path]) -> dict[str, Path]:
    """Work directories by their names, or by their paths where those agree."""
    paths = list(dict.fromkeys(paths))
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): path for path in paths}


def _asks_for_pictures(words: list[str]) -> bool:
    early = OneLineParser(add_help=False)
    early.add_argument("--pictures", type=_count, default=0)
    return early.parse_known_args(words)[0].pictures > 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {_MOST}, not {text!r}")
    return int(text)
