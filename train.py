"""Train a segmentation network.

    python train.py configs/shapes_fcn_r18_sdn.py
    python train.py configs/camvid_fcn_r18_sdn.py --data.dir /data/camvid --steps 300

The configuration file decides everything; each of its settings is an option here. Everything
about the run goes into the work directory: configuration, versions, metrics, checkpoints.
Ctrl-C saves and stops; --resume goes on exactly there.
"""

import sys
from pathlib import Path

from sdnjax.commands.command_line import (
    add_distributed,
    add_on_bad_image,
    from_config,
    parse_experiment,
    run,
)
from sdnjax.options import OneLineParser
from sdnjax.training.sharding import join_processes


def main() -> int:
    parser = OneLineParser(usage="python train.py CONFIG [options]", description=__doc__)
    parser.add_argument("config", help="a Python file whose config() returns an Experiment")
    parser.add_argument("--workdir", type=Path, help="work directory [runs/NAME]")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--overwrite", action="store_true", help="delete the run that is there")
    add_distributed(parser)
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(parser, "configuration file", from_config)

    from sdnjax.commands.train import train  # noqa: PLC0415  (imports TensorFlow: not for --help)

    if arguments.distributed:
        join_processes()
    workdir = arguments.workdir or Path("runs") / experiment.name
    state = train(experiment, workdir, resume=arguments.resume, overwrite=arguments.overwrite)
    return 0 if int(state.step) >= experiment.steps else 130


if __name__ == "__main__":
    sys.exit(run(main))
