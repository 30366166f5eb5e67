"""The command `python -m sdnjax.data.prepare`."""

from __future__ import annotations

import os
import sys

from sdnjax.data.cache import default_cache
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.sets import DATA_SETS, SEGFIX_SETS
from sdnjax.errors import InputError
from sdnjax.options import OneLineParser

_HELP = """Prepares a data set once, so that training reads it with random access.

Every example is checked (readable, equal sizes, known label values) and stored unchanged, in
DATA_DIR/NAME/VERSION. Interrupted, killed or stopped by a bad file, the same command goes on:
what is checked already is kept in DATA_DIR/NAME/.work-VERSION until the data set is there.

  python -m sdnjax.data.prepare camvid --source ~/CamVid --data-dir ~/data
  python train.py … --data.name camvid --data.dir ~/data

With superpixels, which E-CRF needs, it is stored in DATA_DIR/NAME/slicN/VERSION:

  python -m sdnjax.data.prepare ade20k --source ~/ade20k --data-dir ~/data --superpixels 200
  python train.py … --data.name ade20k --data.dir ~/data --data.superpixels 200

As SegFix learns it, with directions into the objects as labels, it is NAME_segfix:

  python -m sdnjax.data.prepare cityscapes_segfix --source ~/cityscapes --data-dir ~/data"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = _parser()
    try:
        args = parser.parse_args(arguments)
        target, skipped = prepare(
            args.name,
            args.data_dir,
            args.source,
            superpixels=args.superpixels,
            on_bad_image=args.on_bad_image,
            partial=args.partial,
            workers=args.workers,
            unpacked=args.unpacked,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"interrupted: {stopped or 'the same command goes on'}", file=sys.stderr)
        return 130
    for message in skipped.values():
        print(f"skipped: {message}", file=sys.stderr)
    print(f"{target}" + (f" ({len(skipped)} skipped)" if skipped else ""))
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m sdnjax.data.prepare", description=_HELP)
    known = DATA_SETS | SEGFIX_SETS
    names = sorted(name for name, data_set in known.items() if data_set.version)
    parser.add_argument("name", choices=names, help="the data set")
    parser.add_argument(
        "--source",
        metavar="DIR",
        help="folder with the original files (camvid: SegNet's layout), or with the archives as "
        "they were downloaded, or one of those; shapes needs none",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=str(default_cache()),
        help="folder, or gs://bucket/path, that receives NAME/VERSION; give it to training as "
        f"--data.dir [{default_cache()}]",
    )
    parser.add_argument(
        "--superpixels",
        metavar="N",
        type=int,
        help="store about N superpixels of each image with it, never more (SLIC; E-CRF takes "
        "200, for Cityscapes 600); needs scikit-image [none]",
    )
    parser.add_argument(
        "--on-bad-image",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a bad pair, or leave it out and name it at the end [raise]",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="prepare what is there, although the data set has more examples",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        help="processes that check examples and compute superpixels [%(default)s]",
    )
    parser.add_argument(
        "--unpacked",
        metavar="DIR",
        help="folder in which archives are unpacked, each once; it may be removed afterwards "
        "[DATA_DIR/NAME/unpacked]",
    )
    return parser
