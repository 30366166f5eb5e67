"""Checkpoints: Orbax trees of a step, described and sealed by one JSON file.

`checkpoints/STEP/` holds the items `params`, `batch_stats` and `training` (step and
optimizer state), so that inference loads the first two alone, and `sdnjax.json`: the
experiment, class names, colours, versions, and the size and SHA-256 of every file. That
file is written last: a step without it was never finished and counts as absent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from orbax.checkpoint import v1 as ocp

from sdnjax.errors import InputError, RunError
from sdnjax.files import write_atomically
from sdnjax.models.old_layout import old_leaves
from sdnjax.training.state import TrainState

SEAL = "sdnjax.json"


class CheckpointWriter:
    """Saves train states under one directory in the background, keeping the latest few."""

    def __init__(self, directory: str | Path, keep: int, description: dict[str, Any]):
        """`description` is JSON that travels with each checkpoint; see `describe`."""
        self._directory = directory = Path(directory)
        self._description = description
        policy = ocp.training.preservation_policies.LatestN(keep)
        self._checkpointer = ocp.training.Checkpointer(
            directory.absolute(), preservation_policy=policy, cleanup_tmp_directories=True
        )
        self._pending: tuple[int, Any] | None = None
        self._failed = False

    def save(self, state: TrainState) -> None:
        """Starts to save; the arrays are copied before it returns, the writing goes on."""
        self.wait()
        step = int(state.step)
        items = _items_of(state)
        items = {k: v for k, v in items.items() if jax.tree.leaves(v)}  # Orbax refuses empty ones
        try:
            response = self._checkpointer.save_checkpointables_async(
                step, items, force=True, overwrite=step in _step_folders(self._directory)
            )
        except Exception as error:
            raise self._failure(step, error) from error
        self._pending = (step, response)

    def wait(self) -> None:
        """Waits for the pending save and seals it."""
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        try:
            response.result()
            if jax.process_index() == 0:
                _seal(self._directory / str(step), self._description)
        except Exception as error:
            raise self._failure(step, error) from error

    def close(self) -> None:
        """Finishes what is pending."""
        try:
            self.wait()
        finally:
            # Orbax raises the error of a failed save again; it has been reported.
            with contextlib.suppress(*([Exception] if self._failed else [])):
                self._checkpointer.close()

    def _failure(self, step: int, error: BaseException) -> RunError:
        self._failed = True
        good = [s for s in finished_steps(self._directory) if s != step]
        safe = f"step {good[-1]} is safe: resume from it" if good else "no earlier one was saved"
        return RunError(
            f"could not write checkpoint {self._directory / str(step)} ({_reason(error)}); {safe}"
        )


def finished_steps(directory: str | Path) -> list[int]:
    """Steps whose checkpoint was written to its end, in ascending order."""
    directory = Path(directory)
    return [s for s in _step_folders(directory) if (directory / str(s) / SEAL).is_file()]


def find_checkpoint(directory: str | Path, step: int | None = None) -> Path:
    """The folder of `step`, or of the latest finished one."""
    directory = Path(directory)
    steps = finished_steps(directory)
    if not steps:
        raise InputError(f"no finished checkpoint in {directory}: train first")
    if step is not None and step not in steps:
        listing = ", ".join(map(str, steps))
        raise InputError(f"no checkpoint of step {step} in {directory}: it has {listing}")
    return directory / str(steps[-1] if step is None else step)


def describe(path: str | Path) -> dict[str, Any]:
    """What the checkpoint says of itself: `experiment`, `classes`, `palette`, `versions`."""
    return _read_seal(Path(path))["description"]


def abstract_variables(path: Path) -> dict[str, Any]:
    """Shapes and types of the network's variables that a checkpoint holds."""
    metadata = ocp.checkpointables_metadata(path.absolute()).metadata
    found = {name: metadata[name] for name in ("params", "batch_stats") if name in metadata}
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
        found,
        is_leaf=lambda x: hasattr(x, "shape"),
    )


