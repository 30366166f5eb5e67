"""A network in a folder of its own, without the run that it comes from.

model.safetensors   the variables by their paths, `params/backbone/…`
config.json         the experiment as work directories have it, and under `network` the classes,
                    their colours, the step, versions and the digest of the weights
code/               the configuration file and its modules, if the experiment has objects of its own
README.md           a model card
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from sdnjax.commands.model_card import Network, model_card
from sdnjax.commands.workdir import WEIGHTS, code_record, versions
from sdnjax.config_file import sources
from sdnjax.convert.safetensors_file import read_safetensors, write_safetensors
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.settings import own_objects, to_dict

CONFIG = "config.json"
_KEYS = {"classes", "palette", "mirrored", "step", "versions", "sha256"}


def is_pretrained(folder: str | Path) -> bool:
    """Whether a folder is one of `write_pretrained`."""
    return (Path(folder) / WEIGHTS).is_file()


def write_pretrained(network: Network, folder: str | Path, name: str | None = None) -> None:
    """Writes all of the above, or nothing; the folder must be new or empty.

    Paths of this machine (`data.dir`, `init_from`) are left out. `name` is what the model card says
    that the network is loaded by, the folder unless told otherwise.

    Raises: InputError if there is something in the folder, or the network needs what the folder
      would not hold.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there and not an empty folder: name another")
    experiment = _without_paths(network.experiment)
    record = to_dict(experiment)
    if own_objects(record) and experiment.code is None:
        raise InputError(
            "the experiment was made in Python, not by a configuration file: no folder can hold "
            "the code of its objects"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            new = Path(made) / folder.name
            new.mkdir()
            _fill(new, network, experiment, record)
            card = model_card(network, name or folder.name)
            (new / "README.md").write_text(card, encoding="utf-8")
            new.replace(folder)  # takes the place of an empty folder
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from None


def _fill(folder: Path, network: Network, experiment: Experiment, record: dict[str, Any]) -> None:
    leaves = flatten_dict(dict(network.variables), sep="/")
    write_safetensors(folder / WEIGHTS, {name: np.asarray(x) for name, x in leaves.items()})
    description = {
        "classes": list(network.classes),
        "palette": [list(colour) for colour in network.palette],
        "mirrored": network.mirrored and list(network.mirrored),
        "step": network.step,
        "versions": versions(),
        "sha256": _digest(folder / WEIGHTS),
    }
    config = {**record, "code": code_record(experiment), "network": description}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    for name, content in ({} if experiment.code is None else sources(experiment.code)).items():
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_bytes(content)


def _without_paths(experiment: Experiment) -> Experiment:
    finish = experiment.evaluation.finish
    run = getattr(finish, "run", None)  # SegFix reads another network
    if run is not None:
        raise InputError(
            f"evaluation.finish is {type(finish).__name__} with the run {run}, which the folder "
            "would not hold: load the network with evaluation={'finish': None}"
        )
    data = dataclasses.replace(experiment.data, dir=None)
    return dataclasses.replace(experiment, data=data, init_from=None, init_without=())


def read_description(folder: str | Path) -> dict[str, Any]:
    """What `config.json` says of the network, and as `experiment` what it says of that.

    Raises: InputError if it is damaged.
    """
    file = Path(folder) / CONFIG
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        found = values.pop("network")
        whole = found.keys() >= _KEYS and len(found["classes"]) == len(found["palette"])
    except FileNotFoundError:
        raise InputError(f"{folder} holds {WEIGHTS} and no {CONFIG}") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{file} says nothing of a network: it is damaged, or not of sdnjax")
    return {**found, "experiment": values}


def read_variables(folder: str | Path, description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Path → leaf, after the digest of the file.

    Raises: InputError if it is not the file that was written.
    """
    file = Path(folder) / WEIGHTS
    if _digest(file) != description["sha256"]:
        raise InputError(f"{file} is not the file that {CONFIG} was written with: fetch it again")
    return {name: np.asarray(lazy) for name, lazy in read_safetensors(file).items()}


def variables_like(
    abstract: Mapping[str, Any], leaves: Mapping[str, np.ndarray], where: str | Path
) -> dict[str, Any]:
    """The tree of `abstract` (shapes and types) with the leaves in it, on the first device.

    Raises: InputError that names a leaf which is missing, left over, or does not fit.
    """
    wanted = flatten_dict(dict(abstract), sep="/")
    shapes = {name: x.shape for name, x in wanted.items()}
    found = {name: x.shape for name, x in leaves.items()}
    wrong = sorted(k for k in shapes.keys() | found if shapes.get(k) != found.get(k))
    if wrong:
        k = wrong[0]
        raise InputError(
            f"{where} does not fit the network: {k} is {found.get(k, 'missing')} there and "
            f"{shapes.get(k, 'missing')} in the network ({len(wrong)} tensor(s) differ)"
        )
    device = jax.local_devices()[0]
    paths = jax.tree_util.tree_leaves_with_path(dict(abstract))
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    placed = [jax.device_put(leaves[k].astype(wanted[k].dtype), device) for k in names]
    return jax.tree.unflatten(jax.tree.structure(dict(abstract)), placed)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
