"""What a recipe needs on machines that one does not have.

    python plan.py configs/cityscapes_fcn_r50_sdn.py --target h100:8
    python plan.py configs/cityscapes_fcn_r50_sdn.py --target v5e:4x4 --per-device 2 --try
    python plan.py configs/own_folder.py --target h100:4x8 --classes 7 --json plan.json

Compiles the real train step for devices that are only described, and prints the memory of each by
what it is for, what they send each other, operations, and the least time of a step. Neither the
devices nor the data have to be there. If the step does not fit, or with --try, it says what other
settings would take. docs/planning.md says what is assumed.
"""

import os
from pathlib import Path

# Devices that this machine may have are not for planning.
os.environ["JAX_PLATFORMS"] = "cpu"

from sdnjax.commands.command_line import add_code, from_config, parse_experiment
from sdnjax.commands.plan import USES, plan
from sdnjax.options import OneLineParser
from sdnjax.planning.devices import parse_target


def main() -> None:
    parser = OneLineParser(usage="python plan.py CONFIG [options]", description=__doc__)
    parser.add_argument(
        "source", metavar="CONFIG", help="a configuration file, or a work directory"
    )
    add_code(parser)
    parser.add_argument(
        "--target",
        required=True,
        metavar="DEVICES",
        help="h100:8 or h100:4x8 (hosts x GPUs), a100:8, v5e:4x4, v6e:4x4, v5p:2x2x2 (slices), "
        "cpu:1",
    )
    parser.add_argument(
        "--per-device",
        type=int,
        metavar="N",
        help="images on each device [the recipe's batch if it splits evenly, or else 2]",
    )
    parser.add_argument(
        "--classes", type=int, metavar="K", help="number of classes [that of the data set]"
    )
    vary = parser.add_mutually_exclusive_group()
    vary.add_argument(
        "--try",
        dest="vary",
        action="store_const",
        const=True,
        help="also try what takes less memory [if the step does not fit]",
    )
    vary.add_argument(
        "--only", dest="vary", action="store_const", const=False, help="never try anything else"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the plan there")
    arguments, experiment = parse_experiment(parser, "configuration file", from_config, uses=USES)
    plan(
        experiment,
        parse_target(arguments.target),
        classes=arguments.classes,
        per_device=arguments.per_device,
        vary=arguments.vary,
        out=arguments.json,
    )
