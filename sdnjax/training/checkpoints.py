"""Checkpoints: Orbax trees of a step, described and sealed by one JSON file.

`checkpoints/STEP/` holds the items `params`, `batch_stats` and `training` (step and
optimizer state), so that inference loads the first two alone, and `sdnjax.json`: the
experiment, class names, colours, versions, and the size and SHA-256 of every file (see `seal`).
That file is written as soon as the others are there, before older steps are deleted: a step
without it was never finished and counts as absent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from orbax.checkpoint import v1 as ocp

from sdnjax.errors import InputError, RunError
from sdnjax.files import write_atomically
from sdnjax.models.old_layout import old_leaves
from sdnjax.places import in_bucket, place, remove, upload
from sdnjax.training.copies import WrittenApart, local_copy, on_host, temporary_folder
from sdnjax.training.failed_saves import FailedSaves
from sdnjax.training.seal import SEAL, DamagedCheckpoint, read_seal, verify, write_seal
from sdnjax.training.state import TrainState


class CheckpointWriter:
    """Saves train states under one directory in the background, keeping the latest few.

    Whenever the process ends, the last state that was written to its end is there.
    """

    def __init__(self, directory: str | Path, keep: int, description: dict[str, Any]):
        """`description` is JSON that travels with each checkpoint; see `describe`."""
        self._directory = place(directory)
        # In a bucket only copies are put, see `copies`; of several processes by the first alone.
        self._remote = in_bucket(self._directory)
        self._apart = self._remote and jax.process_count() > 1
        self._folder = temporary_folder() if self._remote else self._directory
        self._keep, self._description = keep, description
        # Orbax would delete older steps before the new one is sealed.
        policy = ocp.training.preservation_policies.PreserveAll()
        self._checkpointer = None
        if not self._apart:
            self._checkpointer = ocp.training.Checkpointer(
                self._folder.absolute(), preservation_policy=policy, cleanup_tmp_directories=True
            )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sdnjax-checkpoint")
        self._pending: tuple[int, Future[None]] | None = None
        self._failed = False
        self._errors = FailedSaves() if jax.process_count() > 1 else None

    def save(self, state: TrainState) -> None:
        """Starts to save; the arrays are copied before it returns, the writing goes on."""
        self.wait()
        step = int(state.step)
        items = _items_of(state)
        items = {k: v for k, v in items.items() if jax.tree.leaves(v)}  # Orbax refuses empty ones
        if self._apart:
            items = on_host(items)
            if jax.process_index() > 0:
                return
        response: Any
        try:
            if self._checkpointer is None:
                response = WrittenApart(self._folder / str(step), items)
            else:
                response = self._checkpointer.save_checkpointables_async(
                    step, items, force=True, overwrite=step in _step_folders(self._folder)
                )
        except Exception as error:
            raise self._failure(step, error) from error
        self._pending = (step, self._thread.submit(self._finish, step, response))

    def wait(self) -> None:
        """Waits until the pending save is finished."""
        if self._pending is None:
            return
        step, written = self._pending
        try:
            # Interrupted, it can be waited for again.
            written.result() if self._errors is None else self._errors.result(written)
        except Exception as error:
            self._pending = None
            raise self._failure(step, error) from error
        self._pending = None

    def _finish(self, step: int, response: Any) -> None:
        """Seals what was written, then deletes what is no longer kept."""
        response.result()
        if jax.process_index() > 0:
            return
        write_seal(self._folder / str(step), self._description)
        if self._remote:
            upload(self._folder / str(step), self._directory / str(step), last=SEAL)
            shutil.rmtree(self._folder / str(step))
        finished = finished_steps(self._directory)
        for old in finished[: -self._keep]:
            if old != step:
                # The seal first: a deletion that is cut off leaves nothing that looks whole.
                (self._directory / str(old) / SEAL).unlink()
                with contextlib.suppress(OSError):
                    remove(self._directory / str(old))

    def check(self) -> None:
        """Raises the error of the pending save, if it has failed by now. Does not wait."""
        if self._pending is None:
            return
        if self._pending[1].done() or (self._errors is not None and self._errors.first):
            self.wait()

    def close(self) -> None:
        """Finishes what is pending."""
        try:
            self.wait()
        finally:
            self._release()

    def _release(self) -> None:
        if self._errors is not None:
            self._errors.close()
            if self._errors.first is not None:
                return  # Orbax waits for processes that wait for this one, which has to end first
        self._thread.shutdown()
        # Orbax raises the error of a failed save again; it has been reported.
        with contextlib.suppress(*([Exception] if self._failed else [])):
            if self._checkpointer is not None:
                self._checkpointer.close()
        if self._remote:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _failure(self, step: int, error: BaseException) -> RunError:
        self._failed = True
        good = [s for s in finished_steps(self._directory) if s != step]
        safe = f"step {good[-1]} is safe: resume from it" if good else "no earlier one was saved"
        return RunError(
            f"could not write checkpoint {self._directory / str(step)} ({_reason(error)}); {safe}"
        )


def finished_steps(directory: str | Path) -> list[int]:
    """Steps whose checkpoint was written to its end, in ascending order."""
    directory = place(directory)
    return [s for s in _step_folders(directory) if (directory / str(s) / SEAL).is_file()]


def find_checkpoint(directory: str | Path, step: int | None = None) -> Path:
    """The folder of `step`, or of the latest finished one."""
    directory = place(directory)
    steps = finished_steps(directory)
    if not steps:
        raise InputError(f"no finished checkpoint in {directory}: train first")
    if step is not None and step not in steps:
        listing = ", ".join(map(str, steps))
        raise InputError(f"no checkpoint of step {step} in {directory}: it has {listing}")
    return directory / str(steps[-1] if step is None else step)


def describe(path: str | Path) -> dict[str, Any]:
    """What the checkpoint says of itself: `experiment`, `classes`, `palette`, `versions`."""
    return read_seal(place(path))["description"]


def abstract_variables(path: Path) -> dict[str, Any]:
    """Shapes and types of the network's variables that a checkpoint holds."""
    kinds = ("params", "batch_stats")
    with local_copy(path, kinds) as here:
        metadata = ocp.checkpointables_metadata(here.absolute()).metadata
    found = {name: metadata[name] for name in kinds if name in metadata}
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
    path = place(path)
    with local_copy(path, tuple(abstract)) as here:
        return _load_local(here, path, abstract)


