"""Prepares a data set as ArrayRecord files: `python -m sdnjax.data.prepare --help`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

from sdnjax.config import OneLineParser
from sdnjax.data.layouts import LAYOUTS
from sdnjax.data.sources import VERSIONS, default_cache, is_prepared, prepared_dir
from sdnjax.errors import InputError

_HELP = """Prepares a data set once, so that training reads it with random access.

Files are checked (readable, equal sizes, known label values) and stored unchanged. Nothing
is left behind when preparation fails or is interrupted.

  python -m sdnjax.data.prepare camvid --source ~/CamVid --data-dir ~/data
  python train.py … --data.name camvid --data.dir ~/data"""


def prepare(
    name: str,
    data_dir: str | Path,
    source: str | Path | None = None,
    *,
    on_bad_image: str = "raise",
    progress: bool = True,
) -> tuple[Path, dict[str, str]]:
    """Prepares `name` in `data_dir`; does nothing if it is there already.

    Processes may race: each writes a folder of its own, and the first to finish renames it
    into place.

    Args:
      name: a key of `VERSIONS`.
      data_dir: receives `name/version`; created if missing.
      source: the folder with the original files, for data sets that have any.
      on_bad_image: "raise", or "skip" to leave bad pairs out.
      progress: show a progress bar on stderr.

    Returns: the folder and, for every pair left out, its name and what is wrong with it.
    Raises: InputError for a missing folder, a wrong layout or a bad file.
    """
    root = Path(data_dir).expanduser()
    target = prepared_dir(root, name)
    if is_prepared(root, name):
        return target, {}
    _check_source(name, source)
    created = _make_dirs(target.parent)
    try:
        builder = _builder(name, root, on_bad_image)
        _build(builder, source, progress)
    except OSError as error:
        # Another process may have finished first; then ours cannot be renamed.
        if not is_prepared(root, name):
            raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        for folder in created:  # deepest first; those that hold something stay
            with contextlib.suppress(OSError):
                folder.rmdir()
    return target, builder.failures.messages


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = OneLineParser(prog="python -m sdnjax.data.prepare", description=_HELP)
    parser.add_argument("name", choices=sorted(VERSIONS), help="the data set")
    parser.add_argument(
        "--source", metavar="DIR", help="folder with the original files; camvid: SegNet's layout"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=str(default_cache()),
        help="folder that receives NAME/VERSION; give it to training as --data.dir "
        f"[{default_cache()}]",
    )
    parser.add_argument(
        "--on-bad-image",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a bad pair, or leave it out and count it [raise]",
    )
    try:
        args = parser.parse_args(arguments)
        target, skipped = prepare(
            args.name, args.data_dir, args.source, on_bad_image=args.on_bad_image
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was left behind", file=sys.stderr)
        return 130
    for message in skipped.values():
        print(f"skipped: {message}", file=sys.stderr)
    print(f"{target}" + (f" ({len(skipped)} skipped)" if skipped else ""))
    return 0


def _check_source(name: str, source: str | Path | None) -> None:
    if name == "shapes":
        if source is not None:
            raise InputError("shapes is generated: leave out --source")
        return
    if source is None:
        raise InputError(f"{name} needs --source, the folder with its original files")
    root = Path(source).expanduser()
    if not root.is_dir():
        raise InputError(f"--source {source} is not a folder")
    if not LAYOUTS[name].splits(root):
        raise InputError(f"--source {source}: expected {LAYOUTS[name].expected} there")


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


def _builder(name: str, root: Path, on_bad_image: str):
    if name == "camvid":
        from sdnjax.data.builders.camvid import CamVid as builder  # noqa: PLC0415
    else:
        from sdnjax.data.builders.shapes import Shapes as builder  # noqa: PLC0415
    return builder(data_dir=os.fspath(root), on_bad_image=on_bad_image)


def _build(builder, source: str | Path | None, progress: bool) -> None:
    from sdnjax.data.tfds_setup import tfds  # noqa: PLC0415 (imports TensorFlow)

    manual = None if source is None else os.fspath(Path(source).expanduser())
    config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    tfds.enable_progress_bar() if progress else tfds.disable_progress_bar()
    # TFDS announces a download and makes a folder for it; there is none.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as scratch:
        builder.download_and_prepare(download_config=config, download_dir=scratch)


if __name__ == "__main__":
    sys.exit(main())
