"""Splits that are lists of files: `lists/SPLIT.txt` or `lists/SPLIT.csv` in a user's own folder.

A line is the path of a picture and that of its label, below the folder, with a comma, a tab or
a space between them.
"""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.sets.items import Pair
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

_ENDINGS = (".txt", ".csv", ".tsv")


def lists(root: Path) -> dict[str, Path]:
    """Split → its list; InputError if there are two."""
    found: dict[str, Path] = {}
    for path in sorted((root / "lists").glob("*")):
        if path.suffix.lower() not in _ENDINGS or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} list one split: remove one of them")
        found[path.stem] = path
    return found


def listed_pairs(path: Path, root: Path) -> list[Pair]:
    """The pairs of a list, in order of name: the path of the picture without its ending.

    Raises: InputError with file and line for a line that is no pair, a picture that is listed
      twice, and a file that is not there.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    found: dict[str, Pair] = {}
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        separator = next((mark for mark in "\t,;" if mark in line), None)
        parts = [part.strip().strip('"') for part in line.split(separator)]
        parts = [part for part in parts if part]
        if first and [p.lower() for p in parts] in (["image", "label"], ["image", "mask"]):
            first = False
            continue
        first = False
        where = f"{path}, line {number}"
        if len(parts) != 2:
            raise InputError(f"{where}: expected IMAGE,LABEL, two paths below {root}, not {line!r}")
        image, label = (root / part for part in parts)
        for file in (image, label):
            if not file.is_file():
                raise InputError(f"{where}: {file} does not exist")
        name = Path(parts[0]).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{where}: {parts[0]} is listed already, or one of that name")
        found[name] = Pair(name, image, label)
    return [found[name] for name in sorted(found)]
