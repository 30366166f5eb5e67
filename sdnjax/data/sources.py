"""Opening a data set: the one place that decides where its examples come from.

Files are read as they are (`reading/sources.py`); a data set that was prepared is read from its
ArrayRecord files (`reading/prepared.py`). Both give the same examples in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdnjax.data.cache import default_cache
from sdnjax.data.data_settings import Data, dataset_of
from sdnjax.data.dividing import divided_split, divides, part_of
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.reading import buckets
from sdnjax.data.reading.origin import prepared_classes
from sdnjax.data.reading.prepared import PreparedSource, is_complete, prepared_splits
from sdnjax.data.reading.source import ItemSource, Source
from sdnjax.data.sets.data_set import DataSet
from sdnjax.data.sets.finding import refuse_lone
from sdnjax.data.sets.items import Item
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.data.sets.layouts import WHOLE
from sdnjax.errors import InputError


def open_source(data: Data, split: str) -> Source:
    """Opens a split of the data set that `data` names.

    `data.dir` holds the files as the data set's archives unpack them (see the modules of
    `sdnjax.data.sets`), or a prepared data set in `NAME/VERSION`, which has precedence. With
    `data.superpixels`, or in a bucket (`gs://…`), only a prepared one is read. A generated
    data set needs no `data.dir`: it is prepared in `$XDG_CACHE_HOME/sdnjax` (or
    `~/.cache/sdnjax`) on first use, which takes a few seconds.

    With `data.val_share` or `data.fold`, `data.train_split` and `data.val_split` are two parts
    of one split (see `dividing.py`).

    Raises: InputError if there is nothing there or the split does not exist.
    """
    if divides(data, split):
        whole = divided_split(data, _splits(data))
        return part_of(_open(data, whole), data, split)
    return _open(data, split)


def _splits(data: Data) -> tuple[str, ...]:
    """The splits that are there; empty if there is nothing."""
    data_set = dataset_of(data)
    if (prepared := _prepared(data, data_set)) is not None:
        return prepared_splits(prepared)
    root = None if data_set.generated else _root(data)
    if not (found := data_set.splits(root)):
        assert root is not None  # a generated one is there
        raise InputError(f"--data.dir {data_set.absence(root)}")
    return found


def _open(data: Data, split: str) -> Source:
    data_set = dataset_of(data)
    if (prepared := _prepared(data, data_set)) is not None:
        return PreparedSource(prepared, label_space_of(data), split, data.pixels)
    root = None if data_set.generated else _root(data)
    if root is not None and not data_set.splits(root):
        known = data_set.version is not None
        alternative = f", or a prepared {data_set.prepared_dir(root)}" if known else ""
        raise InputError(f"--data.dir {data_set.absence(root, alternative)}")
    items = _items(data_set, root, split)
    if data.on_bad_image == "raise":
        refuse_lone(items)
    return ItemSource(label_space_of(data), split, items, data.pixels)


def _items(data_set: DataSet, root: Path | None, split: str) -> Sequence[Item]:
    if split not in data_set.splits(root) and WHOLE in data_set.splits(root):
        raise InputError(
            f"--data.dir {root} has no split {split!r}, its pictures are not divided: "
            "--data.val_share 0.2 sets a fifth aside to validate on"
        )
    return data_set.find(root, split)


def label_space_of(data: Data) -> LabelSpace:
    """The classes of the data set that `data` names; a user's own are read from its class file.

    Raises: InputError for a class file that is missing or has a mistake.
    """
    data_set = dataset_of(data)
    if isinstance(data_set.label_space, LabelSpace):
        return data_set.label_space
    if (prepared := _prepared(data, data_set)) is not None:
        return prepared_classes(prepared)
    return data_set.label_space_in(_root(data))


def _prepared(data: Data, data_set: DataSet) -> Path | None:
    """The folder of the prepared data set that is to be read; None if its items are.

    One in a bucket is copied into the cache first; a generated one is prepared if it is not
    there.

    Raises: InputError where only a prepared data set can serve, in a bucket or with
      superpixels, and there is none; it says which command prepares it.
    """
    segments = data.superpixels
    url = data.dir if data.dir is not None and buckets.is_bucket(data.dir) else None
    if segments is not None and segments < 1:
        raise InputError(f"data.superpixels must be positive or none, not {segments}")
    if data_set.version is None:
        if segments is not None or url:
            raise InputError(
                f"data.name {data_set.name!r} cannot be prepared, as superpixels and buckets need"
            )
        return None
    if url:
        relative = data_set.prepared_dir(Path(), segments)
        if not buckets.has(url, relative):
            held = f"{url} holds no {relative.as_posix()}"
            raise InputError(f"{held}; {_command(data_set, segments, url)}")
        buckets.download(url, relative)
        return buckets.mirror(url) / relative
    if data.dir is None and not data_set.generated:
        return None
    root = Path(data.dir).expanduser() if data.dir else default_cache()
    folder = data_set.prepared_dir(root, segments)
    if not is_complete(folder):
        if data_set.generated:
            prepare(data_set, root, superpixels=segments, progress=False)
        elif segments is not None:
            command = _command(data_set, segments, str(root))
            raise InputError(f"data.superpixels: {folder} does not exist; {command}")
        else:
            return None
    if data_set.is_own and data_set.splits(root):
        raise InputError(
            f"--data.dir {root} holds pictures and a prepared data set, {folder}, which may "
            "differ: move one of them elsewhere"
        )
    return folder


def _command(data_set: DataSet, superpixels: int | None, data_dir: str) -> str:
    source = "DIR"
    if not buckets.is_bucket(data_dir) and data_set.splits(Path(data_dir)):
        source = data_dir
        if data_set.is_own:  # kept apart from what it is made of
            data_dir = "PREPARED"
    given = "" if data_set.generated else f" --source {source}"
    given += f" --data-dir {data_dir}"
    given += "" if superpixels is None else f" --superpixels {superpixels}"
    return f"`python -m sdnjax.data.prepare {data_set.name}{given}` prepares it"


def _root(data: Data) -> Path:
    if data.dir is None:
        raise InputError(f"{dataset_of(data).name} needs --data.dir, the folder that holds it")
    return Path(data.dir).expanduser()
