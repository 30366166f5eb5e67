"""What the entry points share: settings as options, errors as one line."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sdnjax.errors import InputError, RunError
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import PROTOCOLS, protocol
from sdnjax.options import OneLineParser, add_overrides, apply_overrides


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


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """The option that names a published protocol; `by_protocol` reads it."""
    plain = [name for name in PROTOCOLS if "_ms" not in name.removesuffix("_mmseg")]
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"settings of evaluation as published: {', '.join(plain)}; NAME_ms is at "
        "mmsegmentation's six scales, mirrored too, NAME_ms_sdn at the SDN paper's seven; "
        "further options change single settings [the run's own settings]",
    )


def by_protocol(load: Callable[[Path], Experiment]) -> Callable[[Path], Experiment]:
    """`load`, whose experiment is then evaluated as the command line's `--protocol` says.

    It is read before the other options: their defaults, which `--help` shows, come from it.
    How many images are predicted at once stays the run's.
    """

    def loaded(path: Path) -> Experiment:
        experiment = load(path)
        early = OneLineParser(add_help=False)
        early.add_argument("--protocol")
        name = early.parse_known_args(sys.argv[1:])[0].protocol
        if name is None:
            return experiment
        batch_size = experiment.evaluation.batch_size
        evaluation = dataclasses.replace(protocol(name), batch_size=batch_size)
        return dataclasses.replace(experiment, evaluation=evaluation)

    return loaded


def add_distributed(parser: argparse.ArgumentParser) -> None:
    """The option that makes this process one of several."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one process of several; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
        "JAX_PROCESS_ID say which, where the cluster does not",
    )


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
