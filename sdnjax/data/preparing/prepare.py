"""Prepares a data set as ArrayRecord files: finds it, has it examined, writes it."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from sdnjax.data.locks import Lock
from sdnjax.data.preparing.archives import find_archives, unpack
from sdnjax.data.preparing.examine import Examined, all_items, examine, job_for, stored_bytes
from sdnjax.data.preparing.slic import MOST_SEGMENTS, require_scikit_image
from sdnjax.data.reading import buckets
from sdnjax.data.reading.origin import check_origin, write_origin
from sdnjax.data.reading.prepared import is_complete
from sdnjax.data.sets import DataSet, named
from sdnjax.errors import InputError


def prepare(
    name: str | DataSet,
    data_dir: str | Path,
    source: str | Path | None = None,
    *,
    superpixels: int | None = None,
    on_bad_image: str = "raise",
    partial: bool = False,
    workers: int = 1,
    unpacked: str | Path | None = None,
    progress: bool = True,
) -> tuple[Path | str, dict[str, str]]:
    """Prepares `name` in `data_dir`; does nothing if it is there already.

    Processes may race: each writes a folder of its own, and the first to finish renames it
    into place. Checks that one has finished serve the others.

    Args:
      name: of a data set that has a version, or its record.
      data_dir: receives `name/version`, or `name/slicN/version`; created if missing. With
        `gs://bucket/path` the data set is built in the cache and copied there.
      source: for data sets that have any, the folder with the original files or with their
        official archives, or an archive.
      superpixels: SLIC segments to compute for each image; None for none.
      on_bad_image: "raise" stops at the first bad pair, in order; "skip" leaves them out.
      partial: prepare what is there even if examples are missing.
      workers: processes that check. More than one need a main module that can be imported,
        as everywhere in `multiprocessing`.
      unpacked: where archives are unpacked, each once; by default `data_dir/name/unpacked`.
      progress: show bars on stderr if that is a terminal, and notes.

    Returns: the folder (the URL in a bucket) and, for every pair left out, its name and what
      is wrong with it.
    Raises: InputError for a missing folder, a wrong layout, missing examples or a bad file.
    """
    data_set = named(name) if isinstance(name, str) else name
    if data_set.version is None:
        raise InputError(f"{data_set.name} cannot be prepared: it is read from its files")
    if buckets.is_bucket(data_dir):
        url, relative = str(data_dir).rstrip("/"), data_set.prepared_dir(Path(), superpixels)
        skipped: dict[str, str] = {}
        if data_set.is_own and buckets.has(url, relative):
            raise InputError(
                f"{url} holds a prepared {data_set.name} already, perhaps another one: name "
                "another path for --data-dir"
            )
        if not buckets.has(url, relative):
            _, skipped = prepare(
                data_set,
                buckets.mirror(url),
                source,
                superpixels=superpixels,
                on_bad_image=on_bad_image,
                partial=partial,
                workers=workers,
                unpacked=unpacked,
                progress=progress,
            )
            buckets.upload(url, relative, progress=progress)
        return f"{url}/{relative.as_posix()}", skipped
    root = Path(data_dir).expanduser()
    target = data_set.prepared_dir(root, superpixels)
    if is_complete(target):
        _check_same(data_set, source, target)
        return target, {}
    _check(target, workers, superpixels)
    place = Path(unpacked).expanduser() if unpacked else root / data_set.name / "unpacked"
    origin = _origin(data_set, source, place, progress)
    _check_apart(data_set, origin, root)
    splits = all_items(data_set, origin)
    notes = _missing(data_set, origin, splits, partial)
    if progress and notes:
        print(f"partial: {', '.join(notes)}", file=sys.stderr)
    job = job_for(data_set, origin, superpixels)
    note = None
    if data_set.is_own and origin is not None:
        note = functools.partial(write_origin, source=origin, splits=splits, space=job.space)
    created = _make_dirs(target.parent)
    try:
        with _work_folder(target) as work:
            examined = examine(
                splits,
                job,
                work,
                on_bad_image=on_bad_image,
                workers=workers,
                progress=progress,
            )
            _write(data_set, examined, work, target, note=note, progress=progress)
    except OSError as error:
        # Another process may have finished first; then ours cannot be renamed.
        if not is_complete(target):
            raise InputError(
                f"{target}: cannot be written ({error.strerror or error}); the same command goes on"
            ) from error
        _check_same(data_set, source, target)
        return target, {}
    finally:
        for folder in created:  # deepest first; those that hold something stay
            with contextlib.suppress(OSError):
                folder.rmdir()
    return target, dict(examined.skipped)


def _check(target: Path, workers: int, superpixels: int | None) -> None:
    """InputError for arguments with which nothing can be prepared."""
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target} is there but not complete: remove it")
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    if superpixels is not None:
        if not 1 <= superpixels <= MOST_SEGMENTS:
            raise InputError(f"superpixels must be 1 to {MOST_SEGMENTS}, not {superpixels}")
        require_scikit_image()


def _origin(
    data_set: DataSet, source: str | Path | None, place: Path, progress: bool
) -> Path | None:
    """The folder with the original files; archives are unpacked into `place`."""
    name = data_set.name
    if data_set.generated:
        if source is not None:
            raise InputError(f"{name} is generated: leave out --source")
        return None
    if source is None:
        raise InputError(f"{name} needs --source, the folder with its original files")
    root = Path(source).expanduser()
    if root.is_dir() and data_set.splits(root):
        return root
    archives = find_archives(root, data_set.archives)
    if archives:
        if progress:
            print(f"archives are unpacked into {place}", file=sys.stderr)
        unpack(archives, place, progress=progress)
        if data_set.splits(place):
            return place
        raise InputError(
            f"--source {source}: {' and '.join(a.name for a in archives)} held no "
            f"{data_set.expected}" + _others(data_set.archives, archives)
        )
    if not root.is_dir():
        raise InputError(f"--source {source} is not a folder")
    if lacks := data_set.missing(root):
        raise InputError(f"--source: {lacks}")
    official = f", or {' and '.join(data_set.archives)}" if data_set.archives else ""
    raise InputError(f"--source {source}: expected {data_set.expected} there{official}")


def _others(official: Sequence[str], found: Sequence[Path]) -> str:
    missing = [name for name in official if name not in {archive.name for archive in found}]
    return f"; there is no {' and no '.join(missing)} beside" if missing else ""


def _missing(
    data_set: DataSet, root: Path | None, splits: Mapping[str, Sequence], partial: bool
) -> list[str]:
    """How the splits differ from the published ones; an error unless that is allowed.

    A test split may be missing, because the labels of many are secret.
    """
    notes = [
        f"{split} has {len(splits.get(split, ()))} of {count} examples"
        for split, count in data_set.counts.items()
        if len(splits.get(split, ())) != count and (split in splits or split != "test")
    ]
    if notes and not partial:
        raise InputError(
            f"{root}: {', '.join(notes)}; an incomplete download? --partial prepares what is there"
        )
    return notes


def _make_dirs(folder: Path) -> list[Path]:
    """Creates a folder and its parents; returns the new ones, deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        try:
            new.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{new}: cannot be created ({error.strerror})") from None
    return missing


