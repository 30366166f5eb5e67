"""Dividing one split into examples to train on and examples to validate on.

Which part an example is in is a function of its name alone: adding or removing others moves
none, and training, check.py and eval.py agree without a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sdnjax.data.data_settings import Data
from sdnjax.data.reading.source import Part, Source
from sdnjax.data.sets.layouts import WHOLE
from sdnjax.errors import InputError


def divides(data: Data, split: str) -> bool:
    """Whether `split` is a part of another one, as `data.val_share` or `data.fold` say."""
    asked = data.val_share is not None or data.fold is not None
    return asked and split in (data.train_split, data.val_split)


def divided_split(data: Data, splits: Sequence[str]) -> str:
    """Which of `splits` is divided: `data.train_split`, or the only one if that is `all`.

    Raises: InputError if there is no such split, or `data.val_split` is there by itself.
    """
    if data.val_split in splits:
        raise InputError(
            f"{_key(data)} takes {data.val_split!r} from {data.train_split!r}, but the data set "
            f"has a split {data.val_split!r} of its own: leave out {_key(data)}, or call the part "
            "otherwise with --data.val_split"
        )
    if data.train_split in splits:
        return data.train_split
    if WHOLE in splits:
        return WHOLE
    raise InputError(
        f"{_key(data)} divides data.train_split {data.train_split!r}, which is not there; there "
        f"are {', '.join(splits)}"
    )


def part_of(source: Source, data: Data, split: str) -> Part:
    """The examples of `source` that are in `split`; InputError if there are none."""
    validates = split == data.val_split
    chosen = [i for i in range(len(source)) if set_aside(source.name(i), data) == validates]
    what = f"{_key(data)} {_value(data)}"
    if not chosen:
        raise InputError(
            f"{what} leaves none of the {len(source)} examples of {source.split!r} for {split!r}"
        )
    note = f"{split}: {len(chosen)} of the {len(source)} examples of {source.split!r} ({what})"
    return Part(source, split, chosen, note)


def set_aside(name: str, data: Data) -> bool:
    """Whether the example of this name is one to validate on."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    if data.fold is not None:
        part, parts = data.fold
        return int(place * parts) == part
    return data.val_share is not None and place < data.val_share


def _key(data: Data) -> str:
    return "data.val_share" if data.fold is None else "data.fold"


def _value(data: Data) -> str:
    return str(data.val_share) if data.fold is None else "{},{}".format(*data.fold)
