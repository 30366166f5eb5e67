"""What the entry points share: settings as options, errors as one line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from sdnjax.commands.compilation_cache import keep_compiled_functions
from sdnjax.commands.directions import SegFix
from sdnjax.commands.trained import Step
from sdnjax.commands.workdir import load_experiment
from sdnjax.config_file import load_config, shipped
from sdnjax.errors import InputError, RunError, unknown
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import PROTOCOLS, protocol
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.places import place
from sdnjax.training.cluster import join_processes, launched
from sdnjax.training.stopping import PREEMPTED
from sdnjax.training.together import failing_together

# What of an experiment the commands read that use a trained network.
EVALUATION = ("evaluation",)
PREDICTION = tuple(
    f"evaluation.{key}"
    for key in (
        *("mode", "resize_to", "canvas", "window", "stride", "small"),
        *("scales", "flip", "size_multiple", "finish"),
    )
)
PICTURES = (
    *("data.mean", "data.std", "data.on_bad_image", "data.exif_orientation", "data.max_pixels"),
    *("data.channels", "data.value_range"),
)
VALIDATION = (
    *PICTURES,
    *("data.name", "data.dir", "data.val_split", "data.val_share", "data.fold", "data.workers"),
)


def parse_experiment(
    parser: OneLineParser,
    positional: str,
    load: Callable[[argparse.Namespace, Path], Experiment],
    argv: Sequence[str] | None = None,
    *,
    uses: Sequence[str] | None = None,
) -> tuple[argparse.Namespace, Experiment]:
    """Parses options whose defaults come from the experiment that an argument names.

    Args:
      parser: its own options are known already.
      positional: what the argument is, for people.
      load: the parser's options, the argument → the experiment. Without an argument `--help`
        shows the library's defaults.
      uses: settings, or sections of them, that the command reads; None for all. Others are
        refused.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    asks_help = "-h" in argv or "--help" in argv
    words = [a for a in argv if a not in ("-h", "--help")]
    experiment = Experiment()
    if words and not words[0].startswith("-"):
        experiment = load(_early(parser, argv), place(words[0]))
    elif not asks_help:
        usage = (parser.usage or "").removesuffix(" [options]")
        raise InputError(f"name the {positional} first: {usage}; --help shows all")
    experiment = _with_network_of(experiment, argv).resolved()

    def used(key: str) -> bool:
        return uses is None or any(key == u or key.startswith(u + ".") for u in uses)

    add_overrides(parser, experiment, used)
    arguments = parser.parse_args(["--help"] if asks_help else argv)
    if getattr(arguments, "on_bad_image", None):
        setattr(arguments, "data.on_bad_image", arguments.on_bad_image)
    return arguments, apply_overrides(experiment, arguments)


def from_config(arguments: argparse.Namespace, path: Path) -> Experiment:
    """For `parse_experiment`: the argument is a configuration file, or a work directory."""
    if path.is_dir():
        return from_workdir(arguments, path)
    return load_config(path if path.exists() else shipped(path), Experiment)


def from_workdir(arguments: argparse.Namespace, path: Path) -> Experiment:
    """For `parse_experiment`: the argument is a work directory; see `add_code`, `add_protocol`.

    How many images are predicted at once stays the run's whatever the protocol.
    """
    config, trust = (getattr(arguments, key, None) for key in ("config", "trust_code"))
    experiment = load_experiment(path, config=config, trust_code=bool(trust))
    name = getattr(arguments, "protocol", None)
    if name is None:
        return experiment
    own = experiment.evaluation
    evaluation = dataclasses.replace(
        protocol(name), batch_size=own.batch_size, metrics=own.metrics, finish=own.finish
    )
    return dataclasses.replace(experiment, evaluation=evaluation)


def _early(parser: OneLineParser, argv: Sequence[str]) -> argparse.Namespace:
    """The parser's own options, read before the settings, whose defaults depend on them."""
    early = OneLineParser(add_help=False)
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            early._add_action(action)
    return early.parse_known_args(argv)[0]


def _with_network_of(experiment: Experiment, argv: Sequence[str]) -> Experiment:
    """With the network that the command line asks for: which losses there are depends on it."""
    early = OneLineParser(add_help=False)
    add_overrides(early, experiment, lambda key: key.startswith("model."))
    return apply_overrides(experiment, early.parse_known_args(argv)[0])


def run_verb(description: str, verbs: Mapping[str, Callable[[Sequence[str]], int]]) -> int:
    """For scripts of several verbs: calls the one that the command line names first."""
    if len(sys.argv) < 2:
        raise InputError(f"name the verb first: {', '.join(verbs)}; --help shows how")
    if sys.argv[1] in ("-h", "--help"):
        print(description)
        return 0
    verb, *argv = sys.argv[1:]
    if verb not in verbs:
        raise unknown("unknown verb", verb, verbs)
    return verbs[verb](argv)


def verb_parser(usage: str, command: object) -> OneLineParser:
    """The parser of a verb, whose docstring is its description."""
    return OneLineParser(
        usage=f"python {usage}", description=inspect.cleandoc(command.__doc__ or "")
    )


def add_step(parser: argparse.ArgumentParser) -> None:
    """The option that names a checkpoint."""
    parser.add_argument(
        "--step",
        type=_step,
        metavar="N",
        help="step of the checkpoint; best: the one that keep_best kept [the latest]",
    )


