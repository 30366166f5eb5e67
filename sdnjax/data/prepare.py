"""Prepares a data set as ArrayRecord files: `python -m sdnjax.data.prepare --help`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from sdnjax.data import buckets
from sdnjax.data.archives import find_archives, unpack
from sdnjax.data.builders import BUILDERS, builder_class
from sdnjax.data.cache import default_cache
from sdnjax.data.examine import Examined, examine
from sdnjax.data.items import items_of, recipe_of, stored_bytes
from sdnjax.data.layouts import LAYOUTS
from sdnjax.data.locks import Lock
from sdnjax.data.prepared import VERSIONS, is_prepared, prepared_dir
from sdnjax.data.superpixels import MOST_SEGMENTS, require_scikit_image
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
  python train.py … --data.name ade20k --data.dir ~/data --data.superpixels 200"""


def prepare(
    name: str,
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
      name: a key of `BUILDERS`.
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
    if buckets.is_bucket(data_dir):
        url, relative = str(data_dir).rstrip("/"), prepared_dir(Path(), name, superpixels)
        skipped: dict[str, str] = {}
        if not buckets.has(url, relative):
            _, skipped = prepare(
                name,
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
    target = prepared_dir(root, name, superpixels)
    if is_prepared(root, name, superpixels):
        return target, {}
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target} is there but not complete: remove it")
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    if superpixels is not None:
        if not 1 <= superpixels <= MOST_SEGMENTS:
            raise InputError(f"superpixels must be 1 to {MOST_SEGMENTS}, not {superpixels}")
        require_scikit_image()
    place = Path(unpacked).expanduser() if unpacked else root / name / "unpacked"
    origin = _origin(name, source, place, progress)
    splits = items_of(name, origin)
    notes = _missing(name, origin, splits, partial)
    if progress and notes:
        print(f"partial: {', '.join(notes)}", file=sys.stderr)
    recipe = recipe_of(name, superpixels)
    created = _make_dirs(target.parent)
    try:
        with _work_folder(target) as work:
            examined = examine(
                splits,
                recipe,
                work,
                on_bad_image=on_bad_image,
                workers=workers,
                progress=progress,
            )
            _write(name, examined, work, target, progress)
    except OSError as error:
        # Another process may have finished first; then ours cannot be renamed.
        if not is_prepared(root, name, superpixels):
            raise InputError(
                f"{target}: cannot be written ({error.strerror or error}); the same command goes on"
            ) from error
        return target, {}
    finally:
        for folder in created:  # deepest first; those that hold something stay
            with contextlib.suppress(OSError):
                folder.rmdir()
    return target, dict(examined.skipped)


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
    names = [name for name in BUILDERS if name in VERSIONS]
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


def _origin(name: str, source: str | Path | None, place: Path, progress: bool) -> Path | None:
    """The folder with the original files; archives are unpacked into `place`."""
    if name not in LAYOUTS:
        if source is not None:
            raise InputError(f"{name} is generated: leave out --source")
        return None
    layout = LAYOUTS[name]
    if source is None:
        raise InputError(f"{name} needs --source, the folder with its original files")
    root = Path(source).expanduser()
    if root.is_dir() and layout.splits(root):
        return root
    archives = find_archives(root, layout.archives)
    if archives:
        if progress:
            print(f"archives are unpacked into {place}", file=sys.stderr)
        unpack(archives, place, progress=progress)
        if layout.splits(place):
            return place
        raise InputError(
            f"--source {source}: {' and '.join(a.name for a in archives)} held no "
            f"{layout.expected}" + _others(layout.archives, archives)
        )
    if not root.is_dir():
        raise InputError(f"--source {source} is not a folder")
    if lacks := layout.missing(root):
        raise InputError(f"--source: {lacks}")
    official = f", or {' and '.join(layout.archives)}" if layout.archives else ""
    raise InputError(f"--source {source}: expected {layout.expected} there{official}")


def _others(official: Sequence[str], found: Sequence[Path]) -> str:
    missing = [name for name in official if name not in {archive.name for archive in found}]
    return f"; there is no {' and no '.join(missing)} beside" if missing else ""


def _missing(name: str, root: Path | None, splits: dict[str, list], partial: bool) -> list[str]:
    """How the splits differ from the published ones; an error unless that is allowed.

    A test split may be missing, because the labels of many are secret.
    """
    counts = LAYOUTS[name].counts if name in LAYOUTS else {}
    notes = [
        f"{split} has {len(splits.get(split, ()))} of {count} examples"
        for split, count in counts.items()
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

    Processes that prepare the same share it; the last one to succeed removes it.
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


def _write(name: str, examined: Examined, work: Path, target: Path, progress: bool) -> None:
    """Writes what was examined to a folder of its own, and renames that to `target`."""
    from sdnjax.data.tf_setup import tf  # noqa: PLC0415 (imports TensorFlow)
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
    superpixels = examined.recipe.superpixels
    try:
        # TFDS announces a download and makes a folder for it; there is none.
        with (
            bar,
            tempfile.TemporaryDirectory(prefix="writing-", dir=work) as place,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder = builder_class(name)(
                data_dir=place, superpixels=superpixels, examined=examined, report=bar.update
            )
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                download_dir=f"{place}/downloads",
            )
            prepared_dir(Path(place), name, superpixels).rename(target)
    except (RuntimeError, tf.errors.OpError) as error:  # what writers make of a full disk
        raise OSError(" ".join(str(error).split(";")[0].split())[:200]) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "everything is checked; the same command writes the data set"
        ) from None


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())