def _load_local(path: Path, named: Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """The items in the folder `path`, which is `named` or a copy of it."""
    try:
        verify(path, tuple(abstract))
    except DamagedCheckpoint as error:
        others = [s for s in finished_steps(named.parent) if str(s) != path.name]
        advice = f"delete {path} to go on from step {others[-1]}" if others else "train anew"
        raise DamagedCheckpoint(f"{error}; {advice}") from None
    moved = _moved_since(path, abstract["params"]) if "params" in abstract else {}
    there = _rename(abstract, moved)
    _check_shapes(path, {k: v for k, v in there.items() if k != "training"})
    full = {k: v for k, v in there.items() if jax.tree.leaves(v)}
    loaded = {**there, **ocp.load_checkpointables(path.absolute(), full)}
    return _rename(loaded, {old: new for new, old in moved.items()})


def restore_state(path: str | Path, abstract: TrainState) -> TrainState:
    """The train state of a checkpoint, onto the shardings of `abstract`."""
    items = load_items(path, _items_of(abstract))
    rest = items.pop("training")
    if abstract.average is not None:
        items = {**items, "average": items["params"], "params": rest.pop("params")}
    return TrainState(**items, **rest)


def restore_latest(
    directory: str | Path,
    abstract: TrainState,
    *,
    report: Callable[[str], None],
    check: Callable[[dict[str, Any]], None] = lambda description: None,
) -> TrainState:
    """The state of the latest finished checkpoint that is whole.

    One that is damaged is reported, renamed to `STEP.damaged` (in a bucket its seal is), out of the
    way of the run that comes to that step again, and the one before it is taken.

    Args:
      check: is given what the checkpoint says of itself; may raise.

    Raises: DamagedCheckpoint, of the latest, if none is whole.
    """
    directory, first = place(directory), None
    for step in reversed(finished_steps(directory)):
        path = directory / str(step)
        try:
            check(describe(path))
            state = restore_state(path, abstract)
        except DamagedCheckpoint as error:
            first = first or error
            report(f"WARNING: {str(error).rsplit('; ', 1)[0]}: trying the one before it")
            continue
        if jax.process_index() == 0:
            for later in finished_steps(directory):
                if later > step:
                    _set_aside(directory / str(later))
        return state
    raise first or InputError(f"no finished checkpoint in {directory}: train first")


def _set_aside(path: Path) -> None:
    if in_bucket(path):  # where a name costs a copy; without its seal it counts no more
        write_atomically(path / f"{SEAL}.damaged", (path / SEAL).read_bytes())
        (path / SEAL).unlink()
        return
    target = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(target, ignore_errors=True)
    path.rename(target)


def _items_of(state: TrainState) -> dict[str, Any]:
    """The items of a checkpoint: what inference loads, and the rest of the state by field.

    Where there is an average of the parameters, inference loads that.
    """
    rest = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    del rest["batch_stats"], rest["average"]
    if state.average is None:
        del rest["params"]
    return {**state.variables, "training": rest}


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
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdecimal() and p.is_dir())


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


def _reason(error: BaseException) -> str:
    """The first line that says something, from the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