def _step(text: str) -> Step:
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a step or best, not {text!r}")
    return int(text)


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """The option that names a published protocol."""
    plain = [name for name in PROTOCOLS if "_ms" not in name.removesuffix("_mmseg")]
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"settings of evaluation as published: {', '.join(plain)}; NAME_ms is at "
        "mmsegmentation's six scales, mirrored too, NAME_ms_sdn at the SDN paper's seven; "
        "further options change single settings [the run's own settings]",
    )


def add_segfix(parser: argparse.ArgumentParser) -> None:
    """The option that has labels moved along directions; see `with_segfix`."""
    parser.add_argument(
        "--segfix",
        metavar="RUN",
        help="move labels near boundaries along the directions that this run has learnt, after "
        "evaluation.finish [do not]",
    )


def with_segfix(experiment: Experiment, run: str | None) -> Experiment:
    """The experiment whose `evaluation.finish` also moves labels, if `run` is not None."""
    if run is None:
        return experiment
    own = experiment.evaluation
    assert not isinstance(own.finish, str)  # `Evaluation` has put its value in place of a name
    finish = SegFix(run=run, before=own.finish)
    return dataclasses.replace(experiment, evaluation=dataclasses.replace(own, finish=finish))


def add_code(parser: argparse.ArgumentParser) -> None:
    """The options that allow code to be run for a work directory that needs some."""
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="run the code that the work directory keeps, if it was made with code of its own",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="run this configuration file in its place"
    )


def add_distributed(parser: argparse.ArgumentParser) -> None:
    """The option that makes this process one of several."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one process of several, as SLURM, mpirun or a TPU pod says; elsewhere "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID do",
    )
    parser.add_argument(
        "--join-within",
        type=_seconds,
        default=60,
        metavar="SECONDS",
        help="with --distributed, all processes must have come after so long [60]",
    )
    parser.add_argument(
        "--heartbeat",
        type=_seconds,
        default=30,
        metavar="SECONDS",
        help="with --distributed, without a word of a process for so long all end [30]",
    )


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be whole seconds from 1 on, not {text!r}")
    return int(text)


def distributed(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Joins the other processes if `--distributed` asks for it; an error inside ends all.

    Raises: InputError if a launcher has started several tasks and `--distributed` is not there:
      all of them would do the same, into one work directory.
    """
    task = launched()
    if arguments.distributed:
        join_processes(arguments.heartbeat, arguments.join_within)
    elif task is not None and task.tasks > 1:
        raise InputError(
            f"{task.launcher} has started {task.tasks} tasks of this command: with --distributed "
            f"they work together, without it each would do the same; {_ALONE[task.launcher]} "
            "before the command is for runs of their own"
        )
    return failing_together(outcome)


_ALONE = {
    "SLURM": "env -u SLURM_STEP_NUM_TASKS",
    "Open MPI": "env -u OMPI_COMM_WORLD_SIZE",
    "MPI": "env -u PMI_SIZE",
}


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
    keep_compiled_functions()
    for stream in (sys.stdout, sys.stderr):
        # A terminal or log that has no ß or 道 gets \xdf; nothing is lost for it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main() or 0
    except (Exception, KeyboardInterrupt) as error:
        if (found := _foreseen(error)) is None:
            raise
        status, line = found
        print(line, file=sys.stderr)
        return status


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit status and what is printed of an error: one line, or a defect's traceback."""
    found = _foreseen(error)
    return found or (1, "".join(traceback.format_exception(error)).rstrip())


def _foreseen(error: BaseException) -> tuple[int, str] | None:
    if isinstance(error, InputError):
        return 2, f"error: {error}"
    if isinstance(error, (MemoryError, jax.errors.JaxRuntimeError)) and out_of_memory(error):
        return 1, f"stopped: {_OUT_OF_MEMORY}"
    if (lost := _lost_another(error)) is not None:
        return lost
    if isinstance(error, RunError):
        return 1, f"stopped: {error}"
    if _of_a_bucket(error):
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return 1, f"stopped: the bucket cannot be reached: {reason}"
    if isinstance(error, OSError):  # a full disk, a folder that went away
        where = f"{error.filename}: " if error.filename else ""
        return 1, f"stopped: {where}{error.strerror or error}"
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    return None


# Packages whose errors are about credentials and networks; many are no OSError.
_OF_BUCKETS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "s3fs")


def _of_a_bucket(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _OF_BUCKETS


def _lost_another(error: BaseException) -> tuple[int, str] | None:
    """Of several processes, whether an exchange failed because another one is gone.

    It may be why something else could not be done, saving say. JAX raises several kinds, ValueError
    among them. Disks and buckets lose connections too, which no other process did.
    """
    words = (
        "Gloo",
        "NCCL",
        "Connection reset",
        "heartbeat",
        "coordination service",
        "Socket closed",
    )
    cause: BaseException | None = error if jax.process_count() > 1 else None
    while cause is not None:
        elsewhere = isinstance(cause, (RunError, OSError)) or _of_a_bucket(cause)
        if not elsewhere and any(word in str(cause) for word in words):
            reason = str(cause).splitlines()[0][:160]
            return PREEMPTED, (
                f"stopped: another process of the run is gone ({reason}); what was saved is safe: "
                "start all of them again with --resume"
            )
        cause = cause.__cause__
    return None


_OUT_OF_MEMORY = (
    "out of memory; what takes less: in training a smaller batch_size or data.crop_size, or "
    "model.dtype bfloat16; for pictures evaluation.mode slide with a window that fits, or "
    "evaluation.resize_to and evaluation.batch_size 1"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the host's or a device's."""
    words = ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