def load_items(path: str | Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """Loads the items that `abstract` names, after checking their files' digests.

    Args:
      path: a checkpoint's folder.
      abstract: item name → tree of `jax.ShapeDtypeStruct` with the shardings to restore
        to, which need not be those that the checkpoint was saved with.

    Raises:
      InputError: a file is missing, cut short or changed, or a shape does not fit.
    """
    path = Path(path)
    _verify(path, tuple(abstract))
    moved = _moved_since(path, abstract["params"]) if "params" in abstract else {}
    there = _rename(abstract, moved)
    _check_shapes(path, {k: v for k, v in there.items() if k != "training"})
    full = {k: v for k, v in there.items() if jax.tree.leaves(v)}
    loaded = {**there, **ocp.load_checkpointables(path.absolute(), full)}
    return _rename(loaded, {old: new for new, old in moved.items()})


def restore_state(path: str | Path, abstract: TrainState) -> TrainState:
    """The train state of a checkpoint, onto the shardings of `abstract`."""
    items = load_items(path, _items_of(abstract))
    return TrainState(**{**items.pop("training"), **items})


def _items_of(state: TrainState) -> dict[str, Any]:
    """The items of a checkpoint: what inference loads, and the rest of the state by field."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    items = {name: fields.pop(name) for name in state.variables}
    return {**items, "training": fields}


def _moved_since(path: Path, params: Any) -> dict[str, str]:
    """Of parameters that lie elsewhere in an older checkpoint: path here → path there."""
    metadata = ocp.checkpointables_metadata(path.absolute()).metadata
    saved, here = _paths(metadata["params"]), _paths(params)
    try:
        found = old_leaves(saved, here)
    except InputError:  # another network; comparing shapes will say so
        return {}
    return found if any(new != old for new, old in found.items()) else {}


def _rename(tree: Any, names: dict[str, str]) -> Any:
    """`tree` with the leaves of parameters, and of what has their structure, under other names.

    An optimizer's state holds trees like that of the parameters.
    """

    def is_like_params(node: Any) -> bool:
        return isinstance(node, dict) and _paths(node) == names.keys()

    def rename(node: Any) -> Any:
        if not is_like_params(node):
            return node
        flat = flatten_dict(node, sep="/")
        return unflatten_dict({names[path]: leaf for path, leaf in flat.items()}, sep="/")

    return jax.tree.map(rename, tree, is_leaf=is_like_params) if names else tree


def _paths(tree: Any) -> set[str]:
    return set(flatten_dict(tree, sep="/"))


def _step_folders(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(p.name) for p in directory.iterdir() if p.is_dir() and p.name.isdecimal())


def _seal(path: Path, description: dict[str, Any]) -> None:
    files = {
        str(p.relative_to(path)): {"bytes": p.stat().st_size, "sha256": _digest(p)}
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != SEAL
    }
    text = json.dumps({"description": description, "files": files}, indent=1)
    write_atomically(path / SEAL, text)


def _read_seal(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / SEAL).read_text())
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} has no {SEAL}: it was never finished") from None
    except ValueError:
        raise InputError(f"checkpoint {path}: {SEAL} is damaged: use another step") from None


def _verify(path: Path, items: tuple[str, ...]) -> None:
    for name, expected in _read_seal(path)["files"].items():
        if "/" in name and name.split("/")[0] not in items:
            continue
        file = path / name
        size = file.stat().st_size if file.is_file() else None
        if size == expected["bytes"] and _digest(file) == expected["sha256"]:
            continue
        found = "is missing" if size is None else f"has {size} of {expected['bytes']} bytes"
        if size == expected["bytes"]:
            found = "has changed since it was written"
        others = [s for s in finished_steps(path.parent) if str(s) != path.name]
        advice = f"delete {path} to go on from step {others[-1]}" if others else "train anew"
        raise InputError(f"checkpoint {path} is damaged: {name} {found}; {advice}")


def _check_shapes(path: Path, abstract: dict[str, Any]) -> None:
    """The tensors of the network and of the file, by name."""

    def named(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
        return {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}

    metadata = ocp.checkpointables_metadata(path.absolute()).metadata
    wanted, saved = named(abstract), named({k: metadata[k] for k in abstract if k in metadata})
    wrong = sorted(k for k in wanted.keys() | saved if wanted.get(k) != saved.get(k))
    if wrong:
        k = wrong[0]
        raise InputError(
            f"checkpoint {path} does not fit the network: {k} is {saved.get(k, 'missing')} there "
            f"and {wanted.get(k, 'missing')} in the network ({len(wrong)} tensor(s) differ)"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException) -> str:
    """The first line that says something, from the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
