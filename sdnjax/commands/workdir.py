"""The work directory: everything about one run, never overwritten unasked.

config.json      the resolved experiment
code/            the configuration file and its modules, if the experiment has objects of its own
runs.json        each start of it: when, command, versions, devices, git commit
metrics.jsonl    one line per logged step and per validation
checkpoints/     see sdnjax.training.checkpoints
best/            the checkpoint with the best score, and the scores of all validations
profile/         a profiler trace of chosen steps
tensorboard/     the same metrics as event files
loggers.json     what W&B and MLflow call the run, if they are asked to log it
wandb/           W&B's own files
evaluation/      what eval.py wrote
predictions/     what predict.py wrote
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

import sdnjax
from sdnjax.config_file import load_config, sources
from sdnjax.data.locks import Lock
from sdnjax.data.sets.label_space import LabelSpace
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.files import write_atomically
from sdnjax.places import InUse, Lease, download, in_bucket, make_folder, place, remove
from sdnjax.settings import differences, own_objects, to_dict
from sdnjax.training.checkpoints import finished_steps
from sdnjax.training.loggers import IDENTITIES
from sdnjax.training.together import gather

# The file of a network's weights that makes a folder one of `save_pretrained`.
WEIGHTS = "model.safetensors"
_LOCK = ".lock"
_OURS = (
    *("config.json", "code", "runs.json", "metrics.jsonl"),
    *("checkpoints", "best", "profile", "tensorboard", IDENTITIES, "wandb"),
)


@contextlib.contextmanager
def held(path: str | Path) -> Iterator[None]:
    """The directory for one run alone; the system gives it back when the process ends, even killed.

    In a bucket, where it cannot, another run waits until nothing is heard of the dead one, see
    `Lease`. The directory is made if it is not there, and taken away again if it is left empty.

    Raises: InputError if another run has it, or it cannot be written.
    """
    path = place(path)
    if in_bucket(path):
        with _leased(path):
            yield
        return
    if path.exists() and not path.is_dir():
        yield  # `check_workdir` says what is wrong
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path / _LOCK)
    except OSError as error:
        raise InputError(f"cannot write to work directory {path}: {error.strerror}") from None
    with lock:
        if not lock.alone():
            holder = (path / _LOCK).read_text(errors="replace").strip()
            raise InputError(
                f"{path} is in use by another train.py ({holder}): wait until it has ended, or "
                "name another --workdir"
            )
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        (path / _LOCK).write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        try:
            yield
        finally:
            if [entry.name for entry in path.iterdir()] == [_LOCK]:
                (path / _LOCK).unlink()
                path.rmdir()


@contextlib.contextmanager
def _leased(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Lease(path / _LOCK))
        except InUse as holder:
            raise InputError(
                f"{path} is in use by another train.py ({holder}): wait until it has ended, or "
                "name another --workdir"
            ) from None
        except Exception as error:  # of many packages: no bucket, no credentials, no network
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"cannot write to work directory {path}: {reason}") from error
        yield


def check_shared(path: str | Path, seconds: float = 10) -> None:
    """Of several processes, whether all see the directory that process 0 holds.

    Otherwise each would find another state to go on from, and wait for the others for ever.

    Raises: InputError on all of them, with the hosts that do not see within `seconds` what process
      0 has just written.
    """
    if jax.process_count() == 1:
        return
    path, first = place(path), jax.process_index() == 0
    # A name that nobody has looked for: a network disk may remember for a minute what is not there.
    (name, *_) = gather(f".shared-{uuid.uuid4().hex[:12]}")
    try:
        if first:
            write_atomically(path / name, socket.gethostname())
        gather("written")
        end = time.monotonic() + seconds
        while not (seen := (path / name).is_file()) and time.monotonic() < end:
            time.sleep(0.2)
        blind = [host for host in gather(None if seen else socket.gethostname()) if host]
    finally:
        if first:
            (path / name).unlink(missing_ok=True)
    if blind:
        listing = ", ".join(dict.fromkeys(blind[:4])) + (" and others" * (len(blind) > 4))
        raise InputError(
            f"work directory {path} is not one folder for all processes: {listing} did not see "
            f"within {seconds:g} s what process 0 wrote there; name one on a disk that all of them "
            "share, or in a bucket, with --workdir"
        )


def open_workdir(
    path: str | Path, experiment: Experiment, *, resume: bool = False, overwrite: bool = False
) -> None:
    """Makes the directory ready for a run of `experiment`, or explains why it is not.

    Raises: InputError as `check_workdir`, and if it cannot be written.
    """
    if jax.process_index() == 0:  # of several processes, one looks and writes
        check_workdir(path, experiment, resume=resume, overwrite=overwrite)
        _prepare(place(path), experiment, overwrite)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("work directory")


def check_workdir(
    path: str | Path, experiment: Experiment, *, resume: bool = False, overwrite: bool = False
) -> None:
    """Explains why a run of `experiment` cannot begin or go on in the directory, if it cannot.

    A run that goes on may have other `steps` than it had.

    Raises:
      InputError: it holds a run and neither `resume` nor `overwrite` was asked for; it
        holds another experiment; it holds something that is no run.
    """
    path = place(path)
    saved = path / "config.json"
    if path.exists() and not path.is_dir():
        raise InputError(f"work directory {path} is a file: name a folder with --workdir")
    if (path / WEIGHTS).is_file():
        raise InputError(
            f"{path} holds a network alone, no run: --init_from {path} starts a run from it"
        )
    if saved.is_file() and not overwrite:
        _check_same_run(path, experiment, resume)
    elif path.is_dir() and not saved.is_file() and any(p.name != _LOCK for p in path.iterdir()):
        raise InputError(f"{path} is not empty and holds no run: name another --workdir")


def _prepare(path: Path, experiment: Experiment, overwrite: bool) -> None:
    saved = path / "config.json"
    code = {} if experiment.code is None else sources(experiment.code)  # it may lie in path/code
    if saved.is_file() and overwrite:
        for name in _OURS:
            remove(path / name)
    try:
        make_folder(path)
        for name, content in code.items():
            make_folder((path / "code" / name).parent)
            write_atomically(path / "code" / name, content)
        _write_json(saved, {**to_dict(experiment), "code": code_record(experiment)})
        starts = path / "runs.json"
        _write_json(starts, [*_starts_so_far(starts), provenance()])
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to work directory {path}: {reason}") from None


def _starts_so_far(path: Path) -> list[Any]:
    """What `runs.json` holds. A damaged one stops no run: it is kept under another name."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found
    write_atomically(path.with_name("runs.damaged.json"), path.read_bytes())
    path.unlink()
    return []


