"""Checkpoints from PyTorch and back, numerics compared, networks inspected.

    python convert.py from-torch CONFIG FILE     a run's work directory from a foreign checkpoint
    python convert.py to-torch WORKDIR FILE      the network of a run in a foreign layout
    python convert.py compare WORKDIR …          against what PyTorch saved, layer by layer
    python convert.py inspect NETWORK            layers, parameters, multiply-adds, memory

`python convert.py VERB --help` tells the rest.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sdnjax.commands.command_line import (
    add_code,
    from_config,
    from_workdir,
    parse_experiment,
    run_verb,
    verb_parser,
)
from sdnjax.commands.compare import KINDS, compare_run
from sdnjax.commands.convert import from_torch, write_torch
from sdnjax.convert.tables import TABLES
from sdnjax.data.sources import label_space_of
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.models import Model
from sdnjax.models.summary import format_summary, summarize

TABLE = f"format of the foreign names: {', '.join(TABLES)} [that of the network]"


def from_torch_command(argv: Sequence[str]) -> int:
    """A work directory whose step 0 holds the weights of a foreign checkpoint.

    python convert.py from-torch configs/cityscapes_fcn_r50_sdn.py fcn_r50-d8.pth \\
        --reinitialise neck

    FILE is what torch.save wrote, safetensors, an .npz, a model's folder or an index of shards,
    known by its content; nothing in it is executed. Every tensor must fit, and every leaf of the
    network must be there, but for what the options name.
    predict.py and eval.py use the work directory; train.py CONFIG --resume trains from it.
    """
    parser = verb_parser("convert.py from-torch CONFIG FILE [options]", from_torch_command)
    parser.add_argument("source", metavar="CONFIG", help="the configuration file of the run")
    parser.add_argument("file", type=Path, help="the foreign checkpoint, or its folder")
    parser.add_argument("--workdir", type=Path, help="work directory [runs/NAME]")
    parser.add_argument("--table", help=TABLE)
    parser.add_argument(
        "--reinitialise",
        type=_names,
        default=(),
        metavar="PART,…",
        help="parts of the network that start at initial values: neck,auxiliary",
    )
    parser.add_argument(
        "--new-classes", action="store_true", help="the classifiers start at initial values"
    )
    parser.add_argument(
        "--ignore",
        type=_names,
        default=(),
        metavar="NAME,…",
        help="beginnings of tensor names in the file that are not wanted",
    )
    parser.add_argument(
        "--key",
        help="where in the file the weights are, as state_dict_ema or model.ema [what fits]",
    )
    parser.add_argument(
        "--prefix",
        help="what stands before every name in the file, as module.student. [what fits]",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete the run that is there")
    arguments, experiment = parse_experiment(parser, "configuration file", from_config, argv)
    from_torch(
        experiment,
        arguments.file,
        arguments.workdir or Path("runs") / experiment.name,
        table=arguments.table,
        reinitialise=arguments.reinitialise,
        new_classes=arguments.new_classes,
        ignore=arguments.ignore,
        key=arguments.key,
        prefix=arguments.prefix,
        overwrite=arguments.overwrite,
    )
    return 0


def to_torch_command(argv: Sequence[str]) -> int:
    """The network of a run as a state dict that the original loads strictly.

    python convert.py to-torch runs/cityscapes_fcn_r50 fcn_r50.pth

    A .pth (for torch.load with weights_only=True), .safetensors or .npz.
    """
    parser = verb_parser("convert.py to-torch WORKDIR FILE [options]", to_torch_command)
    parser.add_argument("workdir", type=Path, help="work directory of a run")
    parser.add_argument("file", type=Path, help="file to write: .pth, .safetensors or .npz")
    parser.add_argument("--step", type=int, help="step of the checkpoint [the latest]")
    parser.add_argument("--table", help=TABLE)
    parser.add_argument(
        "--drop",
        type=_names,
        default=(),
        metavar="PART,…",
        help="parts that the original does not have and that are left out: neck",
    )
    add_code(parser)
    arguments, experiment = parse_experiment(parser, "work directory", from_workdir, argv, uses=())
    write_torch(
        arguments.workdir,
        experiment,
        arguments.file,
        step=arguments.step,
        table=arguments.table,
        drop=arguments.drop,
    )
    return 0


def compare_command(argv: Sequence[str]) -> int:
    """The network of a run against what PyTorch saved; status 1 if they part.

    python convert.py compare runs/cityscapes_fcn_r50 --activations activations.safetensors

    Every file holds tensors by their names in PyTorch, and the batch as "images" (and
    "labels"). Activations are saved by forward hooks as copies, output.detach().clone(), in
    evaluation, under the paths of their modules. Gradients and the step are those of the
    training loss without dropout; settings of loss and optimizer are options here.
    """
    parser = verb_parser("convert.py compare WORKDIR --KIND FILE [options]", compare_command)
    parser.add_argument("workdir", type=Path, help="work directory of a run")
    for kind, what in zip(
        KINDS,
        (
            "outputs of modules, and images",
            "a state dict",
            "gradients by parameter, images and labels",
            "the state dict after one step of the optimizer, images and labels",
        ),
        strict=True,
    ):
        parser.add_argument(f"--{kind}", type=Path, metavar="FILE", help=what)
    parser.add_argument("--table", help=TABLE)
    parser.add_argument(
        "--layout",
        choices=("auto", "nchw", "nhwc"),
        default="auto",
        help="of images and activations [auto: told by their shape]",
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-5, help="relative to the largest value [1e-5]"
    )
    parser.add_argument("--double", action="store_true", help="compute in float64")
    parser.add_argument("--lines", type=int, metavar="N", help="the N tensors that differ most")
    add_code(parser)
    uses = ("losses", "optimizer", "steps", "data.mean", "data.std")
    arguments, experiment = parse_experiment(
        parser, "work directory", from_workdir, argv, uses=uses
    )
    files = {kind: path for kind in KINDS if (path := getattr(arguments, kind)) is not None}
    if not files:
        raise InputError(f"nothing to compare: name a file with --{', --'.join(KINDS)}")
    agree = compare_run(
        arguments.workdir,
        experiment,
        files,
        table=arguments.table,
        layout=arguments.layout,
        tolerance=arguments.tolerance,
        double=arguments.double,
        lines=arguments.lines,
    )
    return 0 if agree else 1


def inspect_command(argv: Sequence[str]) -> int:
    """Layers, parameters, multiply-adds and activation memory, and SDN's share of them.

    python convert.py inspect fcn_r50-d8 --size 512,1024 --classes 19 \\
        --model.neck.operator sdc

    Nothing is computed. Multiply-adds are those of convolutions, linear layers, attention
    products and SDC in evaluation; memory is that of the outputs of all layers.
    """
    parser = verb_parser("convert.py inspect NETWORK [options]", inspect_command)
    parser.add_argument("network", help="a network's name, a configuration or a work directory")
    parser.add_argument("--size", type=_size, default=(512, 512), help="height,width [512,512]")
    parser.add_argument("--classes", type=int, help="number of classes [the data set's]")
    parser.add_argument("--batch", type=int, default=1, help="images [1]")
    parser.add_argument("--depth", type=int, default=2, help="levels of modules shown [2]")
    add_code(parser)
    uses = ("model", "data.name", "data.dir")
    arguments, experiment = parse_experiment(parser, "network", _experiment_of, argv, uses=uses)
    classes = arguments.classes or label_space_of(experiment.data).num_classes
    layers = summarize(experiment.network(classes), arguments.size, batch=arguments.batch)
    print(format_summary(layers, arguments.depth))
    return 0


VERBS = {
    "from-torch": from_torch_command,
    "to-torch": to_torch_command,
    "compare": compare_command,
    "inspect": inspect_command,
}


def main() -> int:
    return run_verb(__doc__, VERBS)


def _experiment_of(arguments: argparse.Namespace, path: Path) -> Experiment:
    if path.suffix == ".py":
        return from_config(arguments, path)
    if path.is_dir():
        return from_workdir(arguments, path)
    return Experiment(model=Model(name=str(path)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _size(text: str) -> tuple[int, int]:
    numbers = text.replace("x", ",").split(",")
    if len(numbers) != 2 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"must be height,width, not {text!r}")
    return int(numbers[0]), int(numbers[1])
