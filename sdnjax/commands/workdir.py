"""The work directory: everything about one run, never overwritten unasked.

config.json      the resolved experiment
runs.json        each start of it: when, command, versions, devices, git commit
metrics.jsonl    one line per logged step and per validation
checkpoints/     see sdnjax.training.checkpoints
tensorboard/     the same metrics as event files
evaluation/      what eval.py wrote
predictions/     what predict.py wrote
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

import sdnjax
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.settings import differences, from_dict, to_dict
from sdnjax.training.checkpoints import finished_steps

_OURS = ("config.json", "runs.json", "metrics.jsonl", "checkpoints", "tensorboard")


def open_workdir(
    path: Path, experiment: Experiment, *, resume: bool = False, overwrite: bool = False
) -> None:
    """Makes the directory ready for a run of `experiment`, or explains why it is not.

    Raises:
      InputError: it holds a run and neither `resume` nor `overwrite` was asked for; it
        holds another experiment; it holds something that is no run.
    """
    if jax.process_index() == 0:  # of several processes, one looks and writes
        _prepare(path, experiment, resume, overwrite)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("work directory")


def _prepare(path: Path, experiment: Experiment, resume: bool, overwrite: bool) -> None:
    saved = path / "config.json"
    if path.exists() and not path.is_dir():
        raise InputError(f"work directory {path} is a file: name a folder with --workdir")
    if saved.is_file() and not overwrite:
        _check_same_run(path, experiment, resume)
    elif path.is_dir() and any(path.iterdir()) and not saved.is_file():
        raise InputError(f"{path} is not empty and holds no run: name another --workdir")
    elif saved.is_file():
        for name in _OURS:
            entry = path / name
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _write_json(saved, to_dict(experiment))
        starts = path / "runs.json"
        history = json.loads(starts.read_text()) if starts.is_file() else []
        _write_json(starts, [*history, provenance()])
    except OSError as error:
        raise InputError(f"cannot write to work directory {path}: {error.strerror}") from None


def load_experiment(path: Path) -> Experiment:
    """The experiment of a work directory."""
    saved = path / "config.json"
    if not saved.is_file():
        raise InputError(f"{path} is no work directory: it has no config.json")
    try:
        values = json.loads(saved.read_text())
    except ValueError:
        raise InputError(f"{saved} is damaged: it is not JSON") from None
    return from_dict(Experiment, values, str(saved))


def describe_run(experiment: Experiment, space: LabelSpace) -> dict[str, Any]:
    """What travels with every checkpoint, so that it can be used alone."""
    return {
        "experiment": to_dict(experiment),
        "classes": list(space.classes),
        "palette": [list(colour) for colour in space.palette],
        **provenance(),
    }


def provenance() -> dict[str, Any]:
    """What decides a run beside its experiment, and when and how it was started."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "versions": versions(),
        "devices": [d.device_kind for d in jax.devices()],
        "processes": jax.process_count(),
        "git_commit": git_commit(),
    }


def versions() -> dict[str, str]:
    """Python and the packages that numerics depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-cpu")
    found = {"python": platform.python_version(), "sdnjax": sdnjax.__version__}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the library's checkout, with `+changes` if it has any; None outside git."""
    root = Path(sdnjax.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None or git("ls-files", "__init__.py") == "":
        return None  # no repository, or one that merely contains the installed package
    return commit + ("+changes" if git("status", "--porcelain", "-uno") else "")


def _check_same_run(path: Path, experiment: Experiment, resume: bool) -> None:
    changed = differences(load_experiment(path), experiment)
    if changed:
        listing = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" * (len(changed) > 3))
        raise InputError(
            f"{path} holds another configuration ({listing}): "
            "name another --workdir, or --overwrite it"
        )
    if not resume:
        steps = finished_steps(path / "checkpoints")
        progress = f"saved up to step {steps[-1]}" if steps else "nothing saved yet"
        raise InputError(
            f"{path} holds this run already ({progress} of {experiment.steps}): "
            "--resume goes on, --overwrite starts anew"
        )


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
