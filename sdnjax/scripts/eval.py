"""Evaluate the network of a work directory on its validation split.

    python eval.py runs/shapes_fcn_r18_sdn
    python eval.py runs/ade20k_segmenter_b16 --protocol ade20k_slide512_ms
    python eval.py runs/cityscapes_fcn_r50_sdn --protocol cityscapes_slide769 \\
        --evaluation.trimap_widths 1,3,10
    python eval.py runs/camvid_fcn_r18_sdn --evaluation.scales .5,1,1.5 --evaluation.flip true
    python eval.py runs/cityscapes_fcn_r50_sdn --segfix runs/cityscapes_segfix_hr48

Without options it repeats the validation of the training run, to the last digit. --protocol
replaces the run's settings of evaluation by published ones, options change single settings.

It prints the scores of each class and writes three files into the work directory (or beside
--out): NAME.json with the scores and settings, NAME_confusion.csv with the confusion matrix in
pixels and NAME_confusion.png with its picture.
"""

from pathlib import Path

from sdnjax.commands.command_line import (
    EVALUATION,
    VALIDATION,
    add_code,
    add_distributed,
    add_on_bad_image,
    add_protocol,
    add_segfix,
    add_step,
    distributed,
    from_workdir,
    parse_experiment,
    with_segfix,
)
from sdnjax.options import OneLineParser


def main() -> None:
    parser = OneLineParser(usage="python eval.py WORKDIR [options]", description=__doc__)
    parser.add_argument("workdir", type=Path, help="work directory of a run of train.py")
    add_step(parser)
    parser.add_argument("--split", help="split to evaluate [the setting data.val_split]")
    parser.add_argument("--out", type=Path, help="JSON file to write [WORKDIR/evaluation/…]")
    add_protocol(parser)
    add_segfix(parser)
    add_code(parser)
    add_distributed(parser)
    add_on_bad_image(parser)
    arguments, experiment = parse_experiment(
        parser, "work directory", from_workdir, uses=(*EVALUATION, *VALIDATION)
    )

    from sdnjax.commands.evaluate import evaluate_run  # noqa: PLC0415  (imports TensorFlow: not for --help)

    with distributed(arguments):
        evaluate_run(
            arguments.workdir,
            with_segfix(experiment, arguments.segfix),
            step=arguments.step,
            split=arguments.split,
            out=arguments.out,
        )
