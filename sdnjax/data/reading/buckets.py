"""Prepared data sets in buckets (`gs://…`, `s3://…`): copied up, and copied into the cache.

ArrayRecord files can be written to a disk only, and are read best from one. So a data set
is built in the cache and copied up, and read from a copy in the cache, which `mirror`
places. Either copy goes on where it was interrupted, file by file. `dataset_info.json`
comes last, because it makes a data set count.

All access goes through `etils.epath`. Without gcsfs it uses TensorFlow's own client for `gs://`.
Tested with a folder in the place of a bucket; a real bucket, its credentials and its network
errors are untested.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from sdnjax.data.cache import default_cache
from sdnjax.data.locks import locked
from sdnjax.data.reading.prepared import COMPLETE
from sdnjax.errors import InputError, as_one_line
from sdnjax.places import place

# Holds the `dataset_info.json` of the copy that is under way: what is there of another one
# must not be gone on with.
_UNDER_WAY = ".copying.json"
_PART = ".part.json"


def is_bucket(path: object) -> bool:
    """Whether a path is a bucket's; InputError for a kind of bucket that is not served."""
    text = str(path)
    if "://" in text and not text.startswith(("gs://", "s3://")):
        raise InputError(f"{text}: only folders and buckets of gs:// or s3:// are served")
    return "://" in text


def mirror(url: str) -> Path:
    """The folder in the cache that stands for a bucket's folder."""
    below = url.replace("s3://", "s3/").removeprefix("gs://")  # no bucket has a name so short
    return default_cache() / "buckets" / below.strip("/")


def has(url: str, relative: PurePath) -> bool:
    """Whether the bucket holds the complete data set `relative`."""
    with as_one_line(url):
        return (_remote(url, relative) / COMPLETE).exists()


def upload(url: str, relative: PurePath, *, progress: bool = False) -> None:
    """Copies `mirror(url) / relative` to the bucket; files that are there stay.

    Raises: InputError if the bucket cannot be written.
    """
    local, remote = mirror(url) / relative, _remote(url, relative)
    with as_one_line(url):
        remote.mkdir(parents=True, exist_ok=True)
        _copy_all(_files(local), _from_path(local), remote, "uploading", progress)


def download(url: str, relative: PurePath, *, progress: bool = True) -> None:
    """Copies `relative` from the bucket to `mirror(url)`, unless the same is there.

    Processes of one machine wait for the first of them.

    Raises: InputError if the bucket cannot be read.
    """
    local, remote = mirror(url) / relative, _remote(url, relative)
    with as_one_line(url):
        local.parent.mkdir(parents=True, exist_ok=True)
        with locked(local.parent / f".{local.name}.lock"):
            newest = (remote / COMPLETE).read_bytes()
            if (local / COMPLETE).is_file():
                if (local / COMPLETE).read_bytes() == newest:
                    return
                shutil.rmtree(local)  # the bucket holds another one since
            local.mkdir(exist_ok=True)
            _copy_all(_files(remote), remote, _from_path(local), "downloading", progress)


def _copy_all(names: list[str], source: Any, target: Any, what: str, progress: bool) -> None:
    """Copies files between two epath folders, `COMPLETE` last; sizes are compared."""
    newest, under_way = (source / COMPLETE).read_bytes(), target / _UNDER_WAY
    goes_on = under_way.exists() and under_way.read_bytes() == newest
    if not goes_on:
        for name in _files(target):
            (target / name).unlink()
        under_way.write_bytes(newest)
    sizes = {name: (source / name).stat().length for name in names}
    if progress and not goes_on:
        size = f"{sum(sizes.values()) / 1e6:.1f} MB"
        print(f"{what} {len(names)} files of {source}, {size}, to {target}", file=sys.stderr)
    bar = tqdm(
        total=sum(sizes.values()),
        desc=what,
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )
    with bar:
        for name in sorted(names, key=lambda name: (name == COMPLETE, name)):
            file = target / name
            if not (file.exists() and file.stat().length == sizes[name]):
                # Must not be seen before it is complete; an object never is.
                part = target / _PART if name == COMPLETE and not is_bucket(target) else file
                (source / name).copy(part, overwrite=True)
                if part.stat().length != sizes[name]:
                    raise OSError(f"{part} has {part.stat().length} of {sizes[name]} bytes")
                if part is not file:
                    part.replace(file)
            bar.update(sizes[name])
    under_way.unlink()


def _files(folder: Any) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name not in (_UNDER_WAY, _PART))


def _remote(url: str, relative: PurePath) -> Any:
    return _from_path(url) / relative.as_posix()


def _from_path(path: str | Path) -> Any:
    from etils import epath  # noqa: PLC0415

    if is_bucket(path):
        if str(path).startswith("s3://") or importlib.util.find_spec("gcsfs") is not None:
            return place(str(path))
        from sdnjax.data import tf_setup  # noqa: F401, PLC0415  (epath imports TensorFlow)

    return epath.Path(path)
