"""Where a prepared data set of a user's own comes from, and the classes that it had there.

A benchmark is known by its name and version. Two folders of people's own have the same name, so
the prepared form of one keeps what tells it from the other, in `origin.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdnjax.data.sets.items import Item
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.files import read_bytes, write_atomically

_FILE = "origin.json"


def write_origin(
    folder: Path, source: Path, splits: Mapping[str, Sequence[Item]], space: LabelSpace
) -> None:
    """Notes in a prepared data set what it was made of."""
    content = {
        "source": str(source.resolve()),
        "files": files_digest(splits),
        "label_space": space.to_json(),
    }
    write_atomically(folder / _FILE, json.dumps(content, indent=1) + "\n")


def prepared_classes(folder: Path) -> LabelSpace:
    """The classes of a prepared data set of a user's own; InputError if they are damaged."""
    try:
        return LabelSpace.from_json(_read(folder)["label_space"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{folder / _FILE}: damaged, prepare the data set again") from None


def check_origin(
    folder: Path, source: Path, splits: Mapping[str, Sequence[Item]], space: LabelSpace
) -> None:
    """InputError if the prepared data set in `folder` was made of something else."""
    there = _read(folder)
    if there.get("files") == files_digest(splits) and prepared_classes(folder) == space:
        return
    if there.get("source") == str(source.resolve()):
        raise InputError(
            f"{folder} was prepared before files in {source} changed: remove it to prepare it again"
        )
    raise InputError(
        f"{folder} was prepared from {there.get('source')}: name another --data-dir for {source}"
    )


def files_digest(splits: Mapping[str, Sequence[Item]]) -> str:
    """A hash of names, sizes and times of change of all files."""
    states = {split: [item.state() for item in items] for split, items in sorted(splits.items())}
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(folder / _FILE))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{folder / _FILE}: damaged, prepare the data set again")
    return content
