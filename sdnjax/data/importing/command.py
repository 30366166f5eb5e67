"""The command `python -m sdnjax.data.import_labels`."""

from __future__ import annotations

import sys
from pathlib import Path

from sdnjax.data.importing.coco import coco_files, read_coco
from sdnjax.data.importing.labelme import is_labelme, read_labelme
from sdnjax.data.importing.masks import cvat_pairs, folder_pairs, is_cvat
from sdnjax.data.importing.writing import write_found, write_pairs
from sdnjax.errors import InputError
from sdnjax.options import OneLineParser

_HELP = """Makes a data set that training reads (--data.name folder) of what a labelling tool wrote.

  python -m sdnjax.data.import_labels EXPORT --to mine
  python check.py configs/own_folder.py --data.dir mine

Read are labelme's JSON files, COCO's JSON with polygons and run lengths (also CVAT's and
Roboflow's), CVAT's segmentation masks with labelmap.txt, and Roboflow's with _classes.csv. Shapes
lie over each other in the order of the file; what has no shape is background. Points, lines and
boxes are left out and counted; crowds become void. Nothing is overwritten."""

FORMS = ("labelme", "coco", "cvat", "masks")


def import_labels(
    source: Path, target: Path, form: str | None = None, images: Path | None = None
) -> list[str]:
    """Imports `source` into the new folder `target`; returns the lines to be said.

    Args:
      form: one of `FORMS`; None finds out.
      images: the folder with the pictures, if they do not lie where the tool puts them.

    Raises: InputError for a source that is none of them, or may be two, and for whatever in it
      cannot be read.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist")
    form = form or _form(source)
    if images is not None and form not in ("coco", "cvat"):
        raise InputError(f"--images: {form} says itself where its pictures are")
    if images is not None and not images.is_dir():
        raise InputError(f"--images {images} is not a folder")
    if form == "labelme":
        found = read_labelme(source)
    elif form == "coco":
        found = read_coco(source, images)
    elif form == "cvat":
        return write_pairs(cvat_pairs(source, images), source, target, source / "labelmap.txt")
    else:
        return write_pairs(folder_pairs(source), source, target)
    if not found.pictures:
        raise InputError(f"{source}: no picture of {form} there")
    return write_found(found, target)


def _form(source: Path) -> str:
    if source.is_dir() and is_cvat(source):
        return "cvat"
    files = [source] if source.is_file() else sorted(source.rglob("*.json"))
    files = [f for f in files if not f.name.startswith(".") and f.suffix.lower() == ".json"]
    forms = []
    if any(is_labelme(path) for path in files):
        forms.append("labelme")
    if any(coco_files(path) for path in files):
        forms.append("coco")
    if source.is_dir() and not forms and folder_pairs(source):
        forms.append("masks")
    if len(forms) != 1:
        found = f"may be {' or '.join(forms)}" if forms else "is none of them that is known"
        raise InputError(f"{source} {found}: say --form {', '.join(FORMS)}")
    return forms[0]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = OneLineParser(prog="python -m sdnjax.data.import_labels", description=_HELP)
    parser.add_argument("source", type=Path, help="folder that a tool exported, or a JSON file")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new folder")
    parser.add_argument("--form", choices=FORMS, help="what the source is [found out]")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder with the pictures, for coco and cvat"
    )
    try:
        args = parser.parse_args(arguments)
        for line in import_labels(args.source, args.to, args.form, args.images):
            print(line)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {args.to}")
    return 0
