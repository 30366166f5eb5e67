"""What the records share to find files: listing folders, reading lists of names, pairing them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from sdnjax.data.sets.items import Item, Lone, Pair
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
    """Pairs of equal names, in order; InputError that names the files without a partner.

    `image_of` and `label_of` say where the missing half would lie.
    """
    found = paired(images, labels, image_of, label_of)
    refuse_lone(found)
    return [item for item in found if isinstance(item, Pair)]


def paired(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    image_of: Callable[[str], Path | str],
    label_of: Callable[[str], Path | str],
) -> list[Pair | Lone]:
    """Pairs of equal names, and files without a partner, in order of their names."""
    found: list[Pair | Lone] = [
        Pair(name, images[name], labels[name]) for name in images.keys() & labels.keys()
    ]
    for lone, theirs, what, where in (
        (images, labels, "label", label_of),
        (labels, images, "image", image_of),
    ):
        others = [name for name in theirs if name not in lone]
        for name in lone.keys() - theirs.keys():
            near = nearest(name, others)
            hint = f"; did you mean {theirs[near].name}?" if near is not None else ""
            problem = f"{lone[name]} has no {what}: expected {where(name)}{hint}"
            found.append(Lone(name, lone[name], problem))
    return sorted(found, key=lambda item: item.name)


def nearest(name: str, others: Sequence[str]) -> str | None:
    """The name of another file that may be meant: one that goes on where this ends
    (`a_mask` for `a`), or the nearest in spelling."""
    longer = [other for other in others if other.startswith(name) or name.startswith(other)]
    return min(longer, key=len) if longer else next(iter(get_close_matches(name, others, 1)), None)


def refuse_lone(items: Iterable[Item]) -> None:
    """Raises one InputError for all files without a partner."""
    problems = [item.problem for item in items if isinstance(item, Lone)]
    if problems:
        rest = len(problems) - 5
        more = f"; and {rest} more" if rest > 0 else ""
        skip = " (--data.on_bad_image skip leaves them out)" if len(problems) > 1 else ""
        count = f"{len(problems)} files have no partner{skip}: " if len(problems) > 1 else ""
        raise InputError(f"{count}{'; '.join(problems[:5])}{more}")


def walk(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it, in order, also behind links.

    Left out is what no user put there: names with a dot in front (hidden files, macOS's `._NAME`,
    `.ipynb_checkpoints`), and the folder `__MACOSX` of archives. A folder that is reached a second
    time, by a link that leads back, is not entered again.
    """
    seen: set[Path] = set()

    def below(place: Path) -> Iterator[Path]:
        real = place.resolve()
        if real in seen:
            return
        seen.add(real)
        with os.scandir(place) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                yield from below(place / entry.name)
            else:
                yield place / entry.name

    yield from below(folder)
