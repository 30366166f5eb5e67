"""A page in the browser to try a trained network on one's own pictures.

    python serve.py runs/camvid_fcn_r18_sdn
    python serve.py runs/baseline runs/sdn --port 8080

Drop a picture there: classes as an overlay, predicted boundaries, the probabilities under the
pointer; of two runs both results on one picture, with a slider between them. A run is what
`sdnjax.load` takes: a work directory, a folder of `save_pretrained`, or the name of a model on the
Hugging Face hub.

The page is for this machine alone unless --host says otherwise, loads nothing from a network, and
writes no picture to disk. Settings are of both runs.
"""

import argparse
import os
from pathlib import Path

from sdnjax.commands.command_line import (
    PICTURES,
    PREDICTION,
    add_code,
    add_protocol,
    add_step,
    from_workdir,
    parse_experiment,
)
from sdnjax.commands.hub import local_folder
from sdnjax.commands.serve import MOST_PIXELS, require_serve, serve_networks
from sdnjax.commands.trained import load_network
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.options import OneLineParser, apply_overrides, replaced
from sdnjax.places import in_bucket, place

_USES = (*PREDICTION, *(key for key in PICTURES if key != "data.on_bad_image"))


def main() -> None:
    parser = OneLineParser(usage="python serve.py RUN [OTHER_RUN] [options]", description=__doc__)
    parser.add_argument("workdir", metavar="RUN", help="a trained network")
    parser.add_argument("other", metavar="OTHER_RUN", nargs="?", help="to compare it with")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one [8000]")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines in [127.0.0.1]",
    )
    parser.add_argument(
        "--upload-limit",
        type=_megabytes,
        default=100,
        metavar="MB",
        help="of a picture's file [100]",
    )
    add_step(parser)
    add_protocol(parser)
    add_code(parser)
    arguments, experiment = parse_experiment(parser, "run", _experiment, uses=_USES)
    experiments = {arguments.workdir: experiment}
    if arguments.other is not None:
        if os.path.realpath(arguments.other) == os.path.realpath(arguments.workdir):
            raise InputError(f"{arguments.other} is the same run twice")
        other = _experiment(arguments, arguments.other).resolved()
        experiments[arguments.other] = apply_overrides(other, arguments)

    require_serve()  # before networks are read
    names = _names(list(experiments))
    networks = {
        names[path]: load_network(_folder(path), own, arguments.step)
        for path, own in experiments.items()
    }
    serve_networks(
        networks, host=arguments.host, port=arguments.port, upload_limit=arguments.upload_limit
    )


def _experiment(arguments: argparse.Namespace, path: str | Path) -> Experiment:
    experiment = from_workdir(arguments, _folder(path))
    most = min(experiment.data.max_pixels, MOST_PIXELS)
    return replaced(experiment, {"data.max_pixels": most})


def _folder(path: str | Path) -> Path:
    """A work directory or folder, here or in a bucket; a model of the hub is fetched."""
    return place(path) if in_bucket(path) else local_folder(os.fspath(path))


def _names(paths: list[str]) -> dict[str, str]:
    """Runs by the last part of their paths, or by these where it agrees."""
    last = [Path(path).name for path in paths]
    return {
        path: name if name and last.count(name) == 1 else path
        for path, name in zip(paths, last, strict=True)
    }


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return int(text)


def _megabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"must be megabytes above 0, not {text!r}")
    return value