@contextlib.contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that outlives the process if it holds finished blocks.

    Processes that prepare the same data set share it, and each holds its lock in common with
    the others while it works. Who can have the lock alone knows that nobody else is at work:
    only then is anything removed, at the start what killed processes were writing, and at the
    end the whole folder. A killed process loses its lock, so nothing has to be cleaned up by
    hand.
    """
    work = target.with_name(f".work-{target.name}")
    work.mkdir(exist_ok=True)
    with Lock(work / "lock") as lock:
        if lock.alone():  # what others were writing when they were killed
            for stale in work.glob("writing-*"):
                shutil.rmtree(stale, ignore_errors=True)
        lock.share()
        try:
            yield work
        finally:
            if (target.exists() or not any(work.glob("*.zip"))) and lock.alone():
                shutil.rmtree(work, ignore_errors=True)


def _check_apart(data_set: DataSet, origin: Path | None, root: Path) -> None:
    """InputError if a user's own is to be prepared inside itself."""
    if data_set.is_own and origin is not None and origin.resolve() == root.resolve():
        raise InputError(
            f"--data-dir {root} is the folder with the pictures themselves: name another, so that "
            "it is clear which of the two is read"
        )


def _check_same(data_set: DataSet, source: str | Path | None, target: Path) -> None:
    """InputError if a user's own that is prepared in `target` is not what lies in `source`."""
    if not data_set.is_own:
        return
    origin = _origin(data_set, source, target, progress=False)
    assert origin is not None  # a user's own is not generated
    check_origin(target, origin, all_items(data_set, origin), data_set.label_space_in(origin))


def _write(
    data_set: DataSet,
    examined: Examined,
    work: Path,
    target: Path,
    *,
    progress: bool,
    note: Callable[[Path], None] | None,
) -> None:
    """Writes what was examined to a folder of its own, and renames that to `target`.

    `note` adds to the folder what has to be known of it.
    """
    # Imported here, because TensorFlow takes seconds and the checks do without it.
    from sdnjax.data.preparing.builder import builder_class  # noqa: PLC0415
    from sdnjax.data.tf_setup import tf  # noqa: PLC0415
    from sdnjax.data.tfds_setup import tfds  # noqa: PLC0415

    places = [place for of_split in examined.places.values() for place in of_split]
    needed = sum(stored_bytes(block.states[number]) for block, number in places)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise InputError(f"{target}: needs {_size(needed)}, there are {_size(free)} left")
    bar = tqdm(
        total=len(places), desc="writing", unit=" images", disable=None if progress else True
    )
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of our own configurations
    superpixels = examined.job.superpixels
    try:
        # TFDS announces a download and makes a folder for it; there is none. It is written
        # in the work folder, which is on the disk of `target`, so that renaming it is atomic.
        with (
            bar,
            tempfile.TemporaryDirectory(prefix="writing-", dir=work) as place,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder = builder_class(data_set)(
                data_dir=place, superpixels=superpixels, examined=examined, report=bar.update
            )
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                download_dir=f"{place}/downloads",
            )
            finished = data_set.prepared_dir(Path(place), superpixels)
            if note is not None:
                note(finished)
            finished.rename(target)
    except (RuntimeError, tf.errors.OpError) as error:  # what writers make of a full disk
        raise OSError(" ".join(str(error).split(";")[0].split())[:200]) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "everything is checked; the same command writes the data set"
        ) from None


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
