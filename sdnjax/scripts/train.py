"""Train a segmentation network.

    python train.py configs/shapes_fcn_r18_sdn.py
    python train.py configs/camvid_fcn_r18_sdn.py --data.dir /data/camvid --steps 300
    python train.py runs/camvid_fcn_r18_sdn --resume --steps 600

The configuration file decides everything; each of its settings is an option here. Everything
about the run goes into the work directory: configuration, versions, metrics, checkpoints.
Ctrl-C saves and stops; --resume goes on exactly there, and needs the work directory alone.
So do SIGTERM and SIGUSR1, of which a scheduler sends one before it takes the machine. Exit status:
0 the run is finished, 75 a signal stopped it and --resume goes on, 130 Ctrl-C did, 1 it cannot go
on, 2 something given is wrong.
"""

import sys
from pathlib import Path

from sdnjax.commands.command_line import (
    add_code,
    add_distributed,
    add_on_bad_image,
    distributed,
    from_config,
    parse_experiment,
)
from sdnjax.errors import InputError
from sdnjax.options import OneLineParser
from sdnjax.places import place
from sdnjax.training.stopping import Stop, Stopped


def main() -> int:
    parser = OneLineParser(usage="python train.py CONFIG|WORKDIR [options]", description=__doc__)
    parser.add_argument(
        "source",
        metavar="CONFIG",
        help="a Python file whose config() returns an Experiment, or a work directory to go on in",
    )
    parser.add_argument("--workdir", type=Path, help="work directory [runs/NAME]")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--overwrite", action="store_true", help="delete the run that is there")
    add_code(parser)
    add_distributed(parser)
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(parser, "configuration file", from_config)

    workdir = place(arguments.workdir or Path("runs") / experiment.name)
    source = place(arguments.source)
    if source.is_dir():
        if not arguments.resume:
            raise InputError(f"{source} is a work directory: --resume goes on there")
        if arguments.workdir is not None and workdir != source:
            raise InputError(f"--workdir: {source} goes on where it is")
        workdir = source

    from sdnjax.commands.train import has_ended, train  # noqa: PLC0415  (imports TensorFlow: not for --help)

    how = {"resume": arguments.resume, "overwrite": arguments.overwrite}
    with distributed(arguments), Stop() as stop:
        try:
            state = train(experiment, workdir, stop=stop, **how)
        except Stopped:
            print("stopped before the first step; nothing was changed", file=sys.stderr)
            return stop.status
    return 0 if has_ended(experiment, workdir, state) else stop.status
