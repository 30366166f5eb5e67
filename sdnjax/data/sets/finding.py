"""What the records share to find files: listing folders, reading lists of names, pairing them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sdnjax.data.sets.items import Pair
from sdnjax.errors import InputError
from sdnjax.files import read_bytes


def scan(folder: Path, ending: str) -> dict[str, Path]:
    """Name without `ending` → file, for the files of a folder that end so; {} if it is none.

    Nothing is opened or asked about but the folder. Names with a dot in front are left out:
    some archives hold `._NAME.jpg` beside `NAME.jpg`.
    """
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return {
        name[: -len(ending)]: folder / name
        for name in names
        if name.endswith(ending) and not name.startswith(".")
    }


def base(root: Path, inside: Sequence[str], needed: Iterable[str]) -> Path:
    """Of `root` and the folders `inside` it, the one that holds most of the folders `needed`."""
    needed = tuple(needed)
    folders = [root, *(root / name for name in inside)]
    return max(folders, key=lambda folder: sum((folder / name).is_dir() for name in needed))


def missing_beside(folder: Path, archives: Mapping[str, str]) -> str:
    """What to do if `folder` has some of the folders that are the keys, but not all; else ""."""
    there = [name for name in archives if (folder / name).is_dir()]
    lost = [name for name in archives if name not in there]
    if not there or not lost:
        return ""
    return (
        f"{folder / lost[0]} is missing: unpack {archives[lost[0]]}, "
        f"so that it lies beside {there[0]}"
    )


def first_file(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def read_names(path: Path) -> list[str]:
    """The names in a split list, in order, each once.

    A line is a name, or begins with the path of an image (`/JPEGImages/NAME.jpg …`).
    """
    try:
        lines = read_bytes(path).decode().splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected one name a line") from None
    return list(dict.fromkeys(Path(line.split()[0]).stem for line in lines if line.strip()))


def listed(
    names: Iterable[str],
    source: Path | str,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    expected: Sequence[str],
) -> list[Pair]:
    """The pairs of `names`, in order of name; InputError if `source` names what is not there.

    `expected` says where the image and the label of NAME would lie.
    """
    pairs = []
    for name in sorted(names):
        for what, files, place in zip(("image", "label"), (images, labels), expected, strict=True):
            if name not in files:
                raise InputError(
                    f"{source} names {name}, which has no {what}: "
                    f"expected {place.replace('NAME', name)}"
                )
        pairs.append(Pair(name, images[name], labels[name]))
    return pairs


def matched(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    image_of: Callable[[str], Path | str],
    label_of: Callable[[str], Path | str],
) -> list[Pair]:
    """Pairs of equal names, in order; InputError that names the file without a partner.

    `image_of` and `label_of` say where the missing half would lie.
    """
    for lone, theirs, what, where in (
        (images, labels, "label", label_of),
        (labels, images, "image", image_of),
    ):
        for name in sorted(lone.keys() - theirs.keys()):
            raise InputError(f"{lone[name]} has no {what}: expected {where(name)}")
    return [Pair(name, images[name], labels[name]) for name in sorted(images)]
