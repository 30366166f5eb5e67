"""Segment pictures with the network of a work directory.

    python predict.py runs/camvid_fcn_r18_sdn street.jpg
    python predict.py runs/camvid_fcn_r18_sdn photos/ --out segmented/
    python predict.py runs/cityscapes_fcn_r50_sdn leftImg8bit/test --format cityscapes

For each picture NAME.jpg it writes NAME_overlay.png (the classes in colour over the picture)
and NAME_labels.png (class indices, with the colours as palette), and once legend.png. It needs
the work directory alone, not the data set.

Folders are searched at every depth. Nothing is overwritten but what predict.py has written itself.

With --format probabilities it writes NAME_probabilities.npy, float16 [H, W, K]; with another what a
test server takes: NAME.png for each picture, at its own
size, holding Cityscapes' label ids (pictures are found in the folders of cities too) or 1…150 for
ADE20K.
"""

from pathlib import Path

from sdnjax.commands.command_line import (
    PICTURES,
    PREDICTION,
    add_code,
    add_on_bad_image,
    add_protocol,
    add_segfix,
    add_step,
    from_workdir,
    parse_experiment,
    with_segfix,
)
from sdnjax.commands.predict import predict_pictures
from sdnjax.commands.submission import FORMATS
from sdnjax.errors import InputError
from sdnjax.options import OneLineParser
from sdnjax.places import in_bucket, place


def main() -> None:
    parser = OneLineParser(
        usage="python predict.py WORKDIR PICTURE [PICTURE …] [options]", description=__doc__
    )
    parser.add_argument("workdir", type=Path, help="work directory of a run of train.py")
    parser.add_argument("pictures", type=Path, nargs="+", help="image files or folders of them")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write to [WORKDIR/predictions, with --format WORKDIR/FORMAT]",
    )
    parser.add_argument(
        "--format",
        choices=("probabilities", *FORMATS),
        help="probabilities of all classes, or files for a test server",
    )
    add_step(parser)
    parser.add_argument("--opacity", type=float, default=0.5, help="of the colours [0.5]")
    add_protocol(parser)
    add_segfix(parser)
    add_code(parser)
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(
        parser, "work directory", from_workdir, uses=(*PREDICTION, *PICTURES)
    )

    if arguments.segfix and arguments.format == "probabilities":
        raise InputError("--segfix moves labels: it has no effect on --format probabilities")
    workdir = place(arguments.workdir)
    if in_bucket(workdir) and arguments.out is None:
        raise InputError(f"{workdir} is in a bucket: name a folder for the pictures with --out")
    predict_pictures(
        workdir,
        with_segfix(experiment, arguments.segfix),
        arguments.pictures,
        arguments.out or workdir / (arguments.format or "predictions"),
        step=arguments.step,
        opacity=arguments.opacity,
        format=arguments.format,
    )
