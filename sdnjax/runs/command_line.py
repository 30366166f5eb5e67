"""What the three entry points share: settings as options, errors as one line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sdnjax.config import OneLineParser, add_overrides, apply_overrides
from sdnjax.errors import InputError, RunError
from sdnjax.experiment import Experiment


def parse_experiment(
    parser: OneLineParser,
    positional: str,
    load: Callable[[Path], Experiment],
    argv: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, Experiment]:
    """Parses options whose defaults come from the experiment that an argument names.

    `positional` is that argument of `parser`, `load` makes the experiment of it. Without
    it, `--help` shows the library's defaults.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        argv = ["--help"]
    asks_help = "-h" in argv or "--help" in argv
    words = [a for a in argv if a not in ("-h", "--help")]
    experiment = Experiment()
    if words and not words[0].startswith("-"):
        experiment = load(Path(words[0]))
    elif not asks_help:
        raise InputError(f"name the {positional} first; --help shows how")
    add_overrides(parser, experiment)
    arguments = parser.parse_args(["--help"] if asks_help else argv)
    if getattr(arguments, "on_bad_image", None):
        setattr(arguments, "data.on_bad_image", arguments.on_bad_image)
    return arguments, apply_overrides(experiment, arguments)


def add_on_bad_image(parser: argparse.ArgumentParser) -> None:
    """The option that decides about unreadable files."""
    parser.add_argument(
        "--on-bad-image",
        choices=("raise", "skip"),
        help="stop at a file that cannot be read, or leave it out and count it "
        "(short for --data.on_bad_image)",
    )


def run(main: Callable[[], int | None]) -> int:
    """Calls `main`; a mistake of the user or of the run becomes one line and a status."""
    # Orbax's threads log the whole traceback of an error that reaches us anyway.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        return main() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that went away
        where = f"{error.filename}: " if error.filename else ""
        print(f"stopped: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