def load_experiment(
    path: str | Path, *, config: str | Path | None = None, trust_code: bool = False
) -> Experiment:
    """The experiment of a work directory.

    If it has objects of its own, they are made by running code again: that which the directory
    keeps, if `trust_code`, or the configuration file `config`. Neither happens unasked, because
    a work directory may come from somebody else, and code can do anything.

    Raises:
      InputError: there is no run, or its file is damaged; it needs code that is not named, not
        kept, or no longer what it was.
    """
    path = place(path)
    values, record = _read_config(path)
    where = str(path / "config.json")
    own = own_objects(values)
    if not own:
        if config is not None:
            raise InputError(f"--config: {path} needs no code, its config.json says everything")
        return experiment_from_dict(values, where)
    if config is None and not trust_code:
        kept = f"--trust-code runs the copy in {path / 'code'}, " if record else ""
        raise InputError(
            f"{path} was made with code of its own ({', '.join(dict.fromkeys(own))[:200]}): "
            f"{kept}--config FILE runs a configuration file of yours"
        )
    if config is None:
        config = _kept_code(path, record)
    base = load_config(config, Experiment, name=values.get("name")).resolved()
    experiment = experiment_from_dict(values, where, base)
    return dataclasses.replace(experiment, code=Path(config).resolve())


def recorded_steps(path: str | Path) -> int | None:
    """The number of steps that the run in a directory was to have."""
    values, _ = _read_config(place(path))
    return values.get("steps")


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What `config.json` holds: the experiment, and the record of its code if there is any."""
    saved = path / "config.json"
    if not saved.is_file():
        raise InputError(f"{path} is no work directory: it has no config.json")
    try:
        values = json.loads(saved.read_text())
    except ValueError:
        raise InputError(f"{saved} is damaged: it is not JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"{saved} is damaged: it holds no settings")
    values.pop("network", None)  # of a folder of `save_pretrained`
    return values, values.pop("code", None)


def _kept_code(path: Path, record: dict[str, Any] | None) -> Path:
    """The configuration file that the directory keeps; InputError unless all is as it was."""
    if not record:
        raise InputError(
            f"{path} keeps no code: its experiment was made in Python, not by a configuration file"
        )
    if in_bucket(path):  # Python imports from disks
        copy = Path(tempfile.mkdtemp(prefix="sdnjax-code-"))
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        names = [name for name in record["files"] if ".." not in Path(name).parts]
        download(path / "code", copy / "code", dict.fromkeys(names, -1))
        path = copy
    for name, digest in record["files"].items():
        file = path / "code" / name
        if not file.resolve().is_relative_to((path / "code").resolve()):
            raise InputError(f"{path / 'config.json'} is damaged: it names {name} as code")
        if not file.is_file() or _digest(file.read_bytes()) != digest:
            raise InputError(
                f"{file} is not what the run was made with: put it back, or name it with --config"
            )
    return path / "code" / record["main"]


def code_record(experiment: Experiment) -> dict[str, Any] | None:
    """The names and SHA-256 of the files that make the experiment's own objects."""
    if experiment.code is None:
        return None
    files = {name: _digest(content) for name, content in sources(experiment.code).items()}
    return {"main": experiment.code.name, "files": files}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def describe_run(experiment: Experiment, space: LabelSpace) -> dict[str, Any]:
    """What travels with every checkpoint, so that it can be used alone."""
    return {
        "experiment": to_dict(experiment),
        "code": code_record(experiment),
        "classes": list(space.classes),
        "palette": [list(colour) for colour in space.palette],
        "mirrored": space.mirrored and list(space.mirrored),
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
    values, record = _read_config(path)
    try:
        there = experiment_from_dict(values, str(path / "config.json"), experiment)
        there = there.resolved()
        if resume:
            there = dataclasses.replace(there, steps=experiment.steps)
        changed = differences(there, experiment)
    except InputError as error:
        changed = [str(error)]
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
            "--resume goes on, with --steps N to another last step, --overwrite starts anew"
        )
    steps = finished_steps(path / "checkpoints")
    if steps and steps[-1] > experiment.steps:
        raise InputError(
            f"{path} is saved up to step {steps[-1]}, which is more than steps {experiment.steps}"
        )
    files, now = ((r or {"files": {}})["files"] for r in (record, code_record(experiment)))
    edited = sorted(name for name in files | now if files.get(name) != now.get(name))
    if record and edited:
        raise InputError(
            f"{edited[0]} is not the code that the run in {path} began with: "
            f"{path / 'code' / record['main']} in its place goes on with that, "
            "--overwrite starts anew"
        )


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1) + "\n")
